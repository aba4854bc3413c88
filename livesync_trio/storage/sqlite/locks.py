"""One server for one database file: locks that end with the process, however it ends.

Owns three locks. The first is the side file `<database>.lock`, locked with `flock`, which belongs to the opened file: a
second engine in the same process is refused too, and the kernel lets go after `kill -9`, so that a lock file left
behind means nothing. It can say who has the database. It is never deleted: two processes could then each hold one.

The other two are on the database file itself, and travel with it to every other name. They are open-file-description
locks (fcntl(2), Linux): they are not lost when the process closes another descriptor of that file, as POSIX locks are
(a hook that copies the database is enough).

* One byte of the database file that SQLite does not use, locked for this server alone. The lock is the file's,
  whatever name leads to it: a hard link, a bind mount, a path in another container.
* The bytes by which SQLite knows that somebody has the database open, shared as each of its connections does. As long
  as they are held, no other program takes itself for the last one and removes the WAL when it closes the file.
"""

import contextlib
import errno
import fcntl
import os
import struct
import sys
from pathlib import Path
from typing import Final

from livesync_trio.errors import Kind, StartupError, StorageUnavailable

_SUFFIX: Final = ".lock"
_PRIVATE: Final = 0o600
_NOTE_MAX_BYTES: Final = 32
_STOPPING: Final = "stopping"


class FileLock:
    """The lock of one database file, held from `take` to `release`."""

    def __init__(self, database: Path) -> None:
        """`database` is the real path: two names of one file must have one lock."""
        self._database = database
        self._path = database.with_name(database.name + _SUFFIX)
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take the lock or refuse at once.

        Raises:
            StartupError: another process holds it, or the side file cannot be written.
            StorageUnavailable: the process that holds it is about to stop; try again soon.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
        except OSError as error:
            raise StartupError(
                Kind.DATABASE_UNUSABLE,
                f"{self._path} cannot be written ({error.strerror}): {_what_to_do(self._path)}.",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder, _, its_note = os.read(descriptor, _NOTE_MAX_BYTES).decode(errors="replace").strip().partition(" ")
            os.close(descriptor)
            if its_note == _STOPPING:
                raise StorageUnavailable(f"process {holder} still finishes its work on {self._database}") from error
            raise StartupError(
                Kind.DATABASE_IN_USE,
                f"{self._database} is in use by another livesync server (process {holder or 'unknown'}): "
                "stop that one, or give this one another DATABASE_URL.",
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise StartupError(
                Kind.DATABASE_UNUSABLE,
                f"{self._path} cannot be locked ({error.strerror}): keep the database on a local file system.",
            ) from error
        self._descriptor = descriptor
        self._write("")

    def note_stopping(self) -> None:
        """Tell whoever comes next that waiting is worth it; does nothing when the lock is not held."""
        self._write(f" {_STOPPING}")

    def release(self) -> None:
        """Let go; does nothing when the lock is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, note: str) -> None:
        """Write who holds the lock, for the messages above and for operators."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # a full disk is no reason not to start
                text = f"{os.getpid()}{note}\n".encode()
                os.pwrite(self._descriptor, text, 0)
                os.ftruncate(self._descriptor, len(text))


def _what_to_do(path: Path) -> str:
    """What helps where the side file cannot be opened: somebody else has it, or the folder may not be written."""
    try:
        owner = path.stat().st_uid
    except OSError:
        return "give the server a directory of its own that it may write"
    if owner == os.geteuid():
        return "give it back its mode, which is 0600"
    return f"the file belongs to user {owner}, and this is user {os.geteuid()}: give all files there to one of them"


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
