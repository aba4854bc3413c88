"""Servers of PostgreSQL that a test may mistreat."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Callable, Iterator

import pytest

from tests.conformance.proxy import TcpProxy
from tests.postgres.server import URL_VARIABLE, PostgresServer, fresh_schema, new_cluster

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def private_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of this module's own."""
    if URL_VARIABLE in os.environ:
        pytest.skip(f"{URL_VARIABLE}: this PostgreSQL is not ours to stop")
    server = new_cluster(f"private-{next(_numbers)}")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def database(private_server: PostgresServer) -> Iterator[str]:
    """Name of a new database on the private server, which runs whatever the test before did to it."""
    if not private_server.running:
        private_server.forget_settings()
        private_server.start()
    name = f"d{secrets.token_hex(4)}"
    private_server.run(f"CREATE DATABASE {name}")
    yield name
    if private_server.running:
        private_server.run("ALTER SYSTEM RESET ALL")
        private_server.run("SELECT pg_reload_conf()")


@pytest.fixture
def make_proxy() -> Iterator[Callable[[int], TcpProxy]]:
    """Proxies in front of a port."""
    made: list[TcpProxy] = []

    def make(port: int) -> TcpProxy:
        made.append(TcpProxy(port))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture
def shared_database() -> str:
    """URL of an empty schema on the shared server."""
    return fresh_schema(f"test {next(_numbers)} of {os.getpid()}")
