"""When PostgreSQL misbehaves under the engine: answers in bounded time, nothing half stored, and on it goes."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from livesync_trio import limits
from livesync_trio.errors import StorageUnavailable
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import (
    NO_RECORD,
    Appended,
    Engine,
    HeadMoved,
    PutRecord,
    RecordMoved,
    RecordStored,
)
from livesync_trio.storage.postgresql.engine import PostgresEngine
from tests.conformance.proxy import TcpProxy
from tests.conformance.waiting import eventually
from tests.postgres.server import PostgresServer
from tests.storage.making import Database, append, chain, open_store, run_of

ANSWER_LIMIT_S = 1.0
BOUND_S = ANSWER_LIMIT_S + 2 * limits.POSTGRES_CONNECT_LIMIT_S
"""No call may take longer: one answer that does not come, and looking it up on a connection that is not made."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of the code is for people's disks, not for a test."""
    monkeypatch.setattr(limits, "POSTGRES_ANSWER_LIMIT_S", ANSWER_LIMIT_S)


@contextlib.contextmanager
def bounded(limit_s: float = BOUND_S) -> Iterator[None]:
    before_s = time.monotonic()
    yield
    assert time.monotonic() - before_s < limit_s


@pytest.fixture
def proxy(private_server: PostgresServer, make_proxy: Callable[[int], TcpProxy]) -> TcpProxy:
    return make_proxy(private_server.port)


@pytest.fixture
def db(private_server: PostgresServer, database: str, proxy: TcpProxy) -> Iterator[Database]:
    """An engine whose connections pass through the proxy."""
    url = private_server.url(port=proxy.port, database=database, connect_timeout="2")
    opened = Database(lambda: PostgresEngine(url))
    yield opened
    opened.stop()


def comes_back(db: Database, expected: LogState, *numbers: int) -> LogState:
    """The next writes succeed again, on what was durable before."""
    outcome: list[Any] = []

    def works() -> bool:
        try:
            outcome[:] = db.commit(open_store("s"))
        except StorageUnavailable:
            return False
        return True

    eventually(works, "the engine works again")
    assert outcome == [expected]
    after = db.append("s", expected, chain(*numbers, after=expected.head))
    assert db.numbers(after) == [*range(1, expected.head + 1), *numbers]
    return after


def fails(db: Database, *, state: LogState) -> None:
    """Writing and reading end in time with the one error that says "later"."""
    with bounded(), pytest.raises(StorageUnavailable):
        db.append("s", state, chain(state.head + 1, after=state.head))
    with bounded(), pytest.raises(StorageUnavailable):
        db.read(state)
    with bounded(), pytest.raises(StorageUnavailable):
        db.writer.clear_replaced(10)


# --- the server goes away --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_stopped_and_started(private_server: PostgresServer, db: Database, how: signal.Signals) -> None:
    state = db.filled("s", run_of(3))
    private_server.stop(how)
    fails(db, state=state)
    private_server.start()
    comes_back(db, state, 4)


def test_restarted_between_two_writes(private_server: PostgresServer, db: Database) -> None:
    """At most one write fails for it."""
    state = db.filled("s", run_of(3))
    private_server.stop(signal.SIGINT)
    private_server.start()
    with contextlib.suppress(StorageUnavailable):
        state = db.append("s", state, chain(4, after=3))
    after = db.append("s", db.open("s"), chain(state.head + 1, after=state.head))
    with contextlib.suppress(StorageUnavailable):
        db.read(after)
    assert db.numbers(after) == list(range(1, after.head + 1))


def test_a_session_killed_by_an_administrator(private_server: PostgresServer, db: Database) -> None:
    state = db.filled("s", run_of(3))
    private_server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'livesync'")
    with contextlib.suppress(StorageUnavailable):
        state = db.append("s", state, chain(4, after=3))
    comes_back(db, state, state.head + 1)


def test_a_process_killed(private_server: PostgresServer, db: Database) -> None:
    """kill -9 of one session makes PostgreSQL drop all of them and recover."""
    state = db.filled("s", run_of(3))
    os.kill(private_server.backends()[0], signal.SIGKILL)
    with bounded(), contextlib.suppress(StorageUnavailable):
        while True:
            state = db.append("s", state, chain(state.head + 1, after=state.head))
    eventually(lambda: _works(db.engine), "it has recovered")
    durable = db.state("s")
    assert durable in (state, state_at(state, state.head + 1))
    comes_back(db, durable, durable.head + 1)


# --- the network goes away -------------------------------------------------------------------------------------------


def test_cut(db: Database, proxy: TcpProxy) -> None:
    state = db.filled("s", run_of(3))
    proxy.cut()
    fails(db, state=state)
    proxy.restore()
    comes_back(db, state, 4)


def test_bytes_that_vanish(db: Database, proxy: TcpProxy) -> None:
    state = db.filled("s", run_of(3))
    proxy.refuse()
    proxy.silence()
    fails(db, state=state)
    proxy.restore()
    comes_back(db, state, 4)


def test_a_connection_that_is_never_answered(
    private_server: PostgresServer, database: str, make_proxy: Callable[[int], TcpProxy]
) -> None:
    """Taken by the kernel of a machine whose server hangs."""
    proxy = make_proxy(private_server.port)
    engine = PostgresEngine(private_server.url(port=proxy.port, database=database, connect_timeout="2"))
    engine.open()
    os.kill(_postmaster(private_server), signal.SIGSTOP)
    try:
        with bounded(), pytest.raises(StorageUnavailable):
            engine.reader().state(StoreId("s"))
    finally:
        os.kill(_postmaster(private_server), signal.SIGCONT)
    eventually(lambda: _works(engine), "it is reached again")


def _works(engine: Engine) -> bool:
    with contextlib.closing(engine.reader()) as reader:
        try:
            reader.state(StoreId("s"))
        except StorageUnavailable:
            return False
    return True


def _postmaster(server: PostgresServer) -> int:
    return int((server.directory / "postmaster.pid").read_text().split()[0])


def test_nobody_knocks_more_often_than_the_pause_allows(private_server: PostgresServer, db: Database) -> None:
    state = db.filled("s", run_of(3))
    private_server.stop()
    with pytest.raises(StorageUnavailable):
        db.open("s")
    attempts = 0
    before_s = time.monotonic()
    while time.monotonic() - before_s < 2.0:
        with bounded(0.5), pytest.raises(StorageUnavailable, match="cannot be reached"):
            db.state("s")
        attempts += 1
    knocks = db.engine._connector.knocks  # type: ignore[attr-defined]
    assert attempts > 10 * knocks
    private_server.start()
    comes_back(db, state, 4)


# --- the server refuses ----------------------------------------------------------------------------------------------


def test_out_of_connections(private_server: PostgresServer, db: Database, proxy: TcpProxy) -> None:
    state = db.filled("s", run_of(3))
    guests = []
    proxy.cut()
    eventually(lambda: not private_server.backends(), "our own sessions have gone")
    with contextlib.suppress(psycopg.OperationalError):
        while True:
            guests.append(private_server.connect())
    proxy.restore()
    try:
        fails(db, state=state)
    finally:
        for guest in guests:
            guest.close()
    comes_back(db, state, 4)


def test_read_only(private_server: PostgresServer, db: Database) -> None:
    """As a primary that has become a replica. Reading goes on."""
    state = db.filled("s", run_of(3))
    private_server.run("ALTER SYSTEM SET default_transaction_read_only = on")
    private_server.run("SELECT pg_reload_conf()")
    eventually(lambda: private_server.run("SHOW transaction_read_only") == [("on",)], "it is read-only")
    with bounded(), pytest.raises(StorageUnavailable, match="read-only"):
        db.append("s", state, chain(4, after=3))
    with pytest.raises(StorageUnavailable, match="read-only"):
        db.writer.clear_replaced(10)
    assert db.numbers(state) == [1, 2, 3]
    assert db.open("s") == state
    with private_server.connect() as admin:
        admin.execute("SET default_transaction_read_only = off")
        admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
        admin.execute("SELECT pg_reload_conf()")
    eventually(lambda: private_server.run("SHOW transaction_read_only") == [("off",)], "it takes writes")
    comes_back(db, state, 4)


def test_no_room_for_what_is_written(private_server: PostgresServer, database: str, db: Database) -> None:
    """A function of the schema raises what a full disk would."""
    state = db.filled("s", run_of(3))
    with _trigger(private_server, database, "RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'"):
        with pytest.raises(StorageUnavailable, match="no room left"):
            db.append("s", state, chain(4, after=3))
        assert db.numbers(state) == [1, 2, 3]
    comes_back(db, state, 4)


def test_a_row_that_somebody_holds(
    monkeypatch: pytest.MonkeyPatch, private_server: PostgresServer, database: str, db: Database
) -> None:
    """PostgreSQL itself gives up before we do, so nothing happens later behind our back."""
    monkeypatch.setattr(limits, "POSTGRES_ANSWER_LIMIT_S", 6.0)
    state = db.filled("s", run_of(3))
    with psycopg.connect(private_server.url(database=database)) as holder:
        holder.execute("SELECT * FROM livesync_7_stores FOR UPDATE")
        with bounded(limits.POSTGRES_LOCK_LIMIT_MS / 1000 + 2), pytest.raises(StorageUnavailable, match="lock timeout"):
            db.append("s", state, chain(4, after=3))
    comes_back(db, state, 4)


def test_tables_that_are_gone(private_server: PostgresServer, database: str, db: Database) -> None:
    state = db.filled("s", run_of(3))
    with psycopg.connect(private_server.url(database=database), autocommit=True) as admin:
        admin.execute("ALTER TABLE livesync_7_stores RENAME TO mislaid")
        with pytest.raises(StorageUnavailable, match="does not exist"):
            db.append("s", state, chain(4, after=3))
        with pytest.raises(StorageUnavailable):
            db.read(state)
        admin.execute("ALTER TABLE mislaid RENAME TO livesync_7_stores")
    comes_back(db, state, 4)


def test_slow_but_in_time(private_server: PostgresServer, database: str, db: Database) -> None:
    state = db.filled("s", run_of(3))
    with _trigger(private_server, database, f"PERFORM pg_sleep({ANSWER_LIMIT_S / 2})"):
        assert db.append("s", state, chain(4, after=3)).head == 4


# --- killed at COMMIT ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _trigger(server: PostgresServer, database: str, body: str, *, at_commit: bool = False) -> Iterator[None]:
    """SQL that runs with every insert of events, or when its transaction commits."""
    kind, when = ("CONSTRAINT TRIGGER", "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW") if at_commit else ("TRIGGER", "")
    with psycopg.connect(server.url(database=database), autocommit=True) as admin:
        function = f"BEGIN {body}; RETURN NULL; END"
        admin.execute(f"CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $${function}$$".encode())
        admin.execute(
            f"CREATE {kind} trouble AFTER INSERT ON livesync_7_events {when} EXECUTE FUNCTION trouble()".encode()
        )
    yield
    eventually(lambda: _dropped(server, database), "the trigger is gone")


def _dropped(server: PostgresServer, database: str) -> bool:
    try:
        with psycopg.connect(server.url(database=database), autocommit=True) as admin:
            admin.execute("DROP FUNCTION IF EXISTS trouble CASCADE")
    except psycopg.OperationalError:
        return False
    return True


def _waiting(server: PostgresServer, event: str) -> Callable[[], bool]:
    statement = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'livesync' AND wait_event = %s"
    return lambda: bool(server.run(statement, event))


def _in_background(fn: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(fn())
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, result


@pytest.mark.parametrize("kill", [True, False], ids=["kill -9", "terminated"])
def test_killed_at_commit_before_it_was_durable(
    monkeypatch: pytest.MonkeyPatch, private_server: PostgresServer, database: str, db: Database, kill: bool
) -> None:
    monkeypatch.setattr(limits, "POSTGRES_ANSWER_LIMIT_S", 20.0)
    state = db.filled("s", run_of(3))
    with _trigger(private_server, database, "PERFORM pg_sleep(60)", at_commit=True):
        thread, result = _in_background(lambda: db.append("s", state, chain(4, after=3)))
        eventually(_waiting(private_server, "PgSleep"), "it is at COMMIT")
        statement = "SELECT pid FROM pg_stat_activity WHERE application_name = 'livesync' AND wait_event = 'PgSleep'"
        [(pid,)] = private_server.run(statement)
        if kill:
            os.kill(int(str(pid)), signal.SIGKILL)
        else:
            private_server.run("SELECT pg_terminate_backend(%s)", pid)
        thread.join(BOUND_S)
        [error] = result
        assert isinstance(error, StorageUnavailable)
    comes_back(db, state, 4)


@pytest.mark.parametrize("kill", [True, False], ids=["kill -9", "terminated"])
def test_killed_at_commit_when_it_was_durable(
    monkeypatch: pytest.MonkeyPatch, private_server: PostgresServer, db: Database, kill: bool
) -> None:
    """A primary that waits for a replica has flushed its commit already. Either the truth is told, or nothing."""
    monkeypatch.setattr(limits, "POSTGRES_ANSWER_LIMIT_S", 20.0)
    state, other = db.filled("s", run_of(3)), db.open("other")
    private_server.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    private_server.run("SELECT pg_reload_conf()")
    eventually(lambda: private_server.run("SHOW synchronous_standby_names") == [("nobody",)], "it waits for replicas")
    group = append("s", state, chain(4, after=3)), append("other", other, run_of(2))
    thread, result = _in_background(lambda: db.commit(*group))
    eventually(_waiting(private_server, "SyncRep"), "it is durable, and waits")
    with private_server.connect() as admin:
        admin.execute("SET synchronous_commit = local")
        admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
        statement = "SELECT pid FROM pg_stat_activity WHERE application_name = 'livesync' AND wait_event = 'SyncRep'"
        [(pid,)] = admin.execute(statement).fetchall()
        if kill:
            os.kill(int(str(pid)), signal.SIGKILL)
        else:
            admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
            admin.execute("SELECT pg_reload_conf()")
    thread.join(BOUND_S)
    [outcomes] = result
    if kill:  # everything is down for a moment, so nobody could tell
        assert isinstance(outcomes, StorageUnavailable)
    else:
        assert outcomes == [Appended(state_at(state, 4)), Appended(state_at(other, 2))]
    eventually(lambda: _works(db.engine), "it has recovered")
    private_server.run("SELECT pg_reload_conf()")
    eventually(lambda: private_server.run("SHOW synchronous_standby_names") == [("",)], "it waits for nobody")
    comes_back(db, state_at(state, 4), 5)


def test_an_answer_that_gets_lost_is_looked_up(db: Database, proxy: TcpProxy) -> None:
    state, other = db.filled("s", run_of(3)), db.open("other")
    proxy.deafen()
    with bounded():
        outcomes = db.commit(append("s", state, chain(4, after=3)), append("other", other, run_of(2)))
    assert outcomes == [Appended(state_at(state, 4)), Appended(state_at(other, 2))]
    comes_back(db, state_at(state, 4), 5)


def test_a_lost_answer_of_a_group_of_which_one_was_refused(db: Database, proxy: TcpProxy) -> None:
    state, other = db.filled("s", run_of(3)), db.open("other")
    moved = db.append("other", other, run_of(1, args=b'"somebody else"'))
    proxy.deafen()
    outcomes = db.commit(append("s", state, chain(4, after=3)), append("other", other, run_of(1)))
    assert outcomes == [Appended(state_at(state, 4)), HeadMoved(moved)]


def test_a_lost_answer_of_an_append_that_was_refused(db: Database, proxy: TcpProxy) -> None:
    """Nothing is there to prove anything: the caller must ask again."""
    state = db.filled("s", run_of(3))
    proxy.deafen()
    with bounded(), pytest.raises(StorageUnavailable):
        db.commit(append("s", LogState(state.log_id, state.backend_id, 0, 0), run_of(1, args=b'"other"')))
    comes_back(db, state, 4)


def test_a_lost_answer_about_records_is_looked_up(db: Database, proxy: TcpProxy) -> None:
    """What was written, deleted and refused is told; where nothing was written, nobody can tell."""
    first, second = db.commit(PutRecord("kind", "a", b"1", NO_RECORD), PutRecord("kind", "b", b"1", NO_RECORD))
    assert isinstance(first, RecordStored)
    assert isinstance(second, RecordStored)
    proxy.deafen()
    with bounded():
        replaced, deleted, refused = db.commit(
            PutRecord("kind", "a", b"2", first.version),
            PutRecord("kind", "b", None, second.version),
            PutRecord("kind", "c", b"2", second.version),
        )
    found = db.reader.record("kind", "a")
    assert found is not None
    assert found.value == b"2"
    assert (replaced, deleted, refused) == (RecordStored(found.version), RecordStored(NO_RECORD), RecordMoved(None))
    proxy.deafen()
    with bounded(), pytest.raises(StorageUnavailable):
        db.commit(PutRecord("kind", "a", b"3", first.version))


def test_a_lost_answer_after_which_another_server_went_on(
    private_server: PostgresServer, database: str, db: Database, proxy: TcpProxy
) -> None:
    """The head is not ours any more, but our events are in the log."""
    state = db.filled("s", run_of(3))
    elsewhere = Database(lambda: PostgresEngine(private_server.url(database=database)))
    proxy.deafen()
    thread, result = _in_background(lambda: db.commit(append("s", state, chain(4, after=3))))
    eventually(lambda: elsewhere.open("s").head == 4, "it is durable")
    after = elsewhere.append("s", elsewhere.open("s"), chain(5, after=4))
    thread.join(BOUND_S)
    assert result == [[Appended(state_at(state, 4))]]
    elsewhere.stop()
    comes_back(db, after, 6)


def state_at(state: LogState, head: int) -> LogState:
    return LogState(state.log_id, state.backend_id, head, head)
