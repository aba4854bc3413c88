"""Export files and backups as a source.

Owns the index of a file: where each store begins. The whole file is checked before anything of it is given.
"""

import gzip
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

import attrs

from livesync_trio.archive.entries import Broken, Entry
from livesync_trio.archive.files import next_line
from livesync_trio.archive.jsonl import End, Header
from livesync_trio.archive.jsonl_reading import Reading, entries_of_lines
from livesync_trio.archive.reading import OnEvents, unheard
from livesync_trio.archive.sources import SourceStore
from livesync_trio.errors import CommandError, Kind

_GZIP_MAGIC: Final = b"\x1f\x8b"


@attrs.frozen
class Section:
    """One store of a file. `offset`: where its first event stands, in bytes."""

    header: Header
    offset: int


class JsonlFile:
    """An export file (`Source`)."""

    def __init__(self, path: Path, on_events: OnEvents = unheard, *, keep: bool = True) -> None:
        """Nothing is read yet.

        Args:
            path: the file.
            on_events: told of progress while the file is checked.
            keep: False when it is to be checked only, and no event asked for: nothing is unpacked then.
        """
        self._keep = keep
        self._path = path
        self._on_events = on_events
        self._file: BinaryIO | None = None
        self._sections: list[Section] | None = None

    def describe(self) -> str:
        """The file."""
        return f"export file {self._path}"

    def sections(self) -> list[Section]:
        """What is in the file, once all of it was found to be whole.

        Raises:
            CommandError: it is not.
        """
        if self._sections is None:
            self._sections = self._checked()
        return self._sections

    def stores(self) -> list[SourceStore]:
        """Stores of the file; see the contract."""
        return [
            SourceStore(f"section {number}", header.store_id, header.backend_id, header.head, header.events)
            for number, header in enumerate((section.header for section in self.sections()), 1)
        ]

    def entries(self, store: SourceStore) -> Iterator[Entry]:
        """Events of one store; see the contract."""
        section = next(one for one in self.sections() if one.header.store_id == store.store_id)
        file = self._opened()
        file.seek(section.offset)
        yield from entries_of_lines(iter(lambda: next_line(file, self._path), b""))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> BinaryIO:
        """The checked file, as it is read for its events."""
        if self._file is None:
            self.sections()
        assert self._file is not None
        return self._file

    def _checked(self) -> list[Section]:
        """Read the file to its end; a compressed one is unpacked on the way, each line once it was found right."""
        try:
            file = self._path.open("rb")
            packed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            file.seek(0)
        except OSError as error:
            raise CommandError(Kind.BAD_ARCHIVE, f"{self._path} cannot be read: {error.strerror}.") from error
        if not packed:
            self._file = file
            return self._checked_lines(file, None)
        with file, gzip.open(file) as unpacked:
            self._file = tempfile.TemporaryFile() if self._keep else None  # noqa: SIM115 - until `close`
            room_bytes = shutil.disk_usage(tempfile.gettempdir()).free // 2
            return self._checked_lines(cast("BinaryIO", unpacked), self._file, room_bytes)

    def _checked_lines(self, file: BinaryIO, copy: BinaryIO | None, room_bytes: int = 0) -> list[Section]:
        """Find the sections of a file; `copy` is where its lines go, `room_bytes` how many of them in all."""
        reading, sections, number, offset, told = Reading(), [], 0, 0, 0
        while text := next_line(file, self._path):
            number += 1
            offset += len(text)
            try:
                line = reading.take(text)
            except Broken as error:
                raise CommandError(Kind.BAD_ARCHIVE, f"{self._path}, line {number}: {error}.") from None
            if copy is not None:
                self._keep_line(copy, text, offset, room_bytes)
            if isinstance(line, Header):
                sections.append(Section(line, offset))
                told = 0
            elif isinstance(line, End) or reading.walk.events - told >= _TELL_EVENTS:
                self._on_events(reading.walk.events - told)
                told = reading.walk.events
        missing = reading.missing()
        if missing:
            raise CommandError(Kind.BAD_ARCHIVE, f"{self._path} is not whole: {missing}.")
        return sections

    def _keep_line(self, copy: BinaryIO, text: bytes, kept_bytes: int, room_bytes: int) -> None:
        """Keep a line of a compressed file; `kept_bytes` with it. A small file may be a large one: others need room."""
        place = tempfile.gettempdir()
        if kept_bytes > room_bytes:
            raise CommandError(
                Kind.BAD_CONFIG,
                f"{self._path} unpacks to more than {room_bytes:,} bytes, half of what is free in {place}: name a "
                "larger directory by TMPDIR, or unpack it yourself (gunzip) and name the plain file.",
            )
        try:
            copy.write(text)
        except OSError as error:
            raise CommandError(
                Kind.BAD_CONFIG, f"{self._path} cannot be unpacked in {place}: {error.strerror}."
            ) from error


_TELL_EVENTS: Final = 1_000
"""Progress is told this often."""
