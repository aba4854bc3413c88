"""What every engine promises of a log in which rows are missing: whoever reads past the hole is refused.

Memory is left out: the head of its log is that of its last event, and no row of it can be lost alone.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from livesync_trio.errors import StoreDamaged
from livesync_trio.model import LogState
from livesync_trio.storage.postgresql.connection import Connector
from tests.postgres.server import fresh_schema
from tests.storage.conftest import ENGINES
from tests.storage.making import Database, chain, run_of

LARGE = b'"%b"' % (b"x" * 1_000)


def _delete_from_sqlite(directory: Path, condition: str) -> None:
    with closing(sqlite3.connect(directory / "live.db", isolation_level=None)) as connection:
        assert connection.execute(f"DELETE FROM livesync_7_events WHERE {condition}").rowcount > 0


def _delete_from_postgres(url: str, condition: str) -> None:
    with Connector(url).connect() as connection:
        statement = f"DELETE FROM livesync_7_events WHERE {condition}"
        assert connection.execute(statement.encode()).rowcount > 0


Hole = Callable[[str], None]


@pytest.fixture(params=[name for name in ENGINES if name != "memory"])
def holed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Database, Hole]]:
    """An open database of each engine, and how an operator deletes events of it."""
    if request.param == "sqlite":
        database = Database(ENGINES["sqlite"](tmp_path))
        hole: Hole = lambda condition: _delete_from_sqlite(tmp_path, condition)  # noqa: E731
    else:
        url = fresh_schema(str(tmp_path))
        database = Database(ENGINES["postgresql"](tmp_path))
        hole = lambda condition: _delete_from_postgres(url, condition)  # noqa: E731
    yield database, hole
    database.stop()


def read_by_pages(database: Database, log: LogState, after: int, **limits: int) -> list[int]:
    """As a pull does: page by page up to the head, until there is no more."""
    numbers: list[int] = []
    while page := database.numbers(log, after, log.head, **limits):
        numbers += page
        after = numbers[-1]
    return numbers


WHERE = {
    "inside a page": "seq_num = 7",
    "the last of a page": "seq_num = 5",
    "the first of a page": "seq_num = 6",
    "both sides of a boundary": "seq_num IN (5, 6)",
    "a whole page": "seq_num BETWEEN 6 AND 10",
    "several pages": "seq_num BETWEEN 4 AND 17",
    "the first event": "seq_num = 1",
    "the first page": "seq_num <= 5",
    "the last event": "seq_num = 20",
    "the last page": "seq_num > 15",
    "all behind a page": "seq_num > 5",
    "everything": "true",
}


@pytest.mark.parametrize("limits", [{"limit_events": 5}, {"limit_bytes": 5_700}, {}], ids=["events", "bytes", "all"])
@pytest.mark.parametrize("condition", WHERE.values(), ids=WHERE)
def test_no_reader_gets_past_a_hole(holed: tuple[Database, Hole], condition: str, limits: dict[str, int]) -> None:
    database, hole = holed
    log = database.filled("s", run_of(20, args=LARGE))
    assert read_by_pages(database, log, 0, **limits) == list(range(1, 21))
    hole(condition)
    with pytest.raises(StoreDamaged, match="is damaged"):
        read_by_pages(database, log, 0, **limits)


@pytest.mark.parametrize("after", [7, 8, 15])
@pytest.mark.parametrize("limit_events", [1, 5, 1_000])
def test_behind_a_cursor(holed: tuple[Database, Hole], after: int, limit_events: int) -> None:
    """The client says 1000 and must not be told 1004 next; its cursor need not be an event."""
    database, hole = holed
    log = database.filled("s", chain(1, 7), chain(16, 18, 20, after=7))
    hole("seq_num = 16")
    with pytest.raises(StoreDamaged, match="behind"):
        database.read(log, after, limit_events=limit_events)
    assert database.numbers(log, 16) == [18, 20]
    assert database.numbers(log, 0, 7) == [1, 7]


@pytest.mark.parametrize("after", [18, 19])
def test_behind_a_cursor_at_the_end(holed: tuple[Database, Hole], after: int) -> None:
    database, hole = holed
    log = database.filled("s", chain(1, 7, 16, 18, 20))
    hole("seq_num = 20")
    with pytest.raises(StoreDamaged, match="head is recorded as e20"):
        database.read(log, after, log.head)
    assert database.numbers(log, 0, 18) == [1, 7, 16, 18]


@pytest.mark.parametrize(("after", "up_to"), [(0, 17), (7, 17), (8, 16), (15, 17)])
def test_before_the_end_of_a_range(holed: tuple[Database, Hole], after: int, up_to: int) -> None:
    database, hole = holed
    log = database.filled("s", chain(1, 7, 16, 18, 20))
    assert database.numbers(log, after, up_to)[-1] == 16
    hole("seq_num = 16")
    with pytest.raises(StoreDamaged):
        database.read(log, after, up_to)


def test_what_was_appended_after_the_range_is_no_hole(holed: tuple[Database, Hole]) -> None:
    database, _ = holed
    log = database.filled("s", run_of(3))
    database.append("s", log, chain(9, after=3))
    assert database.numbers(log, 3, 8) == []
    assert database.numbers(log, 0, 8) == [1, 2, 3]
