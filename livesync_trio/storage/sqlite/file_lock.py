"""One server for one database file: a lock that ends with the process, however it ends.

Owns the side file `<database>.lock`. It is locked with `flock`, which belongs to the opened file: a second engine in
the same process is refused too, and the kernel lets go after `kill -9`, so that a lock file left behind means nothing.
The database file has locks of its own (`record_locks`), which travel with it to every other name; this one can say who
has it. The side file is never deleted: two processes could then each hold one.
"""

import contextlib
import fcntl
import os
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
