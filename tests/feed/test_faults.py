"""Whatever fails or is killed: the history holds what the source committed, in its order, nothing twice."""

from __future__ import annotations

import itertools
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from livesync_trio.feed.history.databases import Database, PostgresDatabase, SqliteDatabase
from livesync_trio.feed.pgoutput import Begin, decode
from livesync_trio.feed.source import connect, inspect, publish
from tests.feed.conftest import LOGICAL, Following, SourceDatabase, drop_slots
from tests.feed.seeds import sample, seeds
from tests.feed.statements import BATCH_ROWS, Piece, Watched, content, store, store_with_faults, unavailable
from tests.feed.witness import Witness, stored
from tests.feed.workload import SCHEMA, TABLES, Workload
from tests.postgres.server import PostgresServer, fresh_schema, new_cluster
from tests.torture.statements import Killer

SAMPLE = 6
_NEVER = 10**9
_numbers = itertools.count(1)
Follow = Callable[..., Following]


# --- each statement --------------------------------------------------------------------------------------------------


def recorded(server: PostgresServer, seed: int, transactions: int = 12) -> Piece:
    """What a source says of random transactions, one of which empties tables."""
    name = f"d{secrets.token_hex(4)}"
    server.run(f"CREATE DATABASE {name}")
    source = SourceDatabase(server, name)
    source.run(*SCHEMA)
    names = source.names(*TABLES)
    with connect(source.url) as connection:
        tables = inspect(connection, names.tables)
        publish(connection, names, tables)
    witness = Witness(source, tables, {table: set() for table in TABLES})
    workload = Workload(seed, keys=8)
    with source.connect() as connection:
        for number in range(transactions):
            if number == transactions // 2:
                connection.execute("TRUNCATE todos, pairs")
            workload.attempt(connection)
    messages = witness.messages()
    times = [begin.committed_us for begin in map(decode, messages) if isinstance(begin, Begin)]
    piece = Piece(tables, messages, times[len(times) // 3], times[len(times) * 3 // 4])
    drop_slots(server, name)
    server.run(f"DROP DATABASE {name}")
    return piece


@pytest.fixture(scope="module")
def piece(source_server: PostgresServer) -> Piece:
    return recorded(source_server, 5)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livesync_trio.feed.recording.FEED_BATCH_ROWS", BATCH_ROWS)


@pytest.fixture
def make_database(tmp_path: Path) -> Callable[[str], Database]:
    def make(engine: str) -> Database:
        made: Database
        if engine == "sqlite":
            made = SqliteDatabase(tmp_path / f"{next(_numbers)}.feed.db")
        else:
            made = PostgresDatabase(fresh_schema(f"faults of the feed {next(_numbers)}"))
        made.open()
        return made

    return make


@pytest.mark.parametrize("behind", [False, True], ids=["before it", "behind it"])
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_each_statement_may_fail(
    piece: Piece, make_database: Callable[[str], Database], engine: str, behind: bool
) -> None:
    """A sample; `scripts/torture feed` does all of them."""
    calm = Watched(make_database(engine), _NEVER, unavailable)
    store(calm, piece)
    count = _NEVER - calm.left
    expected = content(calm)
    assert expected["changes"]
    assert expected["state"][0][-1] > 8  # the floor has risen
    assert expected["horizon"]
    for number in sample(range(1, count + 1), SAMPLE, int(behind)):
        database = Watched(make_database(engine), number, unavailable, behind=behind)
        store_with_faults(database, piece)
        assert content(database) == expected, number


def test_a_process_may_be_killed_at_each_statement(piece: Piece, tmp_path: Path) -> None:
    """A sample; `scripts/torture feed` does all of them."""
    expected = killed_while_storing(piece, tmp_path, None)
    count = _NEVER - expected
    numbers = sample(range(1, count + 1), SAMPLE, 1)
    assert killed_while_storing(piece, tmp_path, numbers) == len(numbers)


def killed_while_storing(piece: Piece, directory: Path, numbers: list[int] | None) -> int:
    """Without numbers: how many statements are left of `_NEVER`; else how many processes were killed."""
    whole = SqliteDatabase(directory / "whole.feed.db")
    whole.open()
    calm = Watched(whole, _NEVER, unavailable)
    store(calm, piece)
    if numbers is None:
        return calm.left
    expected, killed = content(whole), 0
    with Killer() as killer:
        for number in numbers:
            path = directory / f"killed-at-{number}.feed.db"
            database = SqliteDatabase(path)
            database.open()
            piece.write(path.with_suffix(".piece"))
            killed += killer.killed_at(number, "feed", path)
            store(database, piece)
            assert content(database) == expected, number
    return killed


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that may be killed."""
    server = new_cluster(f"killed-{os.getpid()}")
    server.start(*LOGICAL, "restart_after_crash=on")
    yield server
    server.stop()


@pytest.fixture
def own_source(own_server: PostgresServer) -> SourceDatabase:
    name = f"d{secrets.token_hex(4)}"
    own_server.run(f"CREATE DATABASE {name}")
    return SourceDatabase(own_server, name)


class Writing:
    """A session that carries out random transactions, whatever happens to it, until it is stopped."""

    def __init__(self, source: SourceDatabase, seed: int) -> None:
        self._source, self._workload = source, Workload(seed)
        self._stop = threading.Event()
        self.count = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._source.connect() as connection:
                    while not self._stop.is_set():
                        self._workload.attempt(connection)
                        self.count += 1
            except psycopg.OperationalError:
                self._stop.wait(0.05)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


def kill_the_backend(server: PostgresServer) -> None:
    """Of the reader; PostgreSQL takes that for damage, ends all sessions and recovers."""
    for (pid,) in server.run("SELECT active_pid FROM pg_replication_slots WHERE active"):
        os.kill(int(str(pid)), signal.SIGKILL)


def kill_all_of_it(server: PostgresServer) -> None:
    server.stop(signal.SIGKILL)
    while True:  # until the last of its children has noticed
        try:
            return server.start(*LOGICAL, "restart_after_crash=on")
        except RuntimeError as error:
            if "still in use" not in str(error) and "lock file" not in str(error):
                raise


@pytest.mark.parametrize("seed", seeds(1))
@pytest.mark.parametrize("kill", [kill_the_backend, kill_all_of_it], ids=["the backend", "all of it"])
def test_postgresql_is_killed(
    own_source: SourceDatabase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kill: Callable[[PostgresServer], None],
    seed: int,
) -> None:
    monkeypatch.setattr("livesync_trio.feed.reader.FEED_PAUSE_MAX_S", 0.5)
    database = SqliteDatabase(tmp_path / "x.feed.db")
    database.open()
    own_source.run(*SCHEMA)
    following = Following(own_source, database, own_source.names(*TABLES))
    following.wait_for_phase("following")
    before = following.barrier()
    witness = Witness(own_source, before.tables, {table: set() for table in TABLES})
    writers = [Writing(own_source, seed * 10 + number) for number in range(2)]
    for _ in range(2):
        counts = [writer.count for writer in writers]
        following.wait(lambda counts=counts: all(w.count > c + 15 for w, c in zip(writers, counts, strict=True)))  # type: ignore[misc]
        kill(own_source.server)
        following.wait(lambda: answers(own_source))
    for writer in writers:
        writer.stop()
    following.barrier()
    assert list(stored(following.history, before.head).items()) == list(witness.commits().items())
    for table in TABLES[:3]:
        following.expect_same(table)
    assert following.history.state().epoch == before.epoch
    following.close()
    drop_slots(own_source.server, own_source.name)


def answers(source: SourceDatabase) -> bool:
    try:
        source.run("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True
