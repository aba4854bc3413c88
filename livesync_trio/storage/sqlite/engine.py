"""Engine on one SQLite file: the default, and all that most installations need.

Owns the file: that it is there, private, ours, of a known format, and served by one process only. Reading and writing
are the business of `reader` and `writer`.
"""

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from livesync_trio.errors import Kind, StartupError
from livesync_trio.limits import SQLITE_KEEPER_CACHE_KIB
from livesync_trio.storage.sqlite.connection import Connector, translated
from livesync_trio.storage.sqlite.locks import FileLock, RecordLocks
from livesync_trio.storage.sqlite.mounts import is_mounted_alone, mount_of
from livesync_trio.storage.sqlite.reader import SqliteReader, SqliteSnapshot
from livesync_trio.storage.sqlite.schema import NotOurs, check, migrate
from livesync_trio.storage.sqlite.side_files import WAL, Foreign, Lost
from livesync_trio.storage.sqlite.writer import SqliteWriter

SQLITE_VERSION_MIN: Final = (3, 34, 0)
"""Oldest SQLite served with; what Python 3.11 finds on the oldest systems still kept (Red Hat 9)."""

_PRIVATE: Final = 0o600
"""Mode of a new database file; SQLite gives the same to the files beside it."""

_HEADER: Final = b"SQLite format 3\0"
"""How every SQLite database begins (sqlite.org/fileformat.html)."""

_NOT_A_DATABASE: Final = "it is not an SQLite database: name another file, or restore a backup"

_DAMAGED: Final = "it is damaged: restore a backup"

_LOCAL: Final = "keep the database on a local disk (no network, no folder shared with a virtual machine)"

_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})

_NO_SHARED_MEMORY: Final = frozenset(
    {
        sqlite3.SQLITE_IOERR_SHMMAP,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_SHMLOCK,
    }
)
"""The index of the WAL is memory that connections share by mapping a file."""


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
        self._beside = self._connector.beside
        self._lock = FileLock(self._path)
        self._record_locks = RecordLocks()
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
        self._refuse_second_name()
        self._lock.take()  # first, because it can say who has the file
        try:
            self._make_file()
            self._prepare()
            self._hold()
        except BaseException:
            self.close()
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
        self._refuse_second_name()
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
            self._let_sqlite_tidy_up()
            self._keeper.close()
            self._keeper = None
        self._beside.let_go()
        self._record_locks.close()
        self._lock.release()

    # --- on opening -------------------------------------------------------------------------------------------------

    def _refuse_second_name(self) -> None:
        """Refuse a file that has another name somewhere: its WAL lies beside one of them only.

        Whoever opens it by the other one sees an older database, and takes it for whole.
        """
        try:
            if not self._path.exists():
                return
            names = self._path.stat().st_nlink
            mounted = is_mounted_alone(self._path)
        except OSError as error:
            raise self._unusable(f"{error.strerror}") from error
        if mounted:
            raise self._unusable(
                "it is mounted as a single file, without its write-ahead log beside it: mount the directory that it "
                "lies in, or a volume (--volume livesync:/data)"
            )
        if names > 1:
            raise self._unusable(
                f"it has {names} names (hard links), and its write-ahead log lies beside one of them only: find them "
                f"with `find / -xdev -samefile {self._path}`, keep the one beside which the {WAL} file is, and make "
                "copies with `livesync backup`"
            )

    def _make_file(self) -> None:
        """Make sure that a file is there that can be written, private when it is new, and that it is ours alone."""
        wal = self._path.with_name(self._path.name + WAL)
        try:
            wal_bytes = wal.stat().st_size if wal.exists() else 0
            if wal_bytes and not (self._path.exists() and self._path.stat().st_size):
                # SQLite would delete the WAL, and with it what was acknowledged last.
                raise self._unusable(f"it is missing or empty, but {wal.name} is there: put it back, or move that away")
            header = os.pread(self._locked(), len(_HEADER), 0)
            if header not in (b"", _HEADER):  # SQLite takes a file of a few bytes for an empty one, and overwrites it
                raise self._unusable(_NOT_A_DATABASE)
            self._connector.pin()
            if (reason := self._beside.settle()) is not None:
                raise self._unusable(reason)
            _sync(self._path.parent)  # a new name must be as durable as what will be acknowledged under it
            if wal_bytes:
                _sync(wal)  # after kill -9 it may hold what was never synced; from now on that counts as durable
        except OSError as error:
            raise self._unusable(f"{error.strerror}: the server must be able to read and write it") from error

    def _locked(self) -> int:
        """A descriptor of the file, which is made when there is none, and now served by this engine only."""
        try:
            return self._record_locks.take(self._path, _PRIVATE)
        except BlockingIOError as error:
            raise StartupError(
                Kind.DATABASE_IN_USE,
                f"{self._path} is in use by another livesync server, which knows it by another name (a link, or a "
                "mount, perhaps in a container), or whose .lock file was removed: stop that one, or give this one "
                "another DATABASE_URL.",
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise self._unusable(f"{_file_system(self._path)} has no locks ({error.strerror}): {_LOCAL}") from error

    def _prepare(self) -> None:
        """Bring the tables up to date, and keep the connection.

        While there is one, SQLite keeps the index of the WAL. Whoever opens the file as its only user makes that anew,
        for which a full disk has no room: after a failed commit nothing could be read any more.
        """
        self._keeper = self._prepared(self._migrate)

    def _hold(self) -> None:
        """From now on the files stay where they are, whatever this or another process does to them."""
        try:
            self._record_locks.hold_open(self._beside.index)
            self._beside.hold()
        except OSError as error:
            raise self._unusable(f"{error.strerror}: another program uses it; close that one") from error

    def _let_sqlite_tidy_up(self) -> None:
        """Let the last connection move the WAL into the database, unless that is not what was written to it."""
        try:
            with suppress(Lost):
                self._beside.check()
            self._record_locks.allow_last()
        except (Foreign, OSError):
            pass  # the next start sees what is there

    def _migrate(self, connection: sqlite3.Connection) -> None:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise self._unusable(f"{_file_system(self._path)} cannot do write-ahead logging: {_LOCAL}")
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
    if code in _NO_SHARED_MEMORY:
        return f"{_file_system(path)} cannot share memory between programs (mmap), which SQLite needs: {_LOCAL}"
    if code is not None and code & 0xFF == sqlite3.SQLITE_IOERR:
        return f"{_file_system(path)} failed ({error}, {error.sqlite_errorname}): see the kernel's log, or {_LOCAL}"
    return str(error) if translated(error, path) else f"it does not have the tables it should ({error})"


def _file_system(path: Path) -> str:
    """The file system a file is on, for a message."""
    mount = mount_of(path)
    return "its file system" if mount is None else f"its file system ({mount.kind} at {mount.point})"
