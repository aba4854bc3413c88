"""Files that appear under their name only when they are whole.

Owns the way to the disk: everything is written to `<name>.part` beside the target, synced, and moved there at the end.
One process at a time writes a `.part` file (a lock says so), and it is never a link. A name that ends with `.gz` is
compressed; `-` is standard output.
"""

import errno
import fcntl
import gzip
import os
import stat
import sys
import zlib
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self, cast

from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import ARCHIVE_LINE_MAX_BYTES

COMPRESSION_LEVEL: Final = 3
"""zlib's level for `.gz` files: JSON shrinks nearly as far as at 6 in half the time."""

STANDARD_OUTPUT: Final = "-"
_PRIVATE: Final = 0o600
"""Mode of a new file: it holds what users wrote."""


def part_of(path: Path) -> Path:
    """Where a file stands until it is whole."""
    return path.with_name(path.name + ".part")


def _trusted(_: Path) -> None:
    """What was written is taken to be there."""


class Differs(Exception):
    """What an interrupted run has left is not what would be written now."""


class Part:
    """A `.part` file that only this process writes; a context manager. `finish` gives it its name."""

    def __init__(self, path: Path, *, overwrite: bool, protected: Collection[Path] = (), resumable: bool) -> None:
        """Open and lock it.

        Args:
            path: the file that it becomes.
            overwrite: replace a file of that name.
            protected: files of the database, which must not be replaced, whatever name is used for them.
            resumable: keep what is there, and what was written when the context is left without `finish`.

        Raises:
            CommandError: the file exists, is one of the database's, is being written by another process, or cannot be
                written.
        """
        self.path, self.part = path, part_of(path)
        self._overwrite, self._resumable, self._finished = overwrite, resumable, False
        for name in (path, self.part):
            if any(_same(name, one) for one in protected):
                raise CommandError(Kind.BAD_CONFIG, f"{name} belongs to the database itself: name another file.")
        if not self._replaceable():
            raise CommandError(Kind.ALREADY_THERE, f"{path} exists: name another file, or say --overwrite.")
        try:
            self.file = self._opened()
        except OSError as error:
            raise cannot_write(self.part, error) from error
        if not resumable:
            self.file.truncate(0)

    def _replaceable(self) -> bool:
        """Whether the name is free, or may be taken. Raises CommandError where there is something else than a file."""
        if self.path.exists() and not self.path.is_file():
            raise CommandError(Kind.BAD_CONFIG, f"{self.path} is not a regular file: name another one.")
        return self._overwrite or not self.path.exists()

    def _opened(self) -> BinaryIO:
        while True:
            descriptor = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _PRIVATE)
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                    raise OSError(errno.EINVAL, "it is not a file of its own: remove it")
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_ours(descriptor):  # whoever held the lock may have given the file its name meanwhile
                    os.fchmod(descriptor, _PRIVATE)
                    return os.fdopen(descriptor, "r+b")
            except BlockingIOError:
                os.close(descriptor)
                raise CommandError(
                    Kind.ALREADY_THERE, f"{self.path} is being written by another process: wait until it has ended."
                ) from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _is_ours(self, descriptor: int) -> bool:
        """Whether the name of the `.part` file still means the file that is open."""
        try:
            named, held = os.lstat(self.part), os.fstat(descriptor)
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)

    def finish(self, check: Callable[[Path], object] = _trusted) -> None:
        """Sync what was written, check it, and give the file its name.

        Raises:
            CommandError: it cannot be written, or somebody else has taken one of the names meanwhile.
        """
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            check(self.part)
            if not self._is_ours(self.file.fileno()) or not self._replaceable():
                raise CommandError(Kind.ALREADY_THERE, f"{self.path} was made or changed by another program meanwhile.")
            self.part.replace(self.path)
            self._finished = True
            _sync_directory(self.path.parent)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # what is buffered still, on a full disk: the reason has been told
            self.file.flush()
        if not self._finished and self._is_ours(self.file.fileno()):
            empty = os.fstat(self.file.fileno()).st_size == 0
            if empty or not self._resumable:
                self.part.unlink(missing_ok=True)
        with suppress(OSError):
            self.file.close()


def _same(one: Path, other: Path) -> bool:
    """Whether two names mean one file, or would."""
    with suppress(OSError):
        return one.samefile(other)
    return one.resolve() == other.resolve()


class OutFile:
    """A file being written, as a context manager; `finish` makes it appear."""

    def __init__(
        self, name: str, *, overwrite: bool = False, resume: bool = False, protected: Collection[Path] = ()
    ) -> None:
        """Open the `.part` file.

        Args:
            name: path of the file, or `-`.
            overwrite: replace a file of that name.
            resume: go on behind what an interrupted run has left, as far as it is the same; not with `.gz` and `-`.
            protected: as for `Part`.

        Raises:
            CommandError: as `Part`.
        """
        self.written_bytes = 0
        self.resuming = False
        self._part: Part | None = None
        self._packed: gzip.GzipFile | None = None
        if name == STANDARD_OUTPUT:
            self._raw = self._out = cast("BinaryIO", sys.stdout.buffer)
            return
        path = Path(name)
        packed = path.suffix == ".gz"
        self._part = Part(path, overwrite=overwrite, protected=protected, resumable=resume and not packed)
        self._raw = self._out = self._part.file
        if packed:  # without name and time: the same log gives the same bytes
            self._packed = gzip.GzipFile("", "wb", COMPRESSION_LEVEL, self._raw, mtime=0)
            self._out = cast("BinaryIO", self._packed)
        else:
            self.resuming = resume

    def kept_line(self) -> bytes:
        """The next line of what an interrupted run has left; empty where there is none. It stays the next one."""
        if not self.resuming:
            return b""
        line = self._raw.readline(ARCHIVE_LINE_MAX_BYTES)
        self._raw.seek(-len(line), os.SEEK_CUR)
        return line

    def write(self, data: bytes) -> None:
        """Write more; what an interrupted run has left is compared instead.

        Raises:
            Differs: it has left something else.
            CommandError: there is no room, say.
        """
        try:
            if self.resuming:
                there = self._raw.read(len(data))
                if there != data:
                    self._raw.seek(-len(there), os.SEEK_CUR)
                    self._raw.truncate()
                    self.resuming = False
                    if not data.startswith(there):
                        raise Differs
                    self._out.write(data)
            else:
                self._out.write(data)
        except OSError as error:
            raise self._failed(error) from error
        self.written_bytes += len(data)

    def begin_anew(self) -> None:
        """Forget what was written and what was left."""
        self._raw.seek(0)
        self._raw.truncate()
        self.resuming, self.written_bytes = False, 0

    def finish(self, check: Callable[[Path], object] = _trusted) -> None:
        """Sync what was written and give the file its name.

        Args:
            check: reads the file as it stands on the disk before it gets its name (not with `-`); what it raises
                leaves the name to whatever had it.

        Raises:
            CommandError: it cannot be written.
        """
        try:
            if self._packed is not None:
                self._packed.close()
            if self.resuming:
                self._raw.truncate()
            self._raw.flush()
        except OSError as error:
            raise self._failed(error) from error
        if self._part is not None:
            self._part.finish(check)

    def _failed(self, error: OSError) -> Exception:
        if self._part is not None:
            return cannot_write(self._part.path, error)
        return error if isinstance(error, BrokenPipeError) else cannot_write(Path("standard output"), error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._packed is not None:
            with suppress(OSError, ValueError):
                self._packed.close()
        if self._part is not None:
            self._part.__exit__()


def cannot_write(path: Path, error: OSError) -> CommandError:
    """What an error of the file system means for the operator."""
    return CommandError(Kind.BAD_CONFIG, f"{path} cannot be written: {error.strerror or error}.")


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def next_line(file: BinaryIO, path: Path) -> bytes:
    """The next line with its line break, empty at the end.

    Raises:
        CommandError: it cannot be read, or has no end within the limit.
    """
    try:
        line = file.readline(ARCHIVE_LINE_MAX_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise CommandError(Kind.BAD_ARCHIVE, f"{path} cannot be read: {error}.") from error
    if len(line) >= ARCHIVE_LINE_MAX_BYTES:
        raise CommandError(Kind.BAD_ARCHIVE, f"{path} has a line of more than {ARCHIVE_LINE_MAX_BYTES} bytes.")
    return line
