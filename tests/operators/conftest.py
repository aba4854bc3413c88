"""One server for the tests of a module, on each database in turn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres.server import fresh_schema

from .servers import OPENED, Server, serving


@pytest.fixture(autouse=True)
def _close_browsers() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server, at which one owner has signed in by the one-time link."""
    directory = tmp_path_factory.mktemp("server")
    url = {} if request.param == "sqlite" else {"DATABASE_URL": fresh_schema(str(directory))}
    with serving(directory, **url) as running:
        assert running.make_owner().status_code == 303
        yield running
