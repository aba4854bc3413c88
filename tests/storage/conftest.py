"""The engines under test. To put another one through the whole suite, add its line to `ENGINES`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from livesync_trio.storage.base import Engine
from livesync_trio.storage.memory import MemoryEngine
from livesync_trio.storage.postgresql.engine import PostgresEngine
from livesync_trio.storage.sqlite.engine import SqliteEngine
from tests.postgres.server import fresh_schema
from tests.storage.making import Database


def _same(engine: Engine) -> Callable[[], Engine]:
    return lambda: engine


ENGINES: dict[str, Callable[[Path], Callable[[], Engine]]] = {
    "memory": lambda _: _same(MemoryEngine()),
    "sqlite": lambda directory: lambda: SqliteEngine(directory / "live.db"),
    "postgresql": lambda directory: lambda: PostgresEngine(fresh_schema(str(directory))),
}
"""By name: given an empty directory, how to make an engine on one and the same data again and again."""


@pytest.fixture(params=ENGINES)
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An open database of each engine in turn."""
    database = Database(ENGINES[request.param](tmp_path))
    yield database
    database.stop()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    """An open SQLite database, for what only SQLite promises."""
    database = Database(ENGINES["sqlite"](tmp_path))
    yield database
    database.stop()
