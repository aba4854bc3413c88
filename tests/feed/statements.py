"""A piece of a log that is stored while one statement of the history fails, or while the process dies at it."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

import attrs

from livesync_trio.errors import StorageUnavailable
from livesync_trio.feed import recording
from livesync_trio.feed.history.databases import NAMES, Database, Rows, Session, SqliteDatabase
from livesync_trio.feed.history.state import Source, TableState
from livesync_trio.feed.history.writing import Writer
from livesync_trio.feed.recording import Recorder

T = TypeVar("T")
BATCH_ROWS = 5
"""So small that some transactions are written in parts."""
_BEFORE_LSN = 8
_ORDERS = {
    "state": "id",
    "relations": "version",
    "commits": "commit_lsn",
    "changes": "commit_lsn, seq",
    "horizon": "id",
}


@attrs.frozen
class Piece:
    """What the source says, from a moment at which its tables were empty."""

    tables: dict[str, TableState]
    messages: list[bytes]
    forget_before_us: int
    compact_before_us: int

    def write(self, path: Path) -> None:
        path.write_bytes(pickle.dumps(attrs.astuple(self, recurse=False)))

    @classmethod
    def read(cls, path: Path) -> Piece:
        return cls(*pickle.loads(path.read_bytes()))


class Watched:
    """A database of which one statement, the `number`-th, ends in `fault`; before it is carried out or behind it."""

    def __init__(self, database: Database, number: int, fault: Callable[[], None], *, behind: bool = False) -> None:
        self._database = database
        self.place, self.bytewise = database.place, database.bytewise
        self.left = number
        self.fault = fault
        self.behind = behind

    @property
    def reached(self) -> bool:
        return self.left <= 0

    def open(self) -> None:
        self._database.open()

    def session(self) -> Session:
        return _WatchedSession(self._database.session(), self)


class _WatchedSession:
    """As `Session`; a statement that fails takes its connection and its transaction with it."""

    def __init__(self, session: Session, watched: Watched) -> None:
        self._session = session
        self._watched = watched

    def ask(self, statement: str, parameters: Sequence[object] = ()) -> Rows:
        return self._counted(lambda: self._session.ask(statement, parameters))

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]], then: str = "") -> None:
        self._counted(lambda: self._session.insert(table, columns, rows, then))

    def among(self, column: str, texts: Collection[str]) -> tuple[str, object]:
        return self._session.among(column, texts)

    def begin(self) -> None:
        self._counted(self._session.begin)

    def commit(self) -> None:
        self._counted(self._session.commit)

    def rollback(self) -> None:
        self._session.rollback()

    def close(self) -> None:
        self._session.close()

    def _counted(self, carry_out: Callable[[], T]) -> T:
        watched = self._watched
        watched.left -= 1
        if watched.left == 0 and not watched.behind:
            self._session.close()
            watched.fault()
        given = carry_out()
        if watched.left == 0:
            self._session.close()
            watched.fault()
        return given


def unavailable() -> None:
    raise StorageUnavailable("a fault of the test")


def store(database: Database, piece: Piece) -> None:
    """One session of a reader: everything is sent from the beginning, and old changes are let go of."""
    writer = Writer(database)
    try:
        if not writer.take_over().filled:
            writer.begin()
            writer.settle(Source("1", 1, "s"), piece.tables, _BEFORE_LSN, _BEFORE_LSN, writer.begin_epoch())
        recorder = Recorder(writer, lambda *_: None)
        for message in piece.messages:
            recorder.take(message)
            if recorder.full:
                recorder.store()
        recorder.store()
        recorder.confirm(2**60)
        while writer.forget(piece.forget_before_us, 2**60) or writer.compact(piece.compact_before_us):
            pass
    finally:
        writer.rollback()
        writer.close()


def store_with_faults(watched: Watched, piece: Piece) -> None:
    """Sessions until one comes to its end, as the reader begins them."""
    while True:
        try:
            return store(watched, piece)
        except StorageUnavailable:
            assert watched.reached


def content(database: Database) -> dict[str, Rows]:
    """All that is stored, but for how often a reader began and the random name of the history."""
    session = database.session()
    tables = {
        name: session.ask(f"SELECT * FROM livesync_feed_{name} ORDER BY {_ORDERS.get(name, f'name, key {database.bytewise}')}")  # noqa: E501
        for name in NAMES
    }  # fmt: skip
    session.close()
    tables["state"] = [row[4:] for row in tables["state"]]
    return tables


def die_storing(number: int, database: Path) -> None:
    """Store the piece that lies beside a database, and die at a statement; the child of `tests.torture.statements`."""
    vars(recording)["FEED_BATCH_ROWS"] = BATCH_ROWS
    fault = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
    store(Watched(SqliteDatabase(database), number, fault), Piece.read(database.with_suffix(".piece")))
