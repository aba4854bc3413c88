"""The servers that the client is tried with, as real processes: ours, and Cloudflare's of both generations."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from scripts.benchmark import peers
from tests.archive.wrangler import Wrangler
from tests.conformance import node_packages
from tests.conformance.proxy import TcpProxy
from tests.conformance.servers import ServerProcess


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
def node() -> None:
    """What Cloudflare's servers need. Without Node: skipped; under ``CI=true`` a failure."""
    missing = node_packages.missing_programs()
    if missing:
        reason = f"{' and '.join(missing)} not found: the client was not tried with Cloudflare's servers"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def reference(node: None) -> Iterator[str]:
    """URL of Cloudflare's server of 0.4."""
    with peers.reference().running() as server:
        yield f"http://127.0.0.1:{server.address.port}"


@pytest.fixture(scope="session")
def old_reference(node: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of Cloudflare's server of 0.3."""
    for package_set in ("v0.3", "cloudflare"):
        node_packages.install(package_set)
    server = Wrangler(tmp_path_factory.mktemp("reference-0.3"), "v0.3")
    try:
        server.start()
        server.wait()
        yield server.url
    finally:
        server.stop()


@pytest.fixture(params=["livesync", "reference"])
def server_of(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Gives the URL of a server that speaks a protocol."""

    def url(protocol: str) -> str:
        old = request.param == "reference" and protocol == "v3"
        found: str = request.getfixturevalue("old_reference" if old else request.param)
        return found

    return url


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
