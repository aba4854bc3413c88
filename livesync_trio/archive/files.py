"""Files that appear under their name only when they are whole.

Owns the way to the disk: everything is written to `<name>.part` beside the target, which one process holds at a time,
synced, and moved there at the end. A name that ends with `.gz` is compressed; `-` is standard output.
"""

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
from livesync_trio.limits import ARCHIVE_LINE_MAX_BYTES, COMPRESSION_LEVEL

STANDARD_OUTPUT: Final = "-"
_PRIVATE: Final = 0o600
"""Mode of a new file: it holds what users wrote."""


def part_of(path: Path) -> Path:
    """Where a file stands until it is whole."""
    return path.with_name(path.name + ".part")


def _trusted(_: Path) -> None:
    """What was written is taken to be there."""


class PartFile:
    """The `.part` file of a target. Whoever has it open is the only one who writes to it.

    Attributes:
        target: the name that the file gets when it is whole.
        path: where it stands until then.
        descriptor: of the open file, for reading and writing; locked until it is closed.
    """

    def __init__(self, target: Path, *, overwrite: bool = False, protected: Collection[Path] = ()) -> None:
        """Open and lock it. What an earlier run has left in it stays.

        Args:
            target: the file that is to appear.
            overwrite: replace a file of that name.
            protected: files that must never be replaced, whatever name leads to them: the database itself.

        Raises:
            CommandError: it cannot be written, is there already, is being written by somebody else, or is protected.
        """
        self.target, self.path = target, part_of(target)
        for path in (self.target, self.path):
            if any(_same_file(path, one) for one in protected):
                raise CommandError(Kind.BAD_CONFIG, f"{path} is the database itself, or belongs to it: name another.")
        if target.exists() and not overwrite:
            raise CommandError(Kind.ALREADY_THERE, f"{target} exists: name another file, or say --overwrite.")
        if target.exists() and not target.is_file():
            raise CommandError(Kind.ALREADY_THERE, f"{target} is not a file that could be replaced: name another.")
        try:
            self.descriptor = self._locked()
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def _locked(self) -> int:
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self.path, flags, _PRIVATE)
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                    raise CommandError(
                        Kind.ALREADY_THERE, f"{self.path} is another name of something else: remove it first."
                    )
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._names(descriptor):
                    os.fchmod(descriptor, _PRIVATE)
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                raise CommandError(
                    Kind.ALREADY_THERE,
                    f"Another run is writing {self.target}: wait until it has ended, or name another file.",
                ) from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # the other run has finished between our `open` and our lock

    def _names(self, descriptor: int) -> bool:
        """Whether the path still leads to the open file."""
        with suppress(FileNotFoundError):
            return os.path.samestat(self.path.lstat(), os.fstat(descriptor))
        return False

    def finish(self) -> None:
        """Sync what was written and give the file its name.

        Raises:
            OSError: it cannot be written.
            CommandError: somebody has put another file in its place.
        """
        os.fsync(self.descriptor)
        if not self._names(self.descriptor):
            raise CommandError(Kind.ALREADY_THERE, f"{self.path} was removed or replaced while it was written.")
        self.path.replace(self.target)
        _sync_directory(self.target.parent)

    def discard(self) -> None:
        """Remove what was written; only while it is open."""
        if self._names(self.descriptor):
            self.path.unlink()


class OutFile:
    """A file being written, as a context manager; `finish` makes it appear."""

    def __init__(
        self,
        name: str,
        *,
        overwrite: bool = False,
        resumable: bool = False,
        protected: Collection[Path] = (),
    ) -> None:
        """Open the `.part` file.

        Args:
            name: path of the file, or `-`.
            overwrite: replace a file of that name.
            resumable: what is not finished stays as `.part`; `keep` goes on behind it. Not with `.gz` and `-`.
            protected: see `PartFile`.

        Raises:
            CommandError: see `PartFile`.
        """
        self.written_bytes = 0
        self._finished = False
        self._part: PartFile | None = None
        if name == STANDARD_OUTPUT:
            self._raw = sys.stdout.buffer
            self._out: BinaryIO = self._raw
            self.resumable = False
            return
        path = Path(name)
        packed = path.suffix == ".gz"
        self.resumable = resumable and not packed
        self._part = PartFile(path, overwrite=overwrite, protected=protected)
        self._raw = os.fdopen(self._part.descriptor, "r+b")
        if not self.resumable:
            self._raw.truncate(0)
        self._out = self._raw
        if packed:  # without name and time: the same log gives the same bytes
            self._out = cast("BinaryIO", gzip.GzipFile("", "wb", COMPRESSION_LEVEL, self._raw, mtime=0))

    def begun(self) -> BinaryIO:
        """What an earlier run has left, from its first byte; for reading."""
        self._raw.seek(0)
        return self._raw

    def keep(self, size_bytes: int) -> None:
        """Go on behind so many bytes of what an earlier run has left."""
        self._raw.truncate(size_bytes)
        self._raw.seek(size_bytes)
        self.written_bytes = size_bytes

    def write(self, data: bytes) -> None:
        """Write more.

        Raises:
            CommandError: there is no room, say.
            BrokenPipeError: nobody reads standard output any more.
        """
        try:
            self._out.write(data)
        except OSError as error:
            raise self._failed(error) from error
        self.written_bytes += len(data)

    def finish(self, check: Callable[[Path], object] = _trusted) -> None:
        """Sync what was written and give the file its name.

        Args:
            check: reads the file as it stands on the disk before it gets its name (not with `-`); what it raises
                leaves the name to whatever had it.

        Raises:
            CommandError: it cannot be written.
            BrokenPipeError: nobody reads standard output any more.
        """
        try:
            if self._out is not self._raw:
                self._out.close()
            self._raw.flush()
            if self._part is not None:
                os.fsync(self._part.descriptor)
                check(self._part.path)
                self._part.finish()
        except OSError as error:
            raise self._failed(error) from error
        self._finished = True

    def _failed(self, error: OSError) -> Exception:
        if self._part is None:
            if isinstance(error, BrokenPipeError):
                return error
            return cannot_write(Path("standard output"), error)
        return cannot_write(self._part.path, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._part is None:
            return
        if not self._finished and not self.resumable:
            self._part.discard()
        with suppress(OSError):  # what could not be written on the way cannot be written now
            self._raw.close()


def cannot_write(path: Path, error: OSError) -> CommandError:
    """What an error of the file system means for the operator."""
    return CommandError(Kind.BAD_CONFIG, f"{path} cannot be written: {error.strerror or error}.")


def _same_file(one: Path, other: Path) -> bool:
    """Whether two names lead to one file, or would if it were there."""
    try:
        return one.samefile(other)
    except OSError:
        return one.resolve() == other.resolve()


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
