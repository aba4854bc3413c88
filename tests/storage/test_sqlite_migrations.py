"""Databases of other formats and other schemas than this version's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from livesync_trio.errors import StoreDamaged
from livesync_trio.storage.sqlite import schema as sqlite_schema
from livesync_trio.storage.sqlite.engine import SqliteEngine
from tests.storage.making import Database, chain, open_store, run_of, stored
from tests.storage.test_sqlite_file import made, raw, unusable


def change(path: Path, *statements: str) -> None:
    with raw(path) as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "live.db")
    change(path, "INSERT INTO livesync_migrations (format, number, purpose) VALUES (8, 1, 'future')")
    with unusable("it has format 8, this version knows formats up to 7: run the newer livesync"):
        SqliteEngine(path).open()


def test_a_newer_schema_of_this_format_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "live.db")
    change(path, "INSERT INTO livesync_migrations (format, number, purpose) VALUES (7, 99, 'future')")
    with unusable("its schema is number 99"):
        SqliteEngine(path).open()


def test_an_older_format_keeps_its_tables_beside_ours(tmp_path: Path) -> None:
    path = tmp_path / "live.db"
    change(
        path,
        sqlite_schema._MIGRATIONS_TABLE,
        "INSERT INTO livesync_migrations (format, number, purpose) VALUES (6, 1, 'past')",
        "CREATE TABLE livesync_6_events (event TEXT)",
    )
    made(path)
    with raw(path) as connection:
        formats = connection.execute("SELECT format FROM livesync_migrations ORDER BY format").fetchall()
    assert formats == [(6,), *[(7,)] * len(sqlite_schema.MIGRATIONS)]


@pytest.mark.parametrize("name", sorted(sqlite_schema.REQUIRED))
def test_a_database_with_something_missing_is_refused(tmp_path: Path, name: str) -> None:
    path = made(tmp_path / "live.db")
    kinds = {"livesync_7_append_continues_head": "TRIGGER", "livesync_7_append_ids": "INDEX"}
    kind = {**kinds, "livesync_7_frozen_stays": "TRIGGER"}.get(name, "TABLE")
    change(path, f"DROP {kind} {name}")
    with unusable(f"{name}.* is missing"):
        SqliteEngine(path).open()


def test_a_database_without_its_record_of_migrations_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "live.db")
    change(path, "DELETE FROM livesync_migrations")
    with unusable("already exists"):
        SqliteEngine(path).open()


def test_migrations_are_numbered_without_gaps_and_applied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "live.db")
    known = sqlite_schema.MIGRATIONS
    number = len(known) + 1
    assert [migration.number for migration in known] == list(range(1, number))
    another = sqlite_schema.Migration(number, "another one", ("CREATE TABLE livesync_7_more (x)",))
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", (*sqlite_schema.MIGRATIONS, another))
    for _ in range(2):
        made_again = Database(lambda: SqliteEngine(path))
        assert made_again.commit(open_store("s"))
        made_again.stop()
    with raw(path) as connection:
        rows = connection.execute("SELECT format, number, purpose FROM livesync_migrations").fetchall()
    assert rows == [*((7, each.number, each.purpose) for each in known), (7, number, "another one")]


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "live.db")
    bad = sqlite_schema.Migration(
        len(sqlite_schema.MIGRATIONS) + 1, "half", ("CREATE TABLE livesync_7_more (x)", "CREATE TABLE nonsense")
    )
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", (*sqlite_schema.MIGRATIONS, bad))
    with unusable("does not have the tables it should"):
        SqliteEngine(path).open()
    monkeypatch.undo()
    made_again = Database(lambda: SqliteEngine(path))
    assert made_again.numbers(made_again.open("s")) == [1, 2, 3]
    made_again.stop()


# --- what an older version left -----------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Database]:
    """A database written by the version before summaries and checksums, opened by this one."""
    with raw(tmp_path / "live.db") as connection:
        connection.executescript(Path(__file__).with_name("schema_1.sql").read_text())
    database = Database(lambda: SqliteEngine(tmp_path / "live.db"))
    yield database
    database.stop()


def test_an_older_database_is_migrated_and_served(old: Database) -> None:
    state = old.open("old")
    assert (state.head, state.event_count) == (7, 5)
    first = chain(1, 2, 5, args='"ä😀\\u0000"'.encode())
    second = run_of(2, after=5, args=b"[1.0,-0,1e400]")
    expected = stored([first, second])
    assert [event.json for event in old.read(state)] == [event.json for event in expected]
    assert [event.user for event in old.read(state)] == [None] * 5
    state = old.append("old", state, run_of(3, after=7))
    assert old.numbers(state) == [1, 2, 5, 6, 7, 8, 9, 10]
    old.restart()
    assert old.numbers(state, limit_bytes=150) == [1]
    assert old.writer.clear_replaced(100) == 3


def test_what_was_there_is_summed_up(old: Database) -> None:
    found = {str(each.store_id): each for each in old.reader.stores(None, 9)}
    assert list(found) == ["a b", "empty", "old", "replaced"]
    for name, each in found.items():
        events = old.read(old.open(name))
        assert each.text_bytes == sum(len(event.json) for event in events)
        assert each.last_push_at == (events[-1].created_at if events else None)
    assert found["old"].last_push_at == "2026-11-20T12:34:57.000Z"


def test_old_events_are_not_checked_and_new_ones_behind_them_are(old: Database, tmp_path: Path) -> None:
    state = old.append("old", old.open("old"), run_of(3, after=7))
    flip = "UPDATE livesync_7_events SET event = replace(event, 'todo', 'tode') WHERE log_id = 1 AND seq_num = "
    change(tmp_path / "live.db", f"{flip} 2")
    assert old.numbers(state) == [1, 2, 5, 6, 7, 8, 9, 10]
    change(tmp_path / "live.db", f"{flip} 9")
    with pytest.raises(StoreDamaged, match="between e1 and e10: e9 is not what was written"):
        old.read(state)
