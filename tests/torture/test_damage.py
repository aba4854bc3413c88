"""What flipped bits have found (`disk.flip_bits`): each case once more, without chance."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from livesync_trio.errors import StartupError, StoreDamaged
from livesync_trio.storage.sqlite.engine import SqliteEngine
from tests.storage.making import Database, run_of


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(lambda: SqliteEngine(tmp_path / "live.db"))
    yield database
    database.stop()


def change(directory: Path, statement: str) -> None:
    """What a disk may do to a value."""
    with closing(sqlite3.connect(directory / "live.db", isolation_level=None)) as connection:
        assert connection.execute(statement).rowcount > 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE livesync_7_events SET size_bytes = size_bytes + 1 WHERE seq_num = 7",
        "UPDATE livesync_7_events SET size_bytes = 'x' WHERE seq_num = 7",
        "UPDATE livesync_7_events SET created_at = CAST(x'32ff' AS TEXT) WHERE seq_num = 7",
        "UPDATE livesync_7_events SET event = event || ' ' WHERE seq_num = 7",
    ],
)
def test_what_does_not_fit_its_event_is_refused_not_served_shifted(
    database: Database, tmp_path: Path, statement: str
) -> None:
    state = database.filled("bad", run_of(20))
    change(tmp_path, statement)
    with pytest.raises(StoreDamaged, match="damaged"):
        database.read(state)
    assert database.numbers(state, up_to=6) == [1, 2, 3, 4, 5, 6]


def test_a_hole_right_behind_the_cursor_is_not_served(database: Database, tmp_path: Path) -> None:
    """As between two pages: each is whole, and what stood between them is gone."""
    state = database.filled("bad", run_of(20))
    change(tmp_path, "DELETE FROM livesync_7_events WHERE seq_num = 11")
    with pytest.raises(StoreDamaged, match="behind e10 begins after e11"):
        database.read(state, after=10)
    assert database.numbers(state, after=11) == list(range(12, 21))


def test_a_schema_that_is_no_text_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "live.db"
    database = Database(lambda: SqliteEngine(path))
    database.filled("s", run_of(3))
    database.stop()
    content = path.read_bytes()
    assert b"CREATE TABLE livesync_7_stores" in content  # twice, when a migration has written it anew
    path.write_bytes(content.replace(b"CREATE TABLE livesync_7_stores", b"CREATE \xffABLE livesync_7_stores"))
    with pytest.raises(StartupError, match=r"cannot be used: .*\.$"):
        SqliteEngine(path).open()
