"""A PostgreSQL whose tables are followed, and readers of it."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest

from livesync_trio.feed.history.databases import Database, SqliteDatabase
from livesync_trio.feed.history.reading import Reader
from livesync_trio.feed.history.state import State
from livesync_trio.feed.reader import FeedReader, Status
from livesync_trio.feed.source import Names, connect, leave_mark
from livesync_trio.feed.storing import Retention
from tests.postgres.server import URL_VARIABLE, PostgresServer, new_cluster

DEADLINE_S = 60.0
_numbers = itertools.count(1)
LOGICAL = ("wal_level=logical", "max_wal_senders=10", "max_replication_slots=20")


@pytest.fixture(scope="session")
def source_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that can be followed; every test has a database of its own in it."""
    if URL_VARIABLE in os.environ:
        pytest.skip(f"{URL_VARIABLE}: this PostgreSQL is not ours to set up")
    server = new_cluster(f"source-{os.getpid()}")
    server.start(*LOGICAL)
    yield server
    server.stop()


@attrs.define(eq=False)
class SourceDatabase:
    """One database with tables to follow."""

    server: PostgresServer
    name: str

    @property
    def url(self) -> str:
        return self.server.url(database=self.name)

    def connect(self, **how: Any) -> psycopg.Connection[tuple[Any, ...]]:
        connection = psycopg.connect(self.url, autocommit=how.pop("autocommit", True), **how)
        connection.execute("SET TimeZone = 'UTC'") if connection.autocommit else None
        return connection

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        with self.connect() as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def current_lsn(self) -> int:
        [(lsn,)] = self.run("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
        return int(lsn)

    def names(self, *tables: str, polling: bool = False) -> Names:
        return Names(self.url, "livesync_feed", f"feed_{self.name}", tables, polling)


@contextlib.contextmanager
def new_source(server: PostgresServer) -> Iterator[SourceDatabase]:
    """A database that is gone, for the server's log at least, when this ends."""
    name = f"d{secrets.token_hex(4)}"
    server.run(f"CREATE DATABASE {name}")
    yield SourceDatabase(server, name)
    if server.running:
        drop_slots(server, name)


@pytest.fixture
def source(source_server: PostgresServer) -> Iterator[SourceDatabase]:
    with new_source(source_server) as made:
        yield made


def drop_slots(server: PostgresServer, name: str) -> None:
    """What a test left behind would keep the log of the server for ever."""
    deadline = time.monotonic() + DEADLINE_S
    while slots := server.run("SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = %s", name):
        for slot, pid in slots:
            if pid is None:
                server.run("SELECT pg_drop_replication_slot(%s)", slot)
            else:
                server.run("SELECT pg_terminate_backend(%s)", pid)
        assert time.monotonic() < deadline


class Following:
    """A reader that runs, its history, and waiting for what it does."""

    def __init__(
        self, source: SourceDatabase, database: Database, names: Names, retention: Retention | None = None
    ) -> None:
        self.source = source
        self.names = names
        self.history = Reader(database)
        self.statuses: list[Status] = []
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.states: list[State] = []
        self.reader = FeedReader(
            names,
            database,
            retention or Retention(3600, 10**12),
            on_state=self._on_state,
            on_status=self._on_status,
        )
        self.reader.start()

    def _on_state(self, state: State) -> None:
        self.states.append(state)
        self._news.put(None)

    def _on_status(self, status: Status) -> None:
        self.statuses.append(status)
        self._news.put(None)

    def wait(self, until: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not until():
            assert time.monotonic() < deadline, self.statuses[-3:]
            try:
                self._news.get(timeout=0.2)
            except queue.Empty:
                continue

    def wait_for_phase(self, phase: str) -> None:
        self.wait(lambda: self.statuses and self.statuses[-1].phase == phase)

    def barrier(self) -> State:
        """Everything that was committed before is stored."""
        self.wait_for_phase("following")
        with connect(self.source.url) as connection:
            lsn = leave_mark(connection)
        self.wait(lambda: self.history.state().confirmed_lsn >= lsn)
        return self.history.state()

    def rows(self, table: str) -> dict[str, tuple[str | None, ...]]:
        state = self.history.state()
        newest = {}
        after = ""
        while page := self.history.page(state.epoch, table, state.head_lsn, after, 500):
            columns = [column.name for column in state.tables[table].columns]
            for stored in page:
                relation = self.history.relation(stored.relation)
                known = dict(zip(relation.names, stored.row, strict=True))
                newest[stored.key] = tuple(known.get(name) for name in columns)
            after = page[-1].key
        return newest

    def expect_same(self, table: str) -> None:
        """The rows are those of the source, as it writes them itself."""
        with self.source.connect() as connection, connection.cursor().copy(f"COPY {table} TO STDOUT".encode()) as copy:
            theirs = sorted(map(repr, copy.rows()))
        assert sorted(map(repr, self.rows(table).values())) == theirs

    def close(self) -> None:
        self.reader.stop()
        assert self.reader.join(DEADLINE_S)
        self.history.close()


@pytest.fixture
def follow(source: SourceDatabase, tmp_path: Path) -> Iterator[Callable[..., Following]]:
    """Begins to follow tables of the source; with the same history each time in one test."""
    made: list[Following] = []
    database = SqliteDatabase(tmp_path / "x.feed.db")
    database.open()

    def follow(
        *tables: str, retention: Retention | None = None, other: Database | None = None, polling: bool = False
    ) -> Following:
        made.append(Following(source, other or database, source.names(*tables, polling=polling), retention))
        return made[-1]

    yield follow
    for following in made:
        following.close()
