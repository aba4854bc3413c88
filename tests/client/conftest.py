"""The servers that the client is tried with, as real processes: ours, and Cloudflare's of both generations."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from tests.archive.wrangler import Wrangler
from tests.conformance import node_packages
from tests.conformance.proxy import TcpProxy
from tests.conformance.servers import ServerProcess

__all__ = ["make_proxy"]

_PACKAGE_SETS = {"ws": "v0.4", "http": "v0.4", "v3": "v0.3"}


@attrs.frozen
class Place:
    """Where a store is, and how to talk of it."""

    url: str
    protocol: str
    store_id: str


@pytest.fixture(scope="session")
def livesync(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of our server."""
    directory = tmp_path_factory.mktemp("livesync")
    server = ServerProcess(directory, f"sqlite:///{directory}/livesync.db")
    server.start()
    yield server.url
    server.stop_if_ours()


@pytest.fixture(scope="session")
def references(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """URLs of Cloudflare's servers, by package set. Without Node: skipped; under ``CI=true`` a failure."""
    missing = node_packages.missing_programs()
    if missing:
        reason = f"{' and '.join(missing)} not found: the client was not tried with Cloudflare's servers"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    for package_set in ("v0.3", "v0.4", "cloudflare"):
        node_packages.install(package_set)
    servers = {name: Wrangler(tmp_path_factory.mktemp(name), name) for name in ("v0.3", "v0.4")}
    with contextlib.ExitStack() as at_the_end:
        for server in servers.values():
            server.start()
            at_the_end.callback(server.stop)
        for server in servers.values():
            server.wait()
        yield {name: server.url for name, server in servers.items()}


@pytest.fixture(params=["livesync", "reference"])
def server_of(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Gives the URL of a server that speaks a protocol."""
    if request.param == "livesync":
        ours: str = request.getfixturevalue("livesync")
        return lambda protocol: ours
    references: dict[str, str] = request.getfixturevalue("references")
    return lambda protocol: references[_PACKAGE_SETS[protocol]]


@pytest.fixture(params=["ws", "http", "v3"])
def place(request: pytest.FixtureRequest, server_of: Callable[[str], str]) -> Place:
    """A new store on each server, in each protocol."""
    return Place(server_of(request.param), request.param, f"client/ö & {uuid.uuid4().hex[:8]}")


@pytest.fixture
def make_proxy() -> Iterator[Callable[[str], TcpProxy]]:
    """Bad networks in front of a server's URL."""
    with contextlib.ExitStack() as at_the_end:

        def make(url: str) -> TcpProxy:
            proxy = TcpProxy(int(url.rpartition(":")[2]))
            at_the_end.callback(proxy.close)
            return proxy

        yield make


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of ours that a test may kill."""
    server = ServerProcess(tmp_path, f"sqlite:///{tmp_path}/livesync.db")
    server.start()
    yield server
    server.stop_if_ours()
