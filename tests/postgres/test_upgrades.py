"""An upgrade beside what else uses the database, and schemas that are not the first of the search path."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

import pytest

from livesync_trio.errors import StartupError, StorageUnavailable
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import Appended, HeadMoved, OpenStore
from livesync_trio.storage.postgresql import schema as postgres_schema
from livesync_trio.storage.postgresql.connection import Connector, Session
from livesync_trio.storage.postgresql.engine import PostgresEngine
from livesync_trio.storage.postgresql.schema import migrate, pending
from livesync_trio.storage.postgresql.tables import MIGRATIONS
from livesync_trio.storage.postgresql.writer import PostgresWriter
from tests.postgres.server import fresh_schema, shared_url
from tests.postgres.test_migrations import NEWER, append_as_before, store_of_the_first_version
from tests.storage.making import Database, append, run_of

ASK = "SELECT count(*) FROM livesync_7_stores"


def test_a_long_transaction_holds_up_the_migration_and_nobody_else(
    shared_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `pg_dump` does: what comes after the step that waits must not queue behind it for long."""
    monkeypatch.setattr(postgres_schema, "POSTGRES_MIGRATION_LOCK_MS", 100)
    monkeypatch.setattr(postgres_schema, "POSTGRES_MIGRATION_PAUSE_S", 0.1)
    connector = Connector(shared_database)
    with connector.connect() as old, connector.connect() as new, connector.connect() as long:
        migrate(old)
        long.execute("BEGIN")
        long.execute(ASK.encode())
        reasons: list[str] = []

        def migrate_in_the_end() -> None:
            while True:
                try:
                    migrate(new, migrations=NEWER)
                    return
                except StorageUnavailable as error:
                    reasons.append(str(error))

        migrating = threading.Thread(target=migrate_in_the_end, daemon=True)
        migrating.start()
        old.execute("SET statement_timeout = '2s'")
        waiting = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'livesync_7_stores'::regclass"
        while old.execute(waiting.encode()).fetchone() is None:
            assert migrating.is_alive()
        for _ in range(20):
            old.execute("BEGIN")
            old.execute(ASK.encode())  # fails when it queues behind the migration for good
            old.execute("COMMIT")
        assert migrating.is_alive()
        long.execute("COMMIT")
        migrating.join(30)
        assert not migrating.is_alive()
        assert pending(old, NEWER).pre == ()
        assert any(f"process {long.info.backend_pid} of" in reason for reason in reasons), reasons
        assert ASK not in reasons[0]


def test_health_does_not_return_while_a_table_is_locked(shared_database: str) -> None:
    """What proves that the database can be written takes the locks that pushes take."""
    engine = PostgresEngine(shared_database)
    engine.open()
    writer = engine.writer()
    with Connector(shared_database).connect() as other:
        writer.prove_writable()
        other.execute("BEGIN")
        other.execute("LOCK TABLE livesync_7_stores IN SHARE MODE")
        with pytest.raises(StorageUnavailable):
            writer.prove_writable()
        other.execute("COMMIT")
        writer.prove_writable()
    writer.close()
    engine.close()


def test_servers_of_the_version_before_push_on_beside_a_long_transaction(
    shared_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 20.1: this version starts beside them, and somebody counts stores in a transaction that stays open."""
    monkeypatch.setattr(postgres_schema, "POSTGRES_MIGRATION_LOCK_MS", 100)
    monkeypatch.setattr(postgres_schema, "POSTGRES_MIGRATION_PAUSE_S", 0.1)
    monkeypatch.setattr(postgres_schema, "POSTGRES_MIGRATION_STORES", 1)
    connector = Connector(shared_database)
    with connector.connect() as old, connector.connect() as long:
        state = store_of_the_first_version(old)
        long.execute("BEGIN")
        long.execute(ASK.encode())
        old.execute("SET statement_timeout = '2s'")
        for _ in range(3):
            with pytest.raises(StorageUnavailable, match=f"process {long.info.backend_pid} "):
                PostgresEngine(shared_database).open()
            state = append_as_before(old, state)  # fails when it queues behind the migration for good
        long.execute("COMMIT")
        engine = PostgresEngine(shared_database)
        engine.open()
        state = append_as_before(old, state)
        reader = engine.reader()
        found = reader.summary(StoreId("s"))
        assert found is not None
        assert (found.state, found.text_bytes) == (state, 5 * state.event_count)
        reader.close()
        engine.close()


def test_plans_are_kept_from_step_7_on_and_older_servers_gain_by_it(shared_database: str) -> None:
    """It takes no table's lock: a transaction that holds one delays nobody. Downgrades stay possible."""
    before, connector = MIGRATIONS[:6], Connector(shared_database)
    with connector.connect() as old, connector.connect() as long, connector.connect() as new:
        migrate(old, migrations=before)
        writer = PostgresEngine(shared_database).writer()  # what it sends is the same, before and after
        [state] = writer.commit([OpenStore(StoreId("s"))])
        assert isinstance(state, LogState)
        long.execute("BEGIN")
        long.execute("LOCK TABLE livesync_7_stores, livesync_7_events IN ROW EXCLUSIVE MODE")
        for push in range(1, 9):
            if push == 5:
                migrate(new)
            [outcome] = writer.commit([append("s", state, run_of(1, after=state.head))])
            assert isinstance(outcome, Appended)
            state = outcome.state
        long.execute("COMMIT")
        writer.close()
        reader = PostgresEngine(shared_database).reader()
        assert [event.seq_num for event in reader.read(state, 0, state.head, 99, 9999)] == [1, 2, 3, 4, 5, 6, 7, 8]
        reader.close()
        migrate(new, finish=True)
        assert pending(old, before).pre == ()


@pytest.mark.parametrize("stores", [1, 3])
def test_an_append_leaves_its_session_as_it_was(shared_database: str, stores: int) -> None:
    """A pooler may give the session to anybody afterwards."""
    engine = PostgresEngine(shared_database)
    engine.open()
    session = Session(Connector(shared_database))
    names = [StoreId(f"s{number}") for number in range(stores)]
    ask = "SELECT name, setting FROM pg_settings ORDER BY name"
    with closing(PostgresWriter(session)) as writer:
        states = writer.commit([OpenStore(name) for name in names])
        found = dict(session.ask(ask))
        writes = [
            append(name, state, run_of(1))
            for name, state in zip(names, states, strict=True)
            if isinstance(state, LogState)
        ]
        assert [type(outcome) for outcome in writer.commit(writes)] == [Appended] * stores
        assert dict(session.ask(ask)) == found
    engine.close()


def test_the_plan_that_is_kept_does_not_read_the_stores_from_end_to_end(shared_database: str) -> None:
    """It was made while the table was small, and must do when it is large."""
    PostgresEngine(shared_database).open()
    session = Session(Connector(shared_database))
    with closing(PostgresWriter(session)) as writer:
        [state] = writer.commit([OpenStore(StoreId("s"))])
        session.do("ANALYZE livesync_7_stores")  # to read the one page that there is looks cheapest

        def push() -> None:
            nonlocal state
            assert isinstance(state, LogState)
            [outcome] = writer.commit([append("s", state, run_of(1, after=state.head))])
            assert isinstance(outcome, Appended)
            state = outcome.state

        push()
        session.do(
            "INSERT INTO livesync_7_stores (store_id, backend_id) "
            "SELECT CAST(CAST(n AS text) AS bytea), 'x' FROM generate_series(1, 2000) AS n"
        )
        session.do("BEGIN")
        push()
        touched = (
            "SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables "
            "WHERE relid = 'livesync_7_stores'::regclass"
        )
        [(read, fetched)] = session.ask(touched)
        session.do("COMMIT")
    assert read == 0
    assert fetched <= 9


def test_the_statement_timeout_of_a_role_does_not_cancel_a_step(shared_database: str) -> None:
    with Connector(shared_database).connect() as connection:
        migrate(connection)
        connection.execute("SET statement_timeout = '200ms'")
        slow = NEWER[-1].__class__(len(MIGRATIONS) + 1, "slow", pre=("SELECT pg_sleep(0.5)",))
        migrate(connection, migrations=(*MIGRATIONS, slow))


def test_an_empty_first_schema_does_not_join_the_fleet_of_the_next(tmp_path: Path) -> None:
    theirs, ours = fresh_schema(f"{tmp_path} theirs"), fresh_schema(f"{tmp_path} ours")
    PostgresEngine(theirs).open()
    schemas = [url.rsplit("%3D", 1)[1] for url in (ours, theirs)]
    both = f"{ours}%2C{schemas[1]}"
    for opening in (PostgresEngine(both).open, PostgresEngine(both).open_to_read):
        with pytest.raises(StartupError, match=f"lies in schema {schemas[1]}, .* is {schemas[0]}"):
            opening()
    PostgresEngine(f"{theirs}%2C{schemas[0]}").open()
    PostgresEngine(ours).open()
    PostgresEngine(both).open()


@pytest.mark.parametrize("mode", ["no-verify"])
def test_an_ssl_mode_that_does_not_exist_is_not_waited_for(mode: str) -> None:
    url = shared_url()
    with pytest.raises((StartupError, ValueError), match="sslmode"):
        PostgresEngine(f"{url}{'&' if '?' in url else '?'}sslmode={mode}").open()


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
def test_a_lost_race_is_an_answer_whatever_isolation_the_role_has(shared_database: str, level: str) -> None:
    url = shared_database.replace("%3D", "%3D", 1).replace(
        "options=", f"options=-cdefault_transaction_isolation%3D{level.replace(' ', '%5C%20')}%20", 1
    )
    db = Database(lambda: PostgresEngine(url))
    db.open("s")
    failures: list[object] = []
    barrier = threading.Barrier(4)

    def race() -> None:
        writer = db.engine.writer()
        reader = db.engine.reader()
        state = reader.state(StoreId("s"))
        reader.close()
        for _ in range(8):
            barrier.wait()
            assert state is not None
            [outcome] = writer.commit([append("s", state, run_of(1, after=state.head))])
            if not isinstance(outcome, Appended | HeadMoved):
                failures.append(outcome)
                return
            state = outcome.state
        writer.close()

    def guarded() -> None:
        try:
            race()
        except Exception as error:
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=guarded) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    db.stop()


@pytest.mark.parametrize("host", ["db.invalid", "db..example", "d b", "x" * 64])
def test_a_host_that_cannot_exist_is_not_waited_for(host: str) -> None:
    with pytest.raises((StartupError, ValueError), match="no computer can have the name"):
        PostgresEngine(f"postgresql://app:hunter2@{host.replace(' ', '%20')}/app")


@pytest.mark.parametrize("host", ["db", "db.example.", "127.0.0.1", "%2Fvar%2Frun", "[::1]", "a,b_1", "my-db.internal"])
def test_a_host_that_may_come_is_waited_for(host: str) -> None:
    PostgresEngine(f"postgresql://app@{host}/app")
