"""What only the PostgreSQL engine promises; what all engines do is in `tests/storage`."""

from __future__ import annotations

import json
import select
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from livesync_trio.errors import StorageUnavailable, StoreDamaged
from livesync_trio.limits import STORE_ID_MAX_BYTES
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import Appended, HeadMoved
from livesync_trio.storage.memory import MemoryEngine
from livesync_trio.storage.postgresql.connection import Connector
from livesync_trio.storage.postgresql.engine import PostgresEngine
from livesync_trio.storage.postgresql.news import NOTIFY_PAYLOAD_MAX_BYTES, PostgresListener, payloads
from livesync_trio.storage.shared import Heard, SharedEngine
from livesync_trio.storage.sqlite.engine import SqliteEngine
from tests.postgres.server import PostgresServer, fresh_schema
from tests.storage.making import Database, append, open_store, run_of

A, B = StoreId("a"), StoreId("b\0\ud7ff😀")


@pytest.fixture
def db(shared_database: str) -> Iterator[Database]:
    database = Database(lambda: PostgresEngine(shared_database))
    yield database
    database.stop()


def test_which_engines_several_servers_may_share(shared_database: str) -> None:
    assert isinstance(PostgresEngine(shared_database), SharedEngine)
    assert not isinstance(MemoryEngine(), SharedEngine)
    assert not isinstance(SqliteEngine("x.db"), SharedEngine)


def test_servers_with_the_same_stores_never_lock_each_other_up(shared_database: str, db: Database) -> None:
    """Groups in opposite order: without an order of their own, PostgreSQL would have to kill one of two.

    Among so many stores PostgreSQL looks each row up by itself, in the order in which they are given; and it takes so
    long over each that the two meet in the middle.
    """
    db.commit(*(open_store(f"other {i}") for i in range(3_000)))
    with Connector(shared_database).connect() as connection:
        connection.execute("ANALYZE livesync_7_stores")
        connection.execute(
            "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER linger BEFORE UPDATE ON livesync_7_stores FOR EACH ROW EXECUTE FUNCTION linger()"
        )
    stores = [f"s{i}" for i in range(40)]
    opened = db.commit(*map(open_store, stores))
    failures: list[object] = []
    wins = {"up": 0, "down": 0}

    def append_to_all(name: str) -> None:
        writer = db.engine.writer()
        known = {store: state for store, state in zip(stores, opened, strict=True) if isinstance(state, LogState)}
        for _ in range(8):
            order = stores if name == "up" else stores[::-1]
            try:
                outcomes = writer.commit([append(store, known[store], run_of(1, known[store].head)) for store in order])
            except StorageUnavailable as error:
                failures.append(error)
                break
            for store, outcome in zip(order, outcomes, strict=True):
                assert isinstance(outcome, Appended | HeadMoved)
                known[store] = outcome.state
                wins[name] += isinstance(outcome, Appended)
        writer.close()

    threads = [threading.Thread(target=append_to_all, args=(name,)) for name in wins]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    heads = [db.open(store).head for store in stores]
    assert sum(heads) == sum(wins.values())
    assert all(db.numbers(db.open(store)) == list(range(1, db.open(store).head + 1)) for store in stores)


def test_a_damaged_store_takes_no_neighbour_with_it(shared_database: str, db: Database) -> None:
    """Found out by the database alone: an event beyond the head stands where the append wants to go."""
    damaged, good, late = db.filled("damaged", run_of(1)), db.open("good"), db.filled("late", run_of(2))
    with Connector(shared_database).connect() as connection:
        connection.execute(
            "INSERT INTO livesync_7_events VALUES (%s, 2, 1, 2, now(), '{}')",
            (damaged.log_id,),
        )
    outcomes = db.commit(
        append("good", good, run_of(3)),
        append("damaged", damaged, run_of(1, after=1)),
        append("late", good, run_of(1)),
    )
    assert outcomes[0] == Appended(db.open("good"))
    assert isinstance(outcomes[1], StoreDamaged)
    assert outcomes[2] == HeadMoved(late)
    assert db.numbers(good) == [1, 2, 3]


@pytest.mark.parametrize(("given", "used"), [("off", "on"), ("local", "on"), ("on", "on"), ("remote_apply",) * 2])
def test_writes_wait_for_the_disk_whatever_the_role_says(
    private_server: PostgresServer, database: str, given: str, used: str
) -> None:
    private_server.run(f"ALTER DATABASE {database} SET synchronous_commit = {given}")
    db = Database(lambda: PostgresEngine(private_server.url(database=database)))
    with psycopg.connect(private_server.url(database=database), autocommit=True) as admin:
        admin.execute("CREATE TABLE noted (at text, what text)")
        admin.execute(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "INSERT INTO noted VALUES (TG_TABLE_NAME, current_setting('synchronous_commit')); RETURN NULL; END $$"
        )
        for table in ("livesync_7_stores", "livesync_7_events", "livesync_7_replaced"):
            admin.execute(
                f"CREATE CONSTRAINT TRIGGER note AFTER INSERT OR UPDATE ON {table} "
                f"DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note()".encode()
            )
        db.filled("s", run_of(2))
        db.reset("s")
        db.stop()
        noted = admin.execute("SELECT DISTINCT at, what FROM noted").fetchall()
    tables = {"livesync_7_stores", "livesync_7_events", "livesync_7_replaced"}
    assert set(noted) == {(table, used) for table in tables}


def test_nothing_is_left_in_a_session(db: Database) -> None:
    db.filled("s", run_of(2))
    session = db.writer._session  # type: ignore[attr-defined]
    assert session.ask("SELECT current_setting('lock_timeout'), current_setting('synchronous_commit')") == [("0", "on")]
    assert session.ask("SELECT name FROM pg_prepared_statements") == []


def test_times_are_those_of_the_push_in_any_time_zone(private_server: PostgresServer, database: str) -> None:
    private_server.run(f"ALTER DATABASE {database} SET timezone = 'Asia/Kathmandu'")
    private_server.run(f"ALTER DATABASE {database} SET datestyle = 'German'")
    db = Database(lambda: PostgresEngine(private_server.url(database=database)))
    state = db.append("s", db.open("s"), run_of(1), created_at="2024-02-29T23:59:59.007Z")
    assert [event.created_at for event in db.read(state)] == ["2024-02-29T23:59:59.007Z"]
    db.stop()


# --- news ------------------------------------------------------------------------------------------------------------


def hear(listener: PostgresListener) -> Heard:
    """What another one told next; that it spoke itself wakes it, too."""
    found = Heard(set())
    while found == Heard(set()):
        assert select.select([listener.fileno()], [], [], 10)[0]
        found = listener.hear_nowait()
    return found


def test_servers_hear_each_other_and_not_themselves(shared_database: str) -> None:
    here, there = PostgresEngine(shared_database), PostgresEngine(shared_database)
    here.open()
    listeners, news = (here.listener(), there.listener()), (here.news(), there.news())
    assert hear(listeners[0]) == Heard(set(), arrived=True)
    news[0].tell([A, B])
    assert hear(listeners[1]) == Heard({A, B})
    news[1].tell([B])
    assert hear(listeners[0]) == Heard({B})
    assert listeners[0].hear_nowait() == Heard(set())
    for handle in (*listeners, *news):
        handle.close()


def test_fleets_in_other_schemas_are_not_heard(shared_database: str) -> None:

    here, elsewhere = PostgresEngine(shared_database), PostgresEngine(fresh_schema("another fleet"))
    here.open()
    elsewhere.open()
    listener, news, mine = here.listener(), elsewhere.news(), PostgresEngine(shared_database).news()
    news.tell([A])
    mine.tell([B])
    assert hear(listener).stores == {B}
    for handle in (listener, news, mine):
        handle.close()


def test_what_is_not_ours_is_a_hint_of_everything(shared_database: str) -> None:
    engine = PostgresEngine(shared_database)
    engine.open()
    listener = engine.listener()
    with Connector(shared_database).connect() as connection:
        connection.execute("SELECT pg_notify('livesync_7_' || 'livesync_7_stores'::regclass::oid, 'hello')")
    assert hear(listener).stores is None
    news = PostgresEngine(shared_database).news()
    news.tell(None)
    assert hear(listener).stores is None
    listener.close()
    news.close()


def test_whoever_could_hear_is_seen(shared_database: str) -> None:
    """Also one that is only about to say that it has arrived; not one that has gone, nor another fleet's."""
    here, there = PostgresEngine(shared_database), PostgresEngine(shared_database)
    here.open()
    mine, news = here.listener(), here.news()
    assert news.alone(mine.session)
    assert not news.alone(mine.session + 1)
    other_fleet = PostgresEngine(fresh_schema("another fleet"))
    other_fleet.open()
    theirs = other_fleet.listener()
    assert news.alone(mine.session)
    other = there.listener()
    assert not news.alone(mine.session)
    with Connector(shared_database).connect() as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 10000)", (other.session,))
    assert news.alone(mine.session)
    mine.close()
    deadline_s = time.monotonic() + 20
    while news.alone(mine.session) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not news.alone(mine.session)
    for handle in (other, theirs, news):
        handle.close()


def test_notifications_are_few_and_short_enough() -> None:
    longest = [StoreId("😀" * (STORE_ID_MAX_BYTES // 4 - 1) + str(i)) for i in range(10)]
    stores = [*longest, *(StoreId(f"store {i}") for i in range(2_000))]
    texts = list(payloads("sender", stores))
    assert max(len(text.encode()) for text in texts) <= NOTIFY_PAYLOAD_MAX_BYTES
    assert [store for text in texts for store in json.loads(text)["stores"]] == stores
    assert len(texts) < 20


def test_a_listener_whose_session_ends_says_so(shared_database: str) -> None:
    engine = PostgresEngine(shared_database)
    engine.open()
    listener = engine.listener()
    with Connector(shared_database).connect() as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", (listener._session.connection().info.backend_pid,))
    with pytest.raises(StorageUnavailable):
        _hear_for_ever(listener)
    listener.close()


def _hear_for_ever(listener: PostgresListener) -> None:
    while True:  # a word of farewell may come first
        assert listener.hear_nowait() == Heard(set())
