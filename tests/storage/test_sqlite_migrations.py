"""Databases of other formats and other schemas than this version's."""

from pathlib import Path

import pytest

from livesync_trio.storage import sqlite_schema
from livesync_trio.storage.sqlite import SqliteEngine
from tests.storage.making import Database, open_store
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
    assert formats == [(6,), (7,)]


@pytest.mark.parametrize("name", sorted(sqlite_schema.REQUIRED))
def test_a_database_with_something_missing_is_refused(tmp_path: Path, name: str) -> None:
    path = made(tmp_path / "live.db")
    change(path, f"DROP {'TRIGGER' if name.endswith('_head') else 'TABLE'} {name}")
    with unusable(f"{name}.* is missing"):
        SqliteEngine(path).open()


def test_a_database_without_its_record_of_migrations_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "live.db")
    change(path, "DELETE FROM livesync_migrations")
    with unusable("already exists"):
        SqliteEngine(path).open()


def test_migrations_are_numbered_without_gaps_and_applied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "live.db")
    assert [migration.number for migration in sqlite_schema.MIGRATIONS] == [1]
    second = sqlite_schema.Migration(2, "a second one", ("CREATE TABLE livesync_7_more (x)",))
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", (*sqlite_schema.MIGRATIONS, second))
    for _ in range(2):
        made_again = Database(lambda: SqliteEngine(path))
        assert made_again.commit(open_store("s"))
        made_again.stop()
    with raw(path) as connection:
        rows = connection.execute("SELECT format, number, purpose FROM livesync_migrations").fetchall()
    assert rows == [(7, 1, sqlite_schema.MIGRATIONS[0].purpose), (7, 2, "a second one")]


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "live.db")
    bad = sqlite_schema.Migration(2, "half", ("CREATE TABLE livesync_7_more (x)", "CREATE TABLE nonsense"))
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", (*sqlite_schema.MIGRATIONS, bad))
    with unusable("does not have the tables it should"):
        SqliteEngine(path).open()
    monkeypatch.undo()
    made_again = Database(lambda: SqliteEngine(path))
    assert made_again.numbers(made_again.open("s")) == [1, 2, 3]
    made_again.stop()
