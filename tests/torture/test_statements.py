"""kill -9 at each statement of a reset and of a migration (`statements.py`)."""

from __future__ import annotations

import itertools
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from livesync_trio.archive.rewriting import clear
from livesync_trio.archive.staging import STAGED, Target
from livesync_trio.model import LogState
from livesync_trio.storage.base import NO_RECORD, PutRecord
from livesync_trio.storage.postgresql.connection import Connector
from livesync_trio.storage.postgresql.engine import PostgresEngine
from livesync_trio.storage.postgresql.schema import migrate, pending
from livesync_trio.storage.sqlite import schema as sqlite_schema
from livesync_trio.storage.sqlite.engine import SqliteEngine
from tests.postgres.server import fresh_schema
from tests.storage.making import Database, event_json, run_of
from tests.torture.audit import read_logs
from tests.torture.statements import NAMED, NEWER, Killer

EVENTS = 5


@pytest.fixture
def killer() -> Iterator[Killer]:
    with Killer() as killer:
        yield killer


def test_a_reset_killed_at_any_statement_has_happened_or_has_not(tmp_path: Path, killer: Killer) -> None:
    made = tmp_path / "made.db"
    database = Database(lambda: SqliteEngine(made))
    for store in ("a", "b"):
        database.filled(store, *(run_of(1, after=number, args=b"%d" % number) for number in range(EVENTS)))
    database.stop()
    before = read_logs(made)
    for number in itertools.count(1):
        path = tmp_path / f"killed-at-{number}.db"
        shutil.copyfile(made, path)
        killed = killer.killed_at(number, "reset", path)
        after = read_logs(path)
        assert after["b"] == before["b"]
        if killed:
            assert after["a"] == before["a"]
        else:
            assert after["a"].event_count == 0
            assert after["a"].backend_id != before["a"].backend_id
            break
    assert number > 4


@pytest.mark.parametrize("act", ["delete", "freeze", "rename"])
def test_a_change_of_a_store_killed_at_any_statement_has_happened_or_has_not(
    tmp_path: Path, killer: Killer, act: str
) -> None:
    made = tmp_path / "made.db"
    database = Database(lambda: SqliteEngine(made))
    before, other = database.filled("a", run_of(EVENTS)), database.filled("b", run_of(EVENTS))
    database.stop()
    done = {
        "delete": {"b": other},
        "freeze": {"a": attrs.evolve(before, frozen=True), "b": other},
        "rename": {"b": other, "c": before},
    }
    for number in itertools.count(1):
        path = tmp_path / f"killed-at-{number}.db"
        shutil.copyfile(made, path)
        killed = killer.killed_at(number, act, path)
        database = Database(lambda path=path: SqliteEngine(path))  # type: ignore[misc]
        states = {str(one.store_id): one.state for one in database.reader.stores(None, 9)}
        events = [len(database.read(state)) for state in states.values()]
        database.stop()
        assert states == ({"a": before, "b": other} if killed else done[act])
        assert events == [EVENTS] * len(states)
        if not killed:
            break
    assert number > 3


def test_an_erasure_killed_at_any_statement_has_happened_or_has_not_and_leaves_nothing_in_the_end(
    tmp_path: Path, killer: Killer
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    database = Database(lambda: SqliteEngine(made / "live.db"))
    canary = b'"canary %b"' % (b"x" * 5_000)
    before = database.filled("a", run_of(EVENTS, args=canary))
    staged = database.filled(f"{STAGED}a", run_of(EVENTS, args=b'"gone"'))
    database.stop()
    after_kills = 0
    for number in itertools.count(1):
        directory = tmp_path / f"killed-at-{number}"
        shutil.copytree(made, directory)
        killed = killer.killed_at(number, "erase", directory / "live.db")
        database = Database(lambda path=directory / "live.db": SqliteEngine(path))  # type: ignore[misc]
        state = database.open("a")
        assert state in (before, staged)
        assert len(database.read(state)) == EVENTS
        if state == staged:
            after_kills += killed
            assert clear(Target(database.writer, database.reader), before)
            assert [file.name for file in directory.iterdir() if b"canary" in file.read_bytes()] == []
        database.stop()
        if not killed:
            break
    assert after_kills > 5


@pytest.mark.parametrize("act", ["reset", "delete", "freeze", "rename", "erase"])
def test_a_change_in_postgresql_killed_at_any_statement_has_happened_or_has_not(
    tmp_path: Path, killer: Killer, act: str
) -> None:
    """After each kill the next attempt finds a whole log and no lock in its way; `erase` is what `rewind` does, too."""
    url = fresh_schema(f"{tmp_path}")
    database = Database(lambda: PostgresEngine(url))
    before, other = database.filled("a", run_of(EVENTS)), database.filled("b", run_of(EVENTS))
    staged = database.filled(f"{STAGED}a", run_of(EVENTS, args=b'"gone"')) if act == "erase" else before
    kills = 0
    for number in itertools.count(1):
        killed = killer.killed_at(number, f"postgres-{act}", url)
        kills += killed
        found = {str(one.store_id): one.state for one in database.reader.stores(None, 9)}
        assert found.pop("b") == other
        for state in found.values():
            assert len(database.read(state)) == state.event_count
        unchanged = {"a": before, f"{STAGED}a": staged} if act == "erase" else {"a": before}
        if found == unchanged:
            assert killed
            continue
        if act == "reset":
            assert found["a"].event_count == 0
            assert found["a"].backend_id != before.backend_id
        else:
            changed = {"freeze": {"a": attrs.evolve(before, frozen=True)}, "rename": {"c": before}, "delete": {}}
            assert found == {**changed, "erase": {"a": staged}}[act]
        break
    assert kills > 0
    if act == "erase":
        assert clear(Target(database.writer, database.reader), before)
    database.stop()


def test_records_killed_at_any_statement_are_all_written_or_none(tmp_path: Path, killer: Killer) -> None:
    made = tmp_path / "made.db"
    database = Database(lambda: SqliteEngine(made))
    database.filled("a", run_of(EVENTS))
    for key in "ab":
        database.one(PutRecord("kind", key, b"1", NO_RECORD))
    database.stop()
    for number in itertools.count(1):
        path = tmp_path / f"killed-at-{number}.db"
        shutil.copyfile(made, path)
        killed = killer.killed_at(number, "records", path)
        database = Database(lambda path=path: SqliteEngine(path))  # type: ignore[misc]
        found = {record.key: record.value for record in database.reader.records("kind", None, 9)}
        head = database.open("a").head
        database.stop()
        if not killed:
            assert (found, head) == ({"a": b"2", "c": b"2"}, EVENTS + 1)
            break
        assert (found, head) == ({"a": b"1", "b": b"1"}, EVENTS)
    assert number > 5


def test_an_append_with_ids_killed_at_any_statement_has_happened_or_has_not(tmp_path: Path, killer: Killer) -> None:
    """Sent again afterwards, no id is given twice: those that are known are all there, or none is."""
    made = tmp_path / "made.db"
    database = Database(lambda: SqliteEngine(made))
    database.filled("a", run_of(EVENTS))
    database.stop()
    ids = [f"id {number}" for number in range(EVENTS + 1, EVENTS + NAMED + 1)]
    for number in itertools.count(1):
        path = tmp_path / f"killed-at-{number}.db"
        shutil.copyfile(made, path)
        killed = killer.killed_at(number, "append", path)
        database = Database(lambda path=path: SqliteEngine(path))  # type: ignore[misc]
        state = database.open("a")
        known = database.reader.numbers_of(state, ids)
        found = [event.append_id for event in database.read(state, limit_events=2 * NAMED, limit_bytes=10**9)]
        database.stop()
        everything = {one: at for at, one in enumerate(ids, EVENTS + 1)}
        assert known == ({} if killed else everything)
        assert found == [None] * EVENTS + sorted(known, key=known.__getitem__)
        if not killed:
            break
    assert number > 3


def file_of(path: Path, migrations: int) -> None:
    """A file as an older version left it, with a store of `EVENTS` events when there was a schema at all."""
    if not migrations:
        return
    announced = ", append_events" if migrations > 1 else ""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for migration in sqlite_schema.MIGRATIONS[:migrations]:
            sqlite_schema._apply(connection, migration)
        connection.execute("INSERT INTO livesync_7_stores (store_id, backend_id) VALUES ('a', 'identity')")
        for number in range(1, EVENTS + 1):
            text = event_json(number, number - 1)
            connection.execute(
                "INSERT INTO livesync_7_events"
                f" (log_id, seq_num, parent_seq_num, ordinal, size_bytes, created_at, event{announced})"
                f" VALUES (1, ?, ?, ?, ?, '2026-11-20T12:34:56.789Z', ?{', 1' if announced else ''})",
                (number, number - 1, number, len(text), text.decode()),
            )


@pytest.mark.parametrize("since", range(len(sqlite_schema.MIGRATIONS)))
def test_a_migration_killed_at_any_statement_is_finished_by_the_next_start(
    tmp_path: Path, killer: Killer, since: int
) -> None:
    for number in itertools.count(1):
        path = tmp_path / f"killed-at-{number}.db"
        file_of(path, since)
        killed = killer.killed_at(number, "migrate", path)
        database = Database(lambda path=path: SqliteEngine(path))  # type: ignore[misc]
        state = database.open("a")
        assert state.event_count == (EVENTS if since else 0)
        assert [event.json for event in database.read(state)] == [
            event_json(each, each - 1) for each in range(1, state.event_count + 1)
        ]
        assert database.append("a", state, run_of(2, after=state.head)).event_count == state.event_count + 2
        database.stop()
        if not killed:
            break
    assert number > 4


@pytest.mark.parametrize("new", [True, False], ids=["a new database", "an older one"])
def test_a_migration_of_postgresql_killed_at_any_statement_is_finished_by_the_next(
    tmp_path: Path, killer: Killer, dice: random.Random, new: bool
) -> None:
    """Of the many statements that make a new database, every third."""
    for number in itertools.count(dice.randint(1, 3), 3) if new else itertools.count(1):
        url = fresh_schema(f"{tmp_path} {number}")
        state: LogState | None = None
        if not new:
            before = Database(lambda url=url: PostgresEngine(url))  # type: ignore[misc]
            state = before.filled("a", run_of(EVENTS))
            before.stop()
        killed = killer.killed_at(number, "migrate-postgres", url)
        with Connector(url).connect() as connection:
            migrate(connection, finish=True, migrations=NEWER)
            found = pending(connection, NEWER)
            assert (found.pre, found.post) == ((), ())
            if state is not None:
                kept = connection.execute("SELECT seq_num FROM livesync_7_events ORDER BY seq_num").fetchall()
                assert kept == [(each,) for each in range(1, EVENTS + 1)]
        if not killed:
            break
    assert number > 8
