"""Engine on one SQLite file: the default, and all that most installations need.

Owns the file: that it is there, private, ours, of a known format, and served by one process only. Reading and writing
are the business of `sqlite_reader` and `sqlite_writer`.
"""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from livesync_trio.errors import Kind, StartupError
from livesync_trio.limits import SQLITE_KEEPER_CACHE_KIB, SQLITE_VERSION_MIN
from livesync_trio.storage.file_lock import FileLock
from livesync_trio.storage.sqlite_connection import Connector, translated
from livesync_trio.storage.sqlite_reader import SqliteReader, SqliteSnapshot
from livesync_trio.storage.sqlite_schema import NotOurs, check, migrate
from livesync_trio.storage.sqlite_writer import SqliteWriter

_PRIVATE: Final = 0o600
"""Mode of a new database file; SQLite gives the same to the files beside it."""

_HEADER: Final = b"SQLite format 3\0"
"""How every SQLite database begins (sqlite.org/fileformat.html)."""

_NOT_A_DATABASE: Final = "it is not an SQLite database: name another file, or restore a backup"


_DAMAGED: Final = "it is damaged: restore a backup"


class SqliteEngine:
    """Keeps logs in one SQLite file (`base.Engine`)."""

    name = "sqlite"

    def __init__(self, path: Path | str, connection_class: type[sqlite3.Connection] = sqlite3.Connection) -> None:
        """Nothing is opened yet.

        Args:
            path: the file, made when it does not exist; relative to the working directory of this moment.
            connection_class: lets a test come between the engine and the disk.
        """
        self._path = Path(path).resolve()
        self._connector = Connector(self._path, connection_class)
        self._lock = FileLock(self._path)
        self._keeper: sqlite3.Connection | None = None

    def open(self) -> None:
        """Lock the file, make it when there is none, and bring its tables up to date.

        Raises:
            StartupError: see the contract; the message is one sentence for the operator.
        """
        if sqlite3.sqlite_version_info < SQLITE_VERSION_MIN:
            needed = ".".join(map(str, SQLITE_VERSION_MIN))
            raise self._unusable(f"this Python has SQLite {sqlite3.sqlite_version}: use one with {needed} or newer")
        if not self._path.parent.is_dir():
            raise self._unusable("its directory does not exist: make it, or name another file")
        if self._path.is_dir():
            raise self._unusable("it is a directory: name a file")
        self._lock.take()  # before the file is touched: closing a descriptor of it would drop another engine's locks
        try:
            self._make_file()
            self._prepare()
        except BaseException:
            self._lock.release()
            raise

    def open_to_read(self) -> None:
        """Check the file and its tables without taking it; see the contract."""
        try:
            with self._path.open("rb") as file:
                header = file.read(len(_HEADER))
        except FileNotFoundError as error:
            raise self._unusable("there is no such file: name the database by --database-url") from error
        except OSError as error:
            raise self._unusable(f"{error.strerror}") from error
        if header != _HEADER:
            raise self._unusable(_NOT_A_DATABASE)
        self._connector.pin()
        self._keeper = self._prepared(check)

    def writer(self) -> SqliteWriter:
        """A writing handle; see the contract."""
        return SqliteWriter(self._connector)

    def reader(self) -> SqliteReader:
        """A reading handle; opens its connection when it is first asked."""
        return SqliteReader(self._connector)

    def snapshot(self) -> SqliteReader:
        """A reading handle on one moment; see the contract."""
        return SqliteSnapshot(self._connector)

    def describe(self) -> str:
        """The file, and the version of SQLite that reads it."""
        return f"{self._path} (SQLite {sqlite3.sqlite_version})"

    def stopping(self) -> None:
        """Let the next server wait for the file."""
        self._lock.note_stopping()

    def close(self) -> None:
        """Let go of the file."""
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
        self._lock.release()

    # --- on opening -------------------------------------------------------------------------------------------------

    def _make_file(self) -> None:
        """Make sure that a file is there that can be written, private when it is new."""
        wal = self._path.with_name(self._path.name + "-wal")
        try:
            wal_bytes = wal.stat().st_size if wal.exists() else 0
            if wal_bytes and not (self._path.exists() and self._path.stat().st_size):
                # SQLite would delete the WAL, and with it what was acknowledged last.
                raise self._unusable(f"it is missing or empty, but {wal.name} is there: put it back, or move that away")
            header = _touch(self._path)
            if header not in (b"", _HEADER):  # SQLite takes a file of a few bytes for an empty one, and overwrites it
                raise self._unusable(_NOT_A_DATABASE)
            self._connector.pin()
            _sync(self._path.parent)  # a new name must be as durable as what will be acknowledged under it
            if wal_bytes:
                _sync(wal)  # after kill -9 it may hold what was never synced; from now on that counts as durable
        except OSError as error:
            raise self._unusable(f"{error.strerror}: the server must be able to read and write it") from error

    def _prepare(self) -> None:
        """Bring the tables up to date, and keep the connection.

        While there is one, SQLite keeps the index of the WAL. Whoever opens the file as its only user makes that anew,
        for which a full disk has no room: after a failed commit nothing could be read any more.
        """
        self._keeper = self._prepared(self._migrate)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise self._unusable("its file system cannot do write-ahead logging: keep it on a local disk")
        migrate(connection)

    def _prepared(self, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
        """A connection to the file, prepared; what goes wrong is told to the operator."""
        try:
            connection = self._connector.connect(SQLITE_KEEPER_CACHE_KIB)
            try:
                prepare(connection)
            except BaseException:
                connection.close()
                raise
            return connection
        except NotOurs as error:
            raise self._unusable(str(error)) from error
        except sqlite3.Error as error:
            raise self._unusable(_advice(error, self._path)) from error
        except UnicodeDecodeError as error:  # what Python's `sqlite3` makes of a message that quotes damaged text
            raise self._unusable(_DAMAGED) from error

    def _unusable(self, reason: str) -> StartupError:
        return StartupError(Kind.DATABASE_UNUSABLE, f"{self._path} cannot be used: {reason}.")


def _touch(path: Path) -> bytes:
    """Make the file when there is none; its first bytes."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
    try:
        return os.read(descriptor, len(_HEADER))
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _advice(error: sqlite3.Error, path: Path) -> str:
    """What the operator can do about an error on opening."""
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_NOTADB:
        return _NOT_A_DATABASE
    if code == sqlite3.SQLITE_CORRUPT:
        return _DAMAGED
    if code == sqlite3.SQLITE_BUSY:
        return "another program has locked it: close that one"
    if code == sqlite3.SQLITE_FULL:
        return "there is no room left: free some space"
    return str(error) if translated(error, path) else f"it does not have the tables it should ({error})"
