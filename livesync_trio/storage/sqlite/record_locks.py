"""Locks on the database's own files that a stray `close` does not take away.

Owns two kinds of them, both open-file-description locks (fcntl(2), Linux): they belong to the opened file, so a second
engine in the same process meets them, too, and they are not lost when the process closes another descriptor of that
file, as POSIX locks are (a hook that copies the database is enough).

* One byte of the database file that SQLite does not use, locked for this server alone. The lock is the file's,
  whatever name leads to it: a hard link, a bind mount, a path in another container.
* The bytes by which SQLite knows that somebody has the database open, shared as each of its connections does. As long
  as they are held, no other program takes itself for the last one and removes the WAL when it closes the file.
"""

import errno
import fcntl
import os
import struct
import sys
from pathlib import Path
from typing import Final

_SQLITE_BYTES: Final = 0x40000000
"""Where SQLite's locks begin in the database file: one byte each for pending and reserved, then those of readers."""
_READERS: Final = (_SQLITE_BYTES + 2, 510)
_OURS: Final = (_SQLITE_BYTES + 1024, 1)
_INDEX_IN_USE: Final = (128, 1)
"""The byte of the WAL's index ("dead man's switch") by which whoever opens it knows that others use it."""


class RecordLocks:
    """The locks of one database file, from `take` to `close`."""

    def __init__(self) -> None:
        self._database: int | None = None
        self._index: int | None = None

    def take(self, database: Path, mode: int) -> int:
        """Open the database file, make it when there is none, and lock it for this server.

        Args:
            database: the file.
            mode: of a new file.

        Returns:
            The descriptor; it stays ours.

        Raises:
            BlockingIOError: another server has the file, whatever name it calls it by.
            OSError: it cannot be opened or locked.
        """
        self._database = os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
        _lock(self._database, fcntl.F_WRLCK, _OURS)
        return self._database

    def hold_open(self, index: Path) -> None:
        """Keep other programs from taking themselves for the last user; called while SQLite has the database open.

        Raises:
            OSError: a file cannot be opened or locked.
        """
        assert self._database is not None
        _lock(self._database, fcntl.F_RDLCK, _READERS)
        self._index = os.open(index, os.O_RDWR | os.O_CLOEXEC)
        _lock(self._index, fcntl.F_RDLCK, _INDEX_IN_USE)

    def allow_last(self) -> None:
        """Let the connection that is closed next be the last one, which tidies up."""
        if self._database is not None:
            _lock(self._database, fcntl.F_UNLCK, _READERS)

    def close(self) -> None:
        """Let go of everything; only when SQLite has let go of the files, since closing drops its locks."""
        for descriptor in (self._index, self._database):
            if descriptor is not None:
                os.close(descriptor)
        self._index = self._database = None


def _lock(descriptor: int, kind: int, span: tuple[int, int]) -> None:
    if sys.platform == "linux":  # nowhere else are there such locks
        start, length = span
        lock = struct.pack("hhqqi", kind, os.SEEK_SET, start, length, 0)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a kernel that does not know them, as in some sandboxes
                raise
