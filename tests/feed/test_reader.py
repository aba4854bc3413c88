"""The reader, with a real PostgreSQL: what is stored is what was committed, whatever happens in between."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from livesync_trio.feed.history.reading import TooOld
from livesync_trio.feed.position import Position
from livesync_trio.feed.source import SourceProblem, connect, drop, inspect, publish
from livesync_trio.feed.storing import Retention
from livesync_trio.feed.stream import slot_command
from tests.feed.conftest import DEADLINE_S, Following, SourceDatabase
from tests.feed.workload import SCHEMA, TABLES, Workload

Follow = Callable[..., Following]
T = "CREATE TABLE t (id int PRIMARY KEY, v text)"


def operations(following: Following, after: Position) -> list[tuple[str, str]]:
    state = following.history.state()
    return [(c.operation, c.key) for c in following.history.changes(state.epoch, after, state.head_lsn, 10_000).changes]


@pytest.mark.parametrize("polling", [False, True], ids=["streaming", "polling"])
def test_what_was_there_and_what_comes(source: SourceDatabase, follow: Follow, *, polling: bool) -> None:
    source.run(T, "INSERT INTO t VALUES (1, 'before')")
    following = follow("public.t", polling=polling)
    following.wait_for_phase("following")
    beginning = following.history.state()
    assert beginning.floor_lsn == beginning.head_lsn
    following.expect_same("public.t")
    source.run(
        "INSERT INTO t VALUES (2, 'b'), (3, 'c')", "UPDATE t SET v = 'x' WHERE id = 2", "DELETE FROM t WHERE id = 1"
    )
    following.barrier()
    following.expect_same("public.t")
    expected = [("i", '["2"]'), ("i", '["3"]'), ("u", '["2"]'), ("d", '["1"]')]
    assert operations(following, beginning.head) == expected


@pytest.mark.parametrize("polling", [False, True], ids=["streaming", "polling"])
def test_nothing_is_lost_or_told_twice_while_the_copy_is_made(
    source: SourceDatabase, follow: Follow, *, polling: bool
) -> None:
    """Defects 3 and 4: what is written during the first copy is in it, or behind it, never both and never neither."""
    source.run(T)
    stop = threading.Event()

    def write() -> None:
        with source.connect() as connection:
            number = 0
            while not stop.is_set() or number < 50:
                number += 1
                connection.execute("INSERT INTO t VALUES (%s, 'w')", (number,))

    thread = threading.Thread(target=write)
    thread.start()
    following = follow("public.t", polling=polling)
    following.wait(lambda: len(following.states) > 3)
    stop.set()
    thread.join(DEADLINE_S)
    following.barrier()
    following.expect_same("public.t")
    floor = Position(following.history.state().floor_lsn)
    told = operations(following, floor)
    assert len(told) == len(set(told))
    assert {operation for operation, _ in told} == {"i"}


@pytest.mark.parametrize("polling", [False, True], ids=["streaming", "polling"])
def test_random_transactions_with_restarts(source: SourceDatabase, follow: Follow, *, polling: bool) -> None:
    """Everything difficult, interleaved by three sessions, and readers that end in the middle."""
    source.run(*SCHEMA)
    following = follow(*TABLES, polling=polling)
    following.wait_for_phase("following")
    seeds = iter(range(100))
    for _ in range(3):
        threads = [threading.Thread(target=_work, args=(source, next(seeds))) for _ in range(3)]
        for thread in threads:
            thread.start()
        following.close()
        following = follow(*TABLES, polling=polling)
        for thread in threads:
            thread.join(DEADLINE_S)
        following.barrier()
        for table in TABLES:
            if table not in ("public.whole", "public.parts"):
                following.expect_same(table)
        assert sorted(following.rows("public.parts").values()) == sorted(
            source.run("SELECT id::text, region::text, v FROM parts")
        )
        assert sorted(following.rows("public.whole").values(), key=repr) == sorted(
            source.run("SELECT id::text, big FROM whole"), key=repr
        )
    replayed = _replayed(following)
    for table in TABLES:
        assert replayed[table] == following.rows(table)
    assert following.statuses[-1].problem == ""


def _work(source: SourceDatabase, seed: int) -> None:
    workload = Workload(seed)
    with source.connect() as connection:
        for _ in range(60):
            workload.attempt(connection)


def _replayed(following: Following) -> dict[str, dict[str, tuple[str | None, ...]]]:
    """The state that the changes alone lead to, from the floor: each finds what it says was there."""
    history = following.history
    state = history.state()
    tables: dict[str, dict[str, tuple[str | None, ...]]] = {}
    for table in TABLES:
        page = history.page(state.epoch, table, state.floor_lsn, "", 100_000)
        tables[table] = {stored.key: stored.row for stored in page}
    after = Position(state.floor_lsn)
    commits = history.commits(0, state.head_lsn)
    counted: dict[int, int] = {}
    while changes := history.changes(state.epoch, after, state.head_lsn, 333).changes:
        for change in changes:
            assert change.position > after
            after = change.position
            counted[after.commit_lsn] = counted.get(after.commit_lsn, 0) + 1
            assert change.position.seq == counted[after.commit_lsn] - 1
            rows = tables[history.relation(change.relation).table]
            assert rows.get(change.key) == change.old, change
            if change.row is None:
                del rows[change.key]
            else:
                rows[change.key] = change.row
    assert counted == {lsn: commit.changes for lsn, commit in commits.items()}
    return tables


def test_a_large_transaction_is_there_whole_or_not_at_all(
    source: SourceDatabase, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livesync_trio.feed.recording.FEED_BATCH_ROWS", 100)
    monkeypatch.setattr("livesync_trio.feed.storing.FEED_QUEUE_BYTES", 20_000)
    source.run(T)
    following = follow("public.t")
    following.wait_for_phase("following")
    before = following.history.state()
    with source.connect(autocommit=False) as connection:
        connection.execute("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 5000) g")
        connection.execute("UPDATE t SET v = 'y' WHERE id % 2 = 0")
        source.run("INSERT INTO t VALUES (-1, 'small, committed first')")
        connection.commit()
    following.barrier()
    following.expect_same("public.t")
    heads = {state.head_lsn for state in following.states}
    assert len(heads - {before.head_lsn}) == 2  # never a part
    changes = following.history.changes(before.epoch, before.head, 2**62, 10_000).changes
    assert len(changes) == 7501
    assert changes[0].key == '["-1"]'


def test_an_idle_source_may_forget_its_log(
    source: SourceDatabase, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect 7, and the busy database beside an idle one."""
    monkeypatch.setattr("livesync_trio.feed.storing.FEED_CONFIRM_S", 0.1)
    source.run(T, "CREATE TABLE other (v text)")
    following = follow("public.t")
    following.wait_for_phase("following")
    source.run("INSERT INTO other SELECT repeat('x', 500) FROM generate_series(1, 5000)")
    lsn = source.current_lsn()
    following.wait(lambda: following.history.state().confirmed_lsn >= lsn)
    name = following.names.slot
    following.wait(
        lambda: (
            source.run(
                f"SELECT confirmed_flush_lsn >= '0/0'::pg_lsn + {lsn} FROM pg_replication_slots WHERE slot_name = '{name}'"  # noqa: E501
            )
            == [(True,)]
        )
    )


def test_a_lost_slot_costs_nobody_a_fetch(source: SourceDatabase, follow: Follow) -> None:
    source.run(T, "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 10) g")
    following = follow("public.t")
    before = following.barrier()
    following.close()
    source.run(f"SELECT pg_drop_replication_slot('{following.names.slot}')")
    source.run("DELETE FROM t WHERE id = 1", "UPDATE t SET v = 'y' WHERE id = 2", "INSERT INTO t VALUES (11, 'z')")
    following = follow("public.t")
    after = following.barrier()
    following.expect_same("public.t")
    assert after.epoch == before.epoch
    assert sorted(operations(following, before.head)) == [("d", '["1"]'), ("i", '["11"]'), ("u", '["2"]')]


def test_a_slot_that_somebody_made_anew_is_noticed(source: SourceDatabase, follow: Follow) -> None:
    source.run(T)
    following = follow("public.t")
    before = following.barrier()
    following.close()
    name = following.names.slot
    source.run(f"SELECT pg_drop_replication_slot('{name}')", "INSERT INTO t VALUES (1, 'unseen')")
    source.run(f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")
    following = follow("public.t")
    following.barrier()
    assert operations(following, before.head) == [("i", '["1"]')]


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE t ADD COLUMN w int",
        "ALTER TABLE t ADD COLUMN w int DEFAULT 5",
        "ALTER TABLE t ADD COLUMN w double precision DEFAULT random()",
        "ALTER TABLE t DROP COLUMN v",
        "ALTER TABLE t RENAME COLUMN v TO w",
        "ALTER TABLE t ALTER COLUMN v TYPE varchar(2) USING left(v, 2)",
        "ALTER TABLE t ALTER COLUMN id TYPE bigint",
        "ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (id, v)",
        "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (77, 'new')",
        "TRUNCATE t",
    ],
)
def test_a_table_that_changes_its_shape(
    source: SourceDatabase, follow: Follow, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect 12, and the new column with a default, of which the log tells nothing."""
    monkeypatch.setattr("livesync_trio.feed.reader.FEED_CHECK_S", 0.3)
    source.run(T, "INSERT INTO t SELECT g, 'abc' FROM generate_series(1, 3) g")
    following = follow("public.t")
    before = following.barrier()
    source.run(*change.split("; "))
    source.run("INSERT INTO t (id) VALUES (10)" if "(id, v)" not in change else "INSERT INTO t VALUES (10, 'x')")
    source.run("UPDATE t SET id = id WHERE id IN (1, 10)")

    def same() -> bool:
        following.barrier()
        try:
            following.expect_same("public.t")
        except AssertionError:
            return False
        return True

    following.wait(same)
    assert following.history.state().epoch == before.epoch  # nobody needs to fetch anew


def test_a_table_taken_out_of_the_publication_is_noticed(
    source: SourceDatabase, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livesync_trio.feed.reader.FEED_CHECK_S", 0.3)
    source.run(T, "CREATE TABLE u (id int PRIMARY KEY)")
    following = follow("public.t", "public.u")
    following.barrier()
    source.run("ALTER PUBLICATION livesync_feed DROP TABLE t", "INSERT INTO t VALUES (1, 'unpublished')")
    following.wait(lambda: following.rows("public.t"))
    following.expect_same("public.t")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("CREATE TABLE t (id int)", "no primary key"),
        ("CREATE TABLE t (id int PRIMARY KEY DEFERRABLE)", "no primary key"),
        ("CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING", "REPLICA IDENTITY NOTHING"),
        ("CREATE UNLOGGED TABLE t (id int PRIMARY KEY)", "no ordinary table"),
        ("CREATE VIEW t AS SELECT 1 AS id", "no ordinary table"),
        ("CREATE TABLE other (id int)", "there is no table public.t"),
    ],
)
def test_a_table_is_refused_before_its_updates_would_fail(
    source: SourceDatabase, follow: Follow, table: str, words: str
) -> None:
    source.run(*table.split("; "))
    following = follow("public.t")
    following.wait_for_phase("failing")
    assert words in following.statuses[-1].problem
    assert source.run("SELECT 1 FROM pg_publication") == []
    assert source.run(f"SELECT 1 FROM pg_replication_slots WHERE database = '{source.name}'") == []


def test_other_refusals(source: SourceDatabase) -> None:
    source.run(T, "CREATE PUBLICATION livesync_feed FOR ALL TABLES")
    names = source.names("public.t")
    with connect(source.url) as connection:
        tables = inspect(connection, names.tables)
        with pytest.raises(SourceProblem, match="FOR ALL TABLES"):
            publish(connection, names, tables)
        assert drop(connection, names) == ["publication livesync_feed"]
        assert drop(connection, names) == []


@pytest.mark.parametrize("polling", [False, True], ids=["streaming", "polling"])
def test_one_reads_and_another_takes_over(source: SourceDatabase, follow: Follow, *, polling: bool) -> None:
    source.run(T)
    first = follow("public.t", polling=polling)
    first.wait_for_phase("following")
    second = follow("public.t", polling=polling)
    second.wait_for_phase("standby")
    source.run("INSERT INTO t VALUES (1, 'a')")
    first.barrier()
    first.close()
    second.wait_for_phase("following")
    source.run("INSERT INTO t VALUES (2, 'b')")
    second.barrier()
    second.expect_same("public.t")
    floor = Position(second.history.state().floor_lsn)
    assert operations(second, floor) == [("i", '["1"]'), ("i", '["2"]')]


@pytest.mark.parametrize("polling", [False, True], ids=["streaming", "polling"])
def test_connections_that_are_cut_again_and_again(source: SourceDatabase, follow: Follow, *, polling: bool) -> None:
    source.run(T)
    following = follow("public.t", polling=polling)
    following.wait_for_phase("following")
    for number in range(1, 6):
        source.run(f"INSERT INTO t SELECT g, 'x' FROM generate_series({number * 100}, {number * 100 + 50}) g")
        source.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'livesync feed'")
    following.barrier()
    following.expect_same("public.t")
    told = operations(following, Position(following.history.state().floor_lsn))
    assert len(told) == len(set(told)) == 5 * 51


def test_history_is_let_go_of(source: SourceDatabase, follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect 20."""
    monkeypatch.setattr("livesync_trio.feed.storing.FEED_CHECK_S", 0.2)
    source.run(T)
    following = follow("public.t", retention=Retention(3600, 1000))
    before = following.barrier()
    for number in range(20):
        source.run(f"INSERT INTO t VALUES ({number}, repeat('x', 100))")
    state = following.barrier()
    following.wait(lambda: following.history.state().floor_lsn > before.head_lsn)
    with pytest.raises(TooOld):
        following.history.changes(state.epoch, before.head, state.head_lsn, 10)
    following.expect_same("public.t")


def test_a_table_taken_out_and_put_back_is_noticed(
    source: SourceDatabase, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publication looks as before; what was written in between is in no log that we get."""
    monkeypatch.setattr("livesync_trio.feed.reader.FEED_CHECK_S", 0.3)
    source.run(T, "CREATE TABLE u (id int PRIMARY KEY)")
    following = follow("public.t", "public.u")
    before = following.barrier()
    out, back = "ALTER PUBLICATION livesync_feed DROP TABLE t", "ALTER PUBLICATION livesync_feed ADD TABLE t"
    with source.connect(autocommit=False) as connection:  # so quickly that nobody can look in between
        for statement in (out, "INSERT INTO t VALUES (1, 'unpublished')", back):
            connection.execute(statement.encode())
    following.wait(lambda: following.rows("public.t"))
    following.close()
    source.run(out, "INSERT INTO t VALUES (2, 'while nobody reads')", back)
    following = follow("public.t", "public.u")
    after = following.barrier()
    following.expect_same("public.t")
    assert after.epoch == before.epoch
    assert operations(following, before.head) == [("i", '["1"]'), ("i", '["2"]')]


def test_the_slot_is_given_up_before_the_source_is_full(
    source: SourceDatabase, follow: Follow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also while our own database takes nothing."""
    monkeypatch.setattr("livesync_trio.feed.reader.FEED_CHECK_S", 0.2)
    monkeypatch.setattr("livesync_trio.feed.reader.FEED_PAUSE_MAX_S", 0.2)
    monkeypatch.setattr("livesync_trio.feed.history.databases.SQLITE_BUSY_TIMEOUT_MS", 100)
    source.run(T, "INSERT INTO t VALUES (1, 'a')")
    following = follow("public.t", retention=Retention(3600, 10**12, 40_000_000))
    before = following.barrier()
    slots = f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{following.names.slot}'"
    with closing(sqlite3.connect(tmp_path / "x.feed.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        source.run(
            "INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(10, 40000) g", "DELETE FROM t WHERE id > 12"
        )
        following.wait(lambda: not source.run(slots))
        other.execute("ROLLBACK")
    following.wait(lambda: source.run(slots))
    after = following.barrier()
    following.expect_same("public.t")
    assert after.epoch == before.epoch
    assert [key for _, key in operations(following, before.head)] == ['["10"]', '["11"]', '["12"]']


@pytest.mark.parametrize(
    ("version", "how"),
    [
        (140_010, "EXPORT_SNAPSHOT"),
        (150_004, "(SNAPSHOT 'export')"),
        (160_000, "(SNAPSHOT 'export')"),
        (170_000, "(SNAPSHOT 'export', FAILOVER)"),
    ],
)
def test_a_slot_is_made_in_the_words_of_the_version(version: int, how: str) -> None:
    assert slot_command("s", version) == f'CREATE_REPLICATION_SLOT "s" LOGICAL pgoutput {how}'


def test_a_source_without_patience_is_told_in_time(source: SourceDatabase, follow: Follow) -> None:
    source.run(T, f"ALTER DATABASE {source.name} SET wal_sender_timeout = '900ms'")
    following = follow("public.t")
    following.wait_for_phase("following")
    following.wait(lambda: len({status.told_s for status in following.statuses if status.told_s}) > 6)
    assert {status.phase for status in following.statuses} <= {"starting", "copying", "following"}
