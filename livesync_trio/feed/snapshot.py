"""Reading all rows of tables as they were at one moment, over several connections to the source.

The moment is that of a snapshot, which one session of the source holds open. A connection that is lost while it reads a
table is made anew, and reads that table from its beginning: rows come twice then, and are the same. When the session
that holds the snapshot is gone, nobody can go on, and everything begins anew with another snapshot.
"""

import os
import socket
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from queue import Empty, Full, Queue
from typing import Final

import attrs
import psycopg
from psycopg import sql

from livesync_trio.feed.history.state import TableState
from livesync_trio.feed.limits import FEED_BATCH_ROWS, FEED_LOOK_UP_S, FEED_PAGE_BYTES
from livesync_trio.feed.source import Names, connect, identifier
from livesync_trio.feed.tables import Row
from livesync_trio.storage.postgresql.connection import Connection
from livesync_trio.telemetry import get_logger

FEED_COPY_CONNECTIONS: Final = 4
"""Tables that are read at the same time."""

FEED_COPY_AHEAD: Final = 4
"""Batches that are read before they are stored. None has more than `FEED_PAGE_BYTES` before its last row."""

FEED_COPY_TRIES: Final = 5
FEED_COPY_PAUSE_S: Final = 1.0
"""How often a table is begun anew without any row having come, and the pause before."""

_log = get_logger("feed")


@attrs.frozen
class Batch:
    """Some rows of a table; `count` of it were read by now. The last one of a table is empty."""

    table: str
    rows: list[Row]
    count: int
    is_last: bool = False


class _Over(Exception):
    """Nobody wants what was read."""


@contextmanager
def reading(
    names: Names, snapshot: str, tables: Mapping[str, TableState], connections: int
) -> Iterator[Iterator[Batch | None]]:
    """Read all rows of tables.

    Args:
        names: of the source.
        snapshot: the name of one that is held open meanwhile.
        tables: what is read, begun in this order.
        connections: how many of them at the same time.

    Returns:
        What is read, as it comes; None again and again while nothing comes. Raises psycopg.Error.
    """
    reading = _Reading(names, snapshot, tables)
    reading.start(min(connections, len(tables)))
    try:
        yield reading.batches(len(tables))
    finally:
        reading.stop()


class _Reading:
    def __init__(self, names: Names, snapshot: str, tables: Mapping[str, TableState]) -> None:
        self._url = names.url
        self._snapshot = snapshot
        self._waiting = deque(tables.items())
        self._read: Queue[Batch | Exception] = Queue(FEED_COPY_AHEAD)
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._open: set[Connection] = set()  # what `stop` cuts; changed while the lock is held
        self._threads: list[threading.Thread] = []

    def start(self, count: int) -> None:
        for number in range(count):
            thread = threading.Thread(target=self._run, name=f"livesync feed copying {number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Cut the connections, since a table may be locked or the source silent, and wait for the threads."""
        with self._lock:
            self._over.set()
            for connection in self._open:
                with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as opened:
                    opened.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def batches(self, tables: int) -> Iterator[Batch | None]:
        while tables:
            try:
                read = self._read.get(timeout=FEED_LOOK_UP_S)
            except Empty:
                yield None
                continue
            if isinstance(read, Exception):
                raise read
            tables -= read.is_last
            yield read

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with connect(self._url) as connection:
            with self._lock:
                if self._over.is_set():
                    raise _Over
                self._open.add(connection)
            try:
                yield connection
            finally:
                with self._lock:
                    self._open.discard(connection)

    def _put(self, read: Batch | Exception) -> None:
        while not self._over.is_set():
            try:
                return self._read.put(read, timeout=FEED_LOOK_UP_S)
            except Full:
                pass
        raise _Over

    def _run(self) -> None:
        try:
            while True:
                try:
                    table, state = self._waiting.popleft()
                except IndexError:
                    return
                self._read_table(table, state)
        except _Over:
            pass
        except Exception as error:
            with suppress(_Over):
                self._put(error)

    def _read_table(self, table: str, state: TableState) -> None:
        """From its beginning, as often as that takes."""
        tries = 0
        while True:
            count = 0
            try:
                with self._connected() as connection:
                    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                    connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(self._snapshot)))
                    for rows in _batches(connection, table, state.column_names):
                        count += len(rows)
                        self._put(Batch(table, rows, count))
                return self._put(Batch(table, [], count, is_last=True))
            except psycopg.OperationalError as error:
                tries = 1 if count else tries + 1
                if tries == FEED_COPY_TRIES:
                    raise
                _log.warning("a table is read anew", table=table, rows=count, reason=" ".join(str(error).split()))
                if self._over.wait(FEED_COPY_PAUSE_S):
                    raise _Over from None


def _batches(connection: Connection, table: str, columns: list[str]) -> Iterator[list[Row]]:
    """All rows, as texts that the same functions of PostgreSQL have written as those in the log."""
    wanted = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(wanted, identifier(table))
    rows: list[Row] = []
    size_bytes = 0
    with connection.cursor().copy(statement) as copy:
        for row in copy.rows():
            rows.append(row)
            size_bytes += sum([len(value) for value in row if value is not None])
            if len(rows) >= FEED_BATCH_ROWS or size_bytes >= FEED_PAGE_BYTES:
                yield rows
                rows, size_bytes = [], 0
    yield rows
