"""Files that appear under their name only when they are whole.

Owns the way to the disk: everything is written to `<name>.part` beside the target, synced, and moved there at the end.
A name that ends with `.gz` is compressed; `-` is standard output.
"""

import gzip
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self, cast

from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import ARCHIVE_LINE_MAX_BYTES, COMPRESSION_LEVEL

STANDARD_OUTPUT: Final = "-"
PRIVATE: Final = 0o600
"""Mode of a new file: it holds what users wrote."""


def part_of(path: Path) -> Path:
    """Where a file stands until it is whole."""
    return path.with_name(path.name + ".part")


def _trusted(_: Path) -> None:
    """What was written is taken to be there."""


class OutFile:
    """A file being written, as a context manager; `finish` makes it appear, what is not finished stays as `.part`."""

    def __init__(self, name: str, *, overwrite: bool = False, keep_bytes: int = 0) -> None:
        """Open the `.part` file.

        Args:
            name: path of the file, or `-`.
            overwrite: replace a file of that name.
            keep_bytes: how much of a `.part` file that is there already is kept; not with `.gz` and `-`.

        Raises:
            CommandError: the file exists, or cannot be written.
        """
        self._path = None if name == STANDARD_OUTPUT else Path(name)
        self.written_bytes = keep_bytes
        if self._path is None:
            self._raw = sys.stdout.buffer
            self._out: BinaryIO = self._raw
            return
        if self._path.exists() and not overwrite:
            raise CommandError(Kind.ALREADY_THERE, f"{self._path} exists: name another file, or say --overwrite.")
        try:
            descriptor = os.open(part_of(self._path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        except OSError as error:
            raise cannot_write(part_of(self._path), error) from error
        self._raw = os.fdopen(descriptor, "r+b")
        self._raw.truncate(keep_bytes)
        self._raw.seek(keep_bytes)
        self._out = self._raw
        if self._path.suffix == ".gz":  # without name and time: the same log gives the same bytes
            packed = gzip.GzipFile("", "wb", COMPRESSION_LEVEL, self._raw, mtime=0)
            self._out = cast("BinaryIO", packed)

    def write(self, data: bytes) -> None:
        """Write more.

        Raises:
            CommandError: there is no room, say.
        """
        try:
            self._out.write(data)
        except OSError as error:
            raise cannot_write(self._path or Path("standard output"), error) from error
        self.written_bytes += len(data)

    def finish(self, check: Callable[[Path], object] = _trusted) -> None:
        """Sync what was written and give the file its name.

        Args:
            check: reads the file as it stands on the disk before it gets its name (not with `-`); what it raises
                leaves the name to whatever had it.

        Raises:
            CommandError: it cannot be written.
        """
        try:
            if self._out is not self._raw:
                self._out.close()
            self._raw.flush()
            if self._path is not None:
                os.fsync(self._raw.fileno())
                check(part_of(self._path))
                part_of(self._path).replace(self._path)
                _sync_directory(self._path.parent)
        except OSError as error:
            raise cannot_write(self._path or Path("standard output"), error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._path is not None:
            self._raw.close()


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
    except (OSError, EOFError) as error:
        raise CommandError(Kind.BAD_ARCHIVE, f"{path} cannot be read: {error}.") from error
    if len(line) >= ARCHIVE_LINE_MAX_BYTES:
        raise CommandError(Kind.BAD_ARCHIVE, f"{path} has a line of more than {ARCHIVE_LINE_MAX_BYTES} bytes.")
    return line
