"""Fixtures: servers, driver processes, clients; and the server's log beside every failure."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.postgres.server import fresh_schema

from . import node_packages
from .clients import Generation, SyncClient
from .node_driver import NodeDriver
from .proxy import TcpProxy
from .servers import COMMAND_VARIABLE, URL_VARIABLE, RunningServer, ServerProcess

_NOT_RUN = pytest.StashKey[str]()
_STARTED = pytest.StashKey[list[RunningServer | NodeDriver]]()


@pytest.fixture(scope="session")
def node_packages_ready(pytestconfig: pytest.Config) -> None:
    """Node and the packages of the real clients. Without Node: skipped, said loudly; under ``CI=true`` a failure."""
    missing = node_packages.missing_programs()
    if missing:
        reason = f"CONFORMANCE NOT RUN: {' and '.join(missing)} not found, so no real client was tested"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytestconfig.stash[_NOT_RUN] = reason
        pytest.skip(reason)
    for package_set in node_packages.PACKAGE_SETS:
        node_packages.install(package_set)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The one loud line about tests that were not run."""
    if _NOT_RUN in config.stash:
        terminalreporter.write_line(config.stash[_NOT_RUN], red=True, bold=True)


ENGINES: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda directory: f"sqlite:///{directory}/livesync.db",
    "postgresql": lambda directory: fresh_schema(str(directory)),
}
"""By name: the URL of a new, empty database, given a directory."""

_ON_EVERY_ENGINE = (
    "test_pull_and_push",
    "test_refusals",
    "test_arguments",
    "test_generations_together",
)
"""Where the engine may show. The other modules are about sockets, tokens and hooks, and run on SQLite only, unless
``LIVESYNC_CONFORMANCE_ENGINES=all``."""


@pytest.fixture(scope="session", params=ENGINES)
def database_url_in(request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """Makes the URL of a new, empty database, given a directory: one parameter per storage engine."""
    return ENGINES[request.param]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what would only repeat itself on another engine, or on a server whose engine is not ours to choose."""
    foreign = URL_VARIABLE in os.environ or COMMAND_VARIABLE in os.environ
    everywhere = os.environ.get("LIVESYNC_CONFORMANCE_ENGINES") == "all"

    def repeats(item: pytest.Item) -> bool:
        parameters = getattr(item, "callspec", None)
        first = parameters is None or parameters.params.get("database_url_in", "sqlite") == "sqlite"
        return not first and (foreign or not (everywhere or item.path.stem in _ON_EVERY_ENGINE))

    config.hook.pytest_deselected(items=[item for item in items if repeats(item)])
    items[:] = [item for item in items if not repeats(item)]


class StartServer(Protocol):
    """Starts a server with settings in its environment (``AUTH_TOKEN="..."``)."""

    def __call__(self, **settings: str) -> ServerProcess: ...


def _start(directory: Path, database_url_in: Callable[[Path], str], settings: dict[str, str]) -> ServerProcess:
    if URL_VARIABLE in os.environ:
        pytest.skip(f"{URL_VARIABLE}: this server cannot be restarted or configured")
    if COMMAND_VARIABLE in os.environ and settings:
        pytest.skip(f"{COMMAND_VARIABLE}: this server cannot be configured")
    server = ServerProcess(directory, database_url_in(directory), settings)
    server.start()
    return server


@pytest.fixture
def start_server(
    request: pytest.FixtureRequest, tmp_path: Path, database_url_in: Callable[[Path], str]
) -> Iterator[StartServer]:
    """Servers of this test's own, which it may stop, kill and restart."""
    shown = request.node.stash.setdefault(_STARTED, [])

    with contextlib.ExitStack() as at_the_end:

        def start(**settings: str) -> ServerProcess:
            directory = tmp_path / f"server-{len(shown)}"
            directory.mkdir()
            server = _start(directory, database_url_in, settings)
            at_the_end.callback(server.stop_if_ours)
            shown.append(server)
            return server

        yield start


@pytest.fixture(scope="session")
def start_shared_server(
    tmp_path_factory: pytest.TempPathFactory, database_url_in: Callable[[Path], str]
) -> Iterator[StartServer]:
    """Servers that live until the end of the session; every test has a store of its own on them."""
    with contextlib.ExitStack() as at_the_end:

        def start(**settings: str) -> ServerProcess:
            server = _start(tmp_path_factory.mktemp("server"), database_url_in, settings)
            at_the_end.callback(server.stop_if_ours)
            return server

        yield start


@pytest.fixture(scope="session")
def shared_server(start_shared_server: StartServer) -> RunningServer:
    """The server of all tests that neither stop nor configure it."""
    running = os.environ.get(URL_VARIABLE)
    return start_shared_server() if running is None else RunningServer(running)


@pytest.fixture(scope="session")
def hooked_server(start_shared_server: StartServer) -> RunningServer:
    """A server with the hooks of ``hooks.py``."""
    return start_shared_server(LIVESYNC_HOOKS=str(Path(__file__).with_name("hooks.py")))


@pytest.fixture(scope="session")
def drivers(node_packages_ready: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, NodeDriver]]:
    """One driver process per package set of sync clients, for the whole session."""
    directory = tmp_path_factory.mktemp("drivers")
    running = {name: NodeDriver(name, directory / f"{name}.log") for name in ("v0.3", "v0.4")}
    yield running
    for driver in running.values():
        driver.close()


class MakeClient(Protocol):
    """Opens a real client: of a generation, to a URL, for a store; ``spec`` as in ``SyncClient``."""

    def __call__(self, generation: Generation, url: str, store_id: str, **spec: Any) -> SyncClient: ...


@pytest.fixture
def make_client(drivers: dict[str, NodeDriver]) -> Iterator[MakeClient]:
    """Clients that are closed at the end of the test."""
    opened: list[SyncClient] = []

    def make(generation: Generation, url: str, store_id: str, **spec: Any) -> SyncClient:
        client = SyncClient(drivers[generation.package_set], generation, url, store_id, **spec)
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.close()


@pytest.fixture(params=Generation, ids=lambda generation: generation.label)
def generation(request: pytest.FixtureRequest) -> Generation:
    """Every published client."""
    chosen: Generation = request.param
    return chosen


@pytest.fixture(params=[Generation.V04_WS, Generation.V04_HTTP], ids=lambda generation: generation.label)
def generation_04(request: pytest.FixtureRequest) -> Generation:
    """The clients of generation 0.4: what 0.3 does not have."""
    chosen: Generation = request.param
    return chosen


@pytest.fixture
def store_id(request: pytest.FixtureRequest) -> str:
    """A store nobody else uses, recognisable in the server's log."""
    test = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)
    return f"{test[:60]}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def client(make_client: MakeClient, generation: Generation, shared_server: RunningServer, store_id: str) -> SyncClient:
    """One client of each generation on the shared server."""
    return make_client(generation, shared_server.url, store_id)


@pytest.fixture
def make_proxy() -> Iterator[Callable[[int], TcpProxy]]:
    """Proxies in front of a server's port."""
    made: list[TcpProxy] = []

    def make(target_port: int) -> TcpProxy:
        proxy = TcpProxy(target_port)
        made.append(proxy)
        return proxy

    yield make
    for proxy in made:
        proxy.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the logs of the servers and drivers a failed test used into its report."""
    report = yield
    if report.failed:
        used: list[Any] = [*item.stash.get(_STARTED, []), *getattr(item, "funcargs", {}).values()]
        for value in used:
            for source in value.values() if isinstance(value, dict) else [value]:
                if isinstance(source, RunningServer | NodeDriver):
                    report.sections.append((f"log of {source.name}", source.log_tail()))
    return report
