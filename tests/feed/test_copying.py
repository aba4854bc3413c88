"""Reading all rows: over several connections, which may be lost, as of one moment, which may not."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from livesync_trio.feed.history.state import TableState
from livesync_trio.feed.snapshot import Batch, reading
from livesync_trio.feed.source import connect, inspect
from livesync_trio.storage.postgresql.connection import Connection
from tests.feed.conftest import SourceDatabase

ROWS = 60_000
TABLES = ("public.big", "public.small", "public.none")


@pytest.fixture
def tables(source: SourceDatabase, monkeypatch: pytest.MonkeyPatch) -> dict[str, TableState]:
    monkeypatch.setattr("livesync_trio.feed.snapshot.FEED_COPY_PAUSE_S", 0.01)
    source.run(
        *(f"CREATE TABLE {table} (id int PRIMARY KEY, v text)" for table in TABLES),
        f"INSERT INTO big SELECT g, repeat('x', 300) FROM generate_series(1, {ROWS}) g",  # more than sockets hold
        "INSERT INTO small SELECT g, 'y' FROM generate_series(1, 10) g",
    )
    with connect(source.url) as connection:
        return inspect(connection, TABLES)


@pytest.fixture
def moment(source: SourceDatabase, tables: dict[str, TableState]) -> Iterator[tuple[Connection, str]]:
    """A session that holds a snapshot, behind which rows are written."""
    with source.connect() as connection:
        connection.execute("SET application_name = 'holder'")
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        [(snapshot,)] = connection.execute("SELECT pg_export_snapshot()").fetchall()
        source.run("INSERT INTO none VALUES (1, 'later')", "DELETE FROM big WHERE id % 2 = 0", "TRUNCATE TABLE small")
        source.run("INSERT INTO small VALUES (1, 'later')")
        yield connection, snapshot  # type: ignore[misc]


def cut(source: SourceDatabase) -> None:
    source.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'livesync feed'")


def test_a_connection_that_is_lost_costs_its_table_a_new_beginning(
    source: SourceDatabase, tables: dict[str, TableState], moment: tuple[Connection, str]
) -> None:
    batches: list[Batch] = []
    cuts = 0
    with reading(source.names(*TABLES), moment[1], tables, 2) as coming:
        for batch in coming:
            if batch is None:
                continue
            batches.append(batch)
            if batch.table == "public.big" and batch.rows and cuts < 2:
                cuts += 1
                cut(source)
    big = [batch for batch in batches if batch.table == "public.big"]
    assert sum(len(batch.rows) for batch in big) > ROWS  # some came again
    assert {row for batch in big for row in batch.rows} == {(str(each), "x" * 300) for each in range(1, ROWS + 1)}
    assert big[-1] == Batch("public.big", [], ROWS, is_last=True)
    assert [row for batch in batches if batch.table == "public.none" for row in batch.rows] == []
    assert {batch.table for batch in batches if batch.is_last} == set(TABLES)


def test_without_the_moment_nobody_goes_on(
    source: SourceDatabase, tables: dict[str, TableState], moment: tuple[Connection, str]
) -> None:
    holder, snapshot = moment

    def read() -> None:
        with reading(source.names(*TABLES), snapshot, {"public.big": tables["public.big"]}, 1) as coming:
            for batch in coming:
                if batch is not None and batch.count < ROWS // 2:
                    holder.execute("ROLLBACK")
                    cut(source)

    with pytest.raises(psycopg.Error, match="snapshot"):
        read()


def test_who_stops_waits_for_nobody(
    source: SourceDatabase, tables: dict[str, TableState], moment: tuple[Connection, str]
) -> None:
    with reading(source.names(*TABLES), moment[1], tables, 4) as coming:
        assert next(coming) is not None
        assert any(thread.name.startswith("livesync feed copying") for thread in threading.enumerate())
    assert not any(thread.name.startswith("livesync feed copying") for thread in threading.enumerate())


def test_a_locked_table_holds_up_nobody_who_stops(
    source: SourceDatabase, tables: dict[str, TableState], moment: tuple[Connection, str]
) -> None:
    with source.connect() as holder:
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE none IN ACCESS EXCLUSIVE MODE")
        with reading(source.names(*TABLES), moment[1], {"public.none": tables["public.none"]}, 1) as coming:
            while not source.run("SELECT 1 FROM pg_locks WHERE NOT granted"):
                assert next(coming) is None
        assert not any(thread.name.startswith("livesync feed copying") for thread in threading.enumerate())


def test_wide_rows_are_read_in_small_batches(source: SourceDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livesync_trio.feed.snapshot.FEED_PAGE_BYTES", 10_000)
    source.run(
        "CREATE TABLE wide (id int PRIMARY KEY, v text)",
        "INSERT INTO wide SELECT g, repeat('x', 4000) FROM generate_series(1, 100) g",
    )
    with connect(source.url) as connection, source.connect() as holder:
        tables = inspect(connection, ["public.wide"])
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        [(snapshot,)] = holder.execute("SELECT pg_export_snapshot()").fetchall()
        with reading(source.names("public.wide"), str(snapshot), tables, 1) as coming:
            counts = [len(batch.rows) for batch in coming if batch is not None]
    assert sum(counts) == 100
    assert max(counts) == 3
