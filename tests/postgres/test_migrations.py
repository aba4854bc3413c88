"""The schema of PostgreSQL: who applies it when, what a newer or older server finds, and what an operator is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import psycopg
import pytest

from livesync_trio.cli.main import main
from livesync_trio.errors import Kind, StartupError, StoreDamaged
from livesync_trio.model import BackendId, Batch, LogState, StoreId
from livesync_trio.storage.postgresql import schema as postgres_schema
from livesync_trio.storage.postgresql.connection import Connection, Connector
from livesync_trio.storage.postgresql.engine import PostgresEngine
from livesync_trio.storage.postgresql.schema import MayNotCreate, NotOurs, migrate, pending
from livesync_trio.storage.postgresql.tables import MIGRATIONS, Migration
from tests.postgres.server import PostgresServer
from tests.storage.making import CREATED_AT, Database, open_store, run_of

NEXT = Migration(
    len(MIGRATIONS) + 1,
    "colours",
    pre=("ALTER TABLE livesync_7_stores ADD COLUMN colour text",),
    post=("ALTER TABLE livesync_7_stores ALTER COLUMN colour SET DEFAULT 'green'",),
)
NEWER = (*MIGRATIONS, NEXT)
BROKEN = (*MIGRATIONS, attrs.evolve(NEXT, pre=(*NEXT.pre, "SELECT 1/0")))


@pytest.fixture
def connection(shared_database: str) -> Iterator[Connection]:
    with Connector(shared_database).connect() as connection:
        yield connection


def test_a_new_database_gets_everything(connection: Connection) -> None:
    assert pending(connection, NEWER).new
    migrate(connection, migrations=NEWER)
    found = pending(connection, NEWER)
    assert (found.pre, found.post, found.new) == ((), (), False)


def test_an_older_database_gets_the_first_halves(connection: Connection) -> None:
    """The server of the version before goes on beside it, and even starts."""
    migrate(connection)
    migrate(connection, migrations=NEWER)
    found = pending(connection, NEWER)
    assert found.pre == ()
    assert [str(step) for step in found.post] == [f"{NEXT.number} post: colours"]
    migrate(connection)
    assert connection.execute("SELECT colour FROM livesync_7_stores").fetchall() == []


def test_finished_it_is_closed_to_older_servers(connection: Connection) -> None:
    migrate(connection)
    migrate(connection, migrations=NEWER, finish=True)
    assert pending(connection, NEWER).post == ()
    with pytest.raises(NotOurs, match="run the newer livesync"):
        migrate(connection)


def test_another_format_is_refused(connection: Connection) -> None:
    migrate(connection)
    connection.execute("INSERT INTO livesync_migrations VALUES (8, 1, 'pre', 'the future')")
    with pytest.raises(NotOurs, match="format 8"):
        pending(connection)


@pytest.mark.parametrize("lost", ["livesync_7_replaced", "livesync_7_stores", "livesync_7_records"])
def test_a_lost_table_is_noticed(connection: Connection, lost: str) -> None:
    migrate(connection)
    connection.execute(f"DROP TABLE {lost} CASCADE".encode())
    with pytest.raises(NotOurs, match=f"{lost} is missing"):
        migrate(connection)


def test_a_step_that_fails_leaves_nothing(connection: Connection) -> None:
    migrate(connection)
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(connection, migrations=BROKEN)
    assert len(pending(connection, NEWER).pre) == 1
    migrate(connection, migrations=NEWER)
    assert pending(connection, NEWER).pre == ()


def test_servers_that_start_together_take_turns(shared_database: str) -> None:
    failures: list[Exception] = []
    barrier = threading.Barrier(5)

    def start() -> None:
        barrier.wait()
        try:
            PostgresEngine(shared_database).open()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with Connector(shared_database).connect() as connection:
        rows = connection.execute("SELECT number FROM livesync_migrations ORDER BY number, half DESC").fetchall()
    assert rows == [(each.number,) for each in MIGRATIONS for half in (each.pre, each.post) if half]


# --- what an older version left, and leaves --------------------------------------------------------------------------

OLD_APPEND = """
    SELECT * FROM livesync_7_append(
        ARRAY[%(store)s::bytea], ARRAY[%(log_id)s::bigint], ARRAY[%(backend_id)s::text], ARRAY[%(head)s::bigint],
        ARRAY[%(head)s::bigint], ARRAY[%(head)s + 2::bigint], ARRAY[%(head)s + 2::bigint],
        ARRAY['2026-11-20T12:34:57.000Z'::text], ARRAY[1, 1]::bigint[], ARRAY[%(head)s + 1, %(head)s + 2]::bigint[],
        ARRAY[%(head)s, %(head)s + 1]::bigint[], ARRAY[%(head)s + 1, %(head)s + 2]::bigint[], ARRAY['{"ä":1}', '{}'])
"""


def append_as_before(connection: Connection, state: LogState) -> LogState:
    """Two events of together 10 bytes, as a server of the version before sends them."""
    given = {"store": b"s", "log_id": state.log_id, "backend_id": state.backend_id, "head": state.head}
    assert connection.execute(OLD_APPEND, given).fetchall() == [(1,)]
    return attrs.evolve(state, head=state.head + 2, event_count=state.event_count + 2)


def store_of_the_first_version(connection: Connection) -> LogState:
    """A store with two events, and an empty one, in a database of the first version."""
    migrate(connection, migrations=MIGRATIONS[:1])
    connection.execute("SELECT livesync_7_create(ARRAY['s'::bytea, 'empty'], ARRAY['identity', 'another'])")
    [(log_id,)] = connection.execute("SELECT log_id FROM livesync_7_stores WHERE store_id = 's'").fetchall()
    return append_as_before(connection, LogState(log_id, BackendId("identity"), 0, 0))


@pytest.fixture
def before(connection: Connection) -> LogState:
    """The first of them."""
    return store_of_the_first_version(connection)


def test_an_older_database_is_migrated_and_served(
    connection: Connection, before: LogState, shared_database: str
) -> None:
    db = Database(lambda: PostgresEngine(shared_database))
    empty, store = db.reader.stores(None, 9)
    assert (empty.text_bytes, empty.last_push_at) == (0, None)
    assert (store.state, store.text_bytes, store.last_push_at) == (before, 10, "2026-11-20T12:34:57.000Z")
    state = db.append("s", db.open("s"), Batch(run_of(1, after=2).events, "ann"))
    assert [event.user for event in db.read(state)] == [None, None, "ann"]
    found = db.reader.summary(StoreId("s"))
    assert found is not None
    assert (found.text_bytes, found.last_push_at) == (10 + run_of(1, after=2).size_bytes, CREATED_AT)
    db.stop()


def test_an_older_server_beside_this_one_counts_until_it_is_gone(
    connection: Connection, before: LogState, shared_database: str
) -> None:
    db = Database(lambda: PostgresEngine(shared_database))
    state = append_as_before(connection, before)
    found = db.reader.summary(StoreId("s"))
    assert found is not None
    assert (found.state, found.text_bytes) == (state, 20)
    assert [event.user for event in db.read(state)] == [None] * 4
    db.engine.migrate(finish=True)  # type: ignore[attr-defined]
    with pytest.raises(psycopg.errors.UndefinedFunction):
        append_as_before(connection, state)
    assert db.append("s", state, run_of(1, after=4)).head == 5
    db.stop()


def test_a_step_may_take_longer_than_an_answer(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "answer_limit_s", 0.3)
    slow = Migration(len(MIGRATIONS) + 1, "slow", pre=("SELECT pg_sleep(1)",))
    migrate(connection, migrations=(*MIGRATIONS, slow))
    assert pending(connection, (*MIGRATIONS, slow)).pre == ()


# --- a role that may not ---------------------------------------------------------------------------------------------


@pytest.fixture
def modest(private_server: PostgresServer, database: str) -> str:
    """URL of a role that owns nothing."""
    with psycopg.connect(private_server.url(database=database), autocommit=True) as admin:
        admin.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        admin.execute(f'CREATE ROLE "modest {database}" LOGIN'.encode())
    return private_server.url(database=database).replace("postgres@", f"modest%20{database}@", 1)


def test_a_role_that_may_not_create_tables_is_given_the_sql(
    private_server: PostgresServer, database: str, modest: str
) -> None:
    with pytest.raises(StartupError, match="may not create tables") as refused:
        PostgresEngine(modest).open()
    assert refused.value.kind is Kind.DATABASE_UNUSABLE
    script = str(refused.value).split("\n\n", 1)[1]
    with psycopg.connect(private_server.url(database=database), autocommit=True) as admin:
        admin.execute(script.encode())
    db = Database(lambda: PostgresEngine(modest))
    state = db.filled("s", run_of(3))
    assert db.numbers(state) == [1, 2, 3]
    db.reset("s")
    assert db.writer.clear_replaced(10) == 3
    db.stop()


def test_it_is_refused_before_anything_is_changed(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise psycopg.errors.InsufficientPrivilege("no")

    monkeypatch.setattr(postgres_schema, "_apply", refuse)
    with pytest.raises(MayNotCreate, match="CREATE TABLE livesync_7_stores"):
        migrate(connection)


# --- what else is refused --------------------------------------------------------------------------------------------


def test_an_encoding_that_cannot_hold_all_text(private_server: PostgresServer, database: str) -> None:
    private_server.run(f"CREATE DATABASE latin_{database} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(StartupError, match="its encoding is LATIN1"):
        PostgresEngine(private_server.url(database=f"latin_{database}")).open()


def test_a_database_that_does_not_exist_is_not_waited_for(private_server: PostgresServer, database: str) -> None:
    with pytest.raises(StartupError, match="does not exist"):
        PostgresEngine(private_server.url(database="nowhere")).open()


def test_a_store_that_is_not_whole_is_refused_alone(shared_database: str) -> None:
    db = Database(lambda: PostgresEngine(shared_database))
    state, other = db.filled("s", run_of(3)), db.filled("other", run_of(2))
    with Connector(shared_database).connect() as connection:
        connection.execute("DELETE FROM livesync_7_events WHERE seq_num = 3 AND log_id = %s", (state.log_id,))
    db.restart()
    damaged, whole = db.commit(open_store("s"), open_store("other"))
    assert isinstance(damaged, StoreDamaged)
    assert whole == other
    db.stop()


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command(shared_database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", shared_database)
    assert main(["migrate", "--check"]) == 1
    told = capsys.readouterr().out
    assert all(f"missing: {step}" in told for step in ("1 pre", "2 pre", "3 pre"))
    assert "when no older server runs: 2 post" in told
    assert main(["migrate", "--sql"]) == 0
    assert "CREATE FUNCTION livesync_7_append" in capsys.readouterr().out
    assert main(["migrate"]) == 0
    assert "up to date: postgresql://postgres@" in capsys.readouterr().out
    assert main(["migrate", "--check"]) == 0
    assert main(["migrate", "--sql"]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_the_command_with_sqlite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--check", "--database-url", f"sqlite:///{tmp_path}/x.db"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert not (tmp_path / "x.db").exists()


def test_the_command_without_a_database(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--check", "--database-url", "postgresql://u:canary@127.0.0.1:1/d"]) == 4
    error = capsys.readouterr().err
    assert "cannot be reached" in error
    assert "canary" not in error
