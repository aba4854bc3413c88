"""The WAL and its index: that they are found again under their names, and what is in a WAL that nobody has open.

Owns those names and the reading of the WAL's format (sqlite.org/walformat.html). An acknowledged event is in the WAL
until a checkpoint; when somebody removes that file from its directory, SQLite goes on writing to what nobody will ever
find. So each of the two has a spare name (a hard link, hidden, so that `rm livesync.db-*` does not meet it): a file
that lost its name is given it back, as if nothing had been. Where that cannot be had, `Lost` says so before anything is
acknowledged.

The names are looked up with every commit, so a look must not give up the interpreter lock. Every call in `os` does, and
beside a busy event loop the writer thread then waits until it has won the lock back: up to Python's switch interval,
five milliseconds, several times a commit. `statx` and `pread` of the C library are called while the lock is held, and
are answered from the kernel's caches in a microsecond. Where they cannot be called (not Linux, or a
very old one), `os` is.
"""

import ctypes
import errno
import logging
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from livesync_trio.errors import StorageUnavailable

Identity = bytes | tuple[int, int]
"""Device and inode, in a form to be compared with others of this process."""

_AT_FDCWD: Final = -100
_AT_STATX_DONT_SYNC: Final = 0x4000
_STATX_INO: Final = 0x100
_STATX_BYTES: Final = 256
_ASKED: Final = slice(32, 144)
_INODE: Final = slice(0, 8)
_DEVICE: Final = slice(104, 112)
"""Where `struct statx` has them (statx(2)), and where they are in that part; its layout is the same on every
architecture."""


def identity_of(path: str) -> Callable[[], Identity]:
    """What asks for the identity of whatever is at a path; it raises OSError as `os.stat` does."""
    statx = _function("statx", ctypes.c_int)
    if statx is None:
        return lambda: _identity(path)
    # All that is passed is made once: to convert it with each commit costs more than the call. Several threads may ask,
    # and share the answer: it is written and copied in one piece each, under the interpreter lock.
    answer = (ctypes.c_char * _STATX_BYTES)()
    of_path = (_AT_FDCWD, os.fsencode(path), _AT_STATX_DONT_SYNC, _STATX_INO, ctypes.byref(answer))
    content = memoryview(answer).cast("B")[_ASKED]

    def found() -> Identity:
        if statx(*of_path) != 0:
            return _identity(path)  # it fails there as well, with the right exception
        raw = content.tobytes()
        return raw[_INODE] + raw[_DEVICE]

    return found


def beginning_of(descriptor: int, size_bytes: int) -> Callable[[], bytes]:
    """What reads the first bytes of an open file."""
    pread = _function("pread", ctypes.c_ssize_t)
    if pread is None:
        return lambda: os.pread(descriptor, size_bytes, 0)
    buffer = (ctypes.c_char * size_bytes)()  # shared, as above
    of_file = (descriptor, ctypes.byref(buffer), ctypes.c_size_t(size_bytes), ctypes.c_long(0))

    def read() -> bytes:
        count = pread(*of_file)
        return buffer.raw[:count] if count >= 0 else os.pread(descriptor, size_bytes, 0)

    return read


def _identity(path: str) -> Identity:
    status = os.stat(path)  # noqa: PTH116 - `Path.stat` takes twice as long
    return status.st_dev, status.st_ino


def _function(name: str, result: type) -> "Callable[..., int] | None":
    """A function of the C library that is called with the interpreter lock held; None when there is none."""
    if os.uname().sysname != "Linux":
        return None
    try:
        function = getattr(ctypes.PyDLL(None), name)
    except (OSError, AttributeError):
        return None
    function.restype = result
    found: Callable[..., int] = function
    return found


MAGIC: Final = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
"""How a WAL begins; the last bit says in which order its checksums add up."""

_HEADER: Final = struct.Struct(">8xI4x8s8x")  # size of a page, salt
_FRAME: Final = struct.Struct(">II8s8x")  # number of the page, pages of the database after a commit, salt


def holds_more_than(wal: Path, database: Path) -> bool:
    """Whether a WAL holds committed pages that are not in the database file as they stand in the WAL.

    Checksums are not looked at: a page that a power cut tore counts as one that is not in the database.

    Raises:
        OSError: one of the files cannot be read.
    """
    with wal.open("rb") as frames, database.open("rb") as pages:
        header = frames.read(_HEADER.size)
        if len(header) < _HEADER.size or header[:4] not in MAGIC:
            return False
        page_bytes, salt = _HEADER.unpack(header)
        for number, offset in _committed(frames, page_bytes, salt).items():
            frames.seek(offset)
            pages.seek((number - 1) * page_bytes)
            if frames.read(page_bytes) != pages.read(page_bytes):
                return True
    return False


def _committed(frames: BinaryIO, page_bytes: int, salt: bytes) -> dict[int, int]:
    """Where the newest committed state of each page begins, by the number of the page."""
    committed: dict[int, int] = {}
    of_transaction: dict[int, int] = {}
    while len(head := frames.read(_FRAME.size)) == _FRAME.size:
        number, pages_after_commit, its_salt = _FRAME.unpack(head)
        if its_salt != salt:
            break  # left over from before the WAL was begun anew
        of_transaction[number] = frames.tell()
        if len(frames.read(page_bytes)) < page_bytes:
            break  # what was being written when it ended
        if pages_after_commit:
            committed |= of_transaction
            of_transaction.clear()
    return committed


_logger: Final = logging.getLogger("livesync.storage")

WAL: Final = "-wal"
INDEX: Final = "-shm"


class Lost(StorageUnavailable):
    """The WAL has no name any more; what is in it can still be moved into the database file."""


class Foreign(StorageUnavailable):
    """The WAL is not what was written: nothing of it may be used any more, and nobody may take it for whole."""


class NamedFile:
    """A file, and the name under which it should be found."""

    def __init__(self, path: Path) -> None:
        """It is any file so far."""
        self.path = path
        self.identity: Identity | None = None
        self.found = identity_of(str(path))
        """Device and inode of what is there now; raises OSError as `stat`. Asked with every commit."""

    def remember(self) -> None:
        """From now on it is this file, not whatever may be at its path. Raises OSError when it is not there."""
        self.identity = self.found()

    def is_there(self) -> bool:
        """Whether it is found under its name."""
        try:
            return self.found() == self.identity
        except OSError:
            return False


class _Side(NamedFile):
    def __init__(self, database: Path, suffix: str) -> None:
        super().__init__(database.with_name(database.name + suffix))
        self.spare = database.with_name(f".{database.name}{suffix}")


class SideFiles:
    """The two files beside one database file."""

    def __init__(self, database: Path) -> None:
        """Nothing is looked at yet."""
        self._database = database
        self._wal, self._index = _Side(database, WAL), _Side(database, INDEX)
        self._content: int | None = None  # descriptor of the WAL, while it is held
        self._beginning: Callable[[], bytes] = bytes  # reads the first bytes of it
        self._begun = False  # whether SQLite has written in it; before, it may be what a power cut left

    @property
    def index(self) -> Path:
        """Where the index of the WAL is."""
        return self._index.path

    # --- from start to end ------------------------------------------------------------------------------------------

    def settle(self) -> str | None:
        """Look at what a server that did not end well has left; called before SQLite opens the database.

        Returns:
            Why the database must not be opened; None when it may.

        Raises:
            OSError: something cannot be looked at.
        """
        self._index.spare.unlink(missing_ok=True)  # it is made anew; only the WAL holds what is nowhere else
        wal, spare = self._wal.path, self._wal.spare
        if not spare.exists() or (wal.exists() and wal.samefile(spare)):
            return None
        is_new = not wal.exists() and not self._database.stat().st_size  # whoever removed the old one begins anew
        same = wal.exists() and wal.read_bytes() == spare.read_bytes()  # the whole directory was copied
        if not is_new and not same and holds_more_than(spare, self._database):
            return (
                f"{wal.name} was removed or replaced while it was in use; {spare.name} is the same file and holds what "
                f"was acknowledged last. Rename that to {wal.name}; only if the database was written to, or replaced "
                f"by a backup, since: delete it"
            )
        spare.unlink()
        return None

    def hold(self) -> None:
        """Remember the files that SQLite has just opened, and give each a spare name where the file system can.

        Raises:
            OSError: they are not there.
        """
        for side in (self._wal, self._index):
            side.remember()
            if side.spare.exists() and not side.spare.samefile(side.path):
                side.spare.unlink()
            with suppress(OSError):  # no hard links here, or it is there already
                os.link(side.path, side.spare)
        self._content = os.open(self._wal.path, os.O_RDONLY | os.O_CLOEXEC)
        self._beginning = beginning_of(self._content, len(MAGIC[0]))

    def let_go(self) -> None:
        """Forget them, and take the spare names away."""
        if self._content is not None:
            os.close(self._content)
            self._content = None
            self._begun = False
            for side in (self._wal, self._index):
                side.identity = None
                with suppress(OSError):
                    side.spare.unlink(missing_ok=True)

    # --- in between -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """See that the WAL is what will be found; give it its name back if need be. A few microseconds.

        Raises:
            Lost: that could not be done.
            Foreign: another file is in its place, or it was overwritten.
        """
        if self._content is None:
            return
        if not self._wal.is_there():
            self._put_back(self._wal)
        begins = self._beginning()
        if begins in MAGIC:
            self._begun = True
        elif self._begun and begins:
            raise Foreign(
                f"{self._wal.path} was overwritten or cut off while in use, and with it what was acknowledged since "
                "the last checkpoint: restart the server, and see whether a backup is needed."
            )

    def check_index(self) -> None:
        """The same for the index, on which no event depends: at worst, it is without its name until the end."""
        if self._content is not None and not self._index.is_there():
            with suppress(Lost):
                self._put_back(self._index)

    def _put_back(self, side: _Side) -> None:
        in_the_way = side.path.exists()
        if in_the_way and side is self._wal and side.path.stat().st_size:
            raise Foreign(
                f"{side.path} was replaced while in use, by another program that writes: stop the server, "
                "and leave one of the two files."
            )
        try:
            self._link(side, in_the_way=in_the_way)
        except OSError as error:
            if side.is_there():
                return  # another thread was faster
            raise Lost(f"{side.path} was removed, and cannot be put back ({error.strerror})") from error
        _logger.error("%s was removed while in use. It has been put back, and nothing was lost.", side.path)

    def _link(self, side: _Side, *, in_the_way: bool) -> None:
        if identity_of(str(side.spare))() != side.identity:
            raise FileNotFoundError(errno.ENOENT, "the spare name leads elsewhere")
        if in_the_way:  # what a program made that opened the database in the meantime
            between = side.spare.with_name(side.spare.name + "~")
            between.unlink(missing_ok=True)
            os.link(side.spare, between)
            between.replace(side.path)
        else:
            os.link(side.spare, side.path)
        directory = os.open(self._database.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
