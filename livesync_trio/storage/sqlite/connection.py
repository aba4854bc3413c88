"""Connections of the SQLite engine: how each is set up, and what its errors mean.

Owns the settings of a connection and the translation of SQLite's error codes; nothing above sees an `sqlite3.Error`.
"""

import sqlite3
from pathlib import Path
from typing import Final

from livesync_trio.errors import LivesyncError, StorageFull, StorageUnavailable, StoreDamaged
from livesync_trio.limits import SQLITE_BUSY_TIMEOUT_MS, SQLITE_STATEMENTS
from livesync_trio.storage.sqlite.side_files import NamedFile, SideFiles

SQLITE_CHECKPOINT_PAGES: Final = 1_000
"""WAL pages (of 4 KiB) after which a commit copies them into the database file: 7 ms at worst once in a while. Four
times as many: 30 ms at the same throughput (decision 0003)."""

SQLITE_WAL_KEPT_BYTES: Final = 16 * 1024 * 1024
"""Size to which the WAL file is cut back after something large passed through it."""


class Connector:
    """Opens connections to one database file."""

    def __init__(self, path: Path, connection_class: type[sqlite3.Connection] = sqlite3.Connection) -> None:
        """`path` is absolute; `connection_class` lets a test come between us and the disk."""
        self.path = path
        self.beside = SideFiles(path)
        self._connection_class = connection_class
        self._file = NamedFile(path)

    def pin(self) -> None:
        """From now on it is this file, not whatever may be at its path. Raises OSError when it is not there."""
        self._file.remember()

    def check_files(self) -> None:
        """Refuse files that are no longer those at their paths: what is written there, nobody would ever find.

        Raises:
            StorageUnavailable: one was moved away, or another one was put in its place; `Lost` and `Foreign` are those
                of its subclasses that are about the WAL.
        """
        self._check_database()
        self.beside.check()

    def _check_database(self) -> None:
        try:
            found = self._file.found()
        except OSError as error:
            raise StorageUnavailable(f"{self.path} has vanished ({error.strerror}): put it back.") from error
        if self._file.identity not in (None, found):
            raise StorageUnavailable(f"{self.path} was replaced while in use: restart the server.")

    def connect(self, cache_kib: int, statements: int = SQLITE_STATEMENTS) -> sqlite3.Connection:
        """A connection in autocommit mode: transactions begin and end where the code says so, and nowhere else.

        Args:
            cache_kib: size of its page cache.
            statements: how many compiled statements it keeps.

        Raises:
            StorageUnavailable: as `check_files`.
            sqlite3.Error: the file is not a database, or cannot be read.
        """
        self.check_files()
        connection = sqlite3.connect(
            self.path.as_uri() + "?mode=rw",  # never makes a file: an empty one must not stand in for one that vanished
            uri=True,
            timeout=SQLITE_BUSY_TIMEOUT_MS / 1000,
            isolation_level=None,
            check_same_thread=False,  # "used by one thread at a time" (base.py), which may be another each time
            factory=self._connection_class,
            cached_statements=statements,
        )
        try:
            for pragma in PRAGMAS:
                connection.execute(pragma)
            connection.execute(f"PRAGMA cache_size = -{cache_kib:d}")
            self.check_files()  # by now it has opened the WAL; was that the one that is held?
        except BaseException:
            connection.close()
            raise
        return connection


PRAGMAS: Final = (
    "PRAGMA synchronous = FULL",  # every commit waits for the disk; that is the promise of this server
    "PRAGMA fullfsync = ON",  # macOS: for the disk itself, not only its cache; nothing elsewhere
    "PRAGMA checkpoint_fullfsync = ON",
    f"PRAGMA wal_autocheckpoint = {SQLITE_CHECKPOINT_PAGES}",
    f"PRAGMA journal_size_limit = {SQLITE_WAL_KEPT_BYTES}",
    "PRAGMA secure_delete = OFF",  # some builds overwrite what is deleted: a third more work to clear a replaced log
    "PRAGMA temp_store = MEMORY",  # a full /tmp shall not fail a push; what is kept there is bounded
    "PRAGMA mmap_size = 0",  # mapped pages turn an I/O error into SIGBUS, the death of the process (decision 0003)
)

_UNAVAILABLE: Final = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)
_NOT_OUR_TABLES: Final = ("no such table", "no such column")
"""How SQLite begins when a bit of a table's definition has changed."""

_NOT_TEXT: Final = "Could not decode to UTF-8"
"""How Python's `sqlite3` says, without a code, that what should be text is none."""

_PRIMARY: Final = 0xFF
"""Mask that reduces an extended result code to its primary one (sqlite.org/rescode.html)."""


def translated(error: sqlite3.Error, path: Path) -> LivesyncError | None:
    """What an error of SQLite means for the caller of the engine.

    Args:
        error: as raised by `sqlite3`.
        path: the database, for the message.

    Returns:
        `StorageFull`, `StorageUnavailable` or `StoreDamaged`; None when it is none of these but a fault of ours.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY
    if code == sqlite3.SQLITE_FULL:
        return StorageFull(f"There is no room left for {path}: free some space; nothing was lost.")
    if code == sqlite3.SQLITE_CORRUPT or str(error).startswith((_NOT_TEXT, *_NOT_OUR_TABLES)):
        return StoreDamaged(f"{path} is damaged ({error}): restore a backup.")
    if code in _UNAVAILABLE:
        return StorageUnavailable(f"{path} cannot be used now: {error}.")
    return None
