"""Reading the export format, line by line: what cannot come next is refused with the reason.

Owns the grammar and the checks; `jsonl` says what the format is. Pure: lines in, values out.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from livesync_trio.archive.entries import Broken, Entry, Walk, checked_text, entry_of_text
from livesync_trio.archive.jsonl import FORMAT, VERSION, Checksums, End, FileEnd, Header, Line
from livesync_trio.model import BackendId, StoreId
from livesync_trio.wire.reading import Unreadable, plain, read
from livesync_trio.wording import count


class _Shape(msgspec.Struct):
    """Any line; which members it has tells what it is."""

    createdAt: str | UnsetType = UNSET  # noqa: N815 -- the format's names
    user: str | None = None
    id: str | None = None
    event: Raw | UnsetType = UNSET
    eventText: str | UnsetType = UNSET  # noqa: N815
    format: str | UnsetType = UNSET
    version: int = 0
    storeId: str = ""  # noqa: N815
    backendId: str | None = None  # noqa: N815
    head: int = 0
    events: int = 0
    end: str | UnsetType = UNSET
    sha256: str = ""
    endOfFile: bool = False  # noqa: N815
    stores: int = 0


_TEXTS: Final = ("createdAt", "user", "id", "eventText", "format", "storeId", "backendId", "end", "sha256")


def _take_texts(shape: _Shape, members: dict[str, object]) -> None:
    """Take every text as it was written."""
    for name in _TEXTS:
        if isinstance(text := members.get(name), str):
            setattr(shape, name, text)


_shape: Final = msgspec.json.Decoder(_Shape)


def line_of(text: bytes) -> Line:
    """Read one line.

    Raises:
        Broken: it is none of the format.
    """
    try:
        shape, restore = read(_shape, text)
        if restore is not bytes:  # a lone surrogate somewhere: msgspec has read stand-ins (`wire.surrogates`)
            _take_texts(shape, plain(text))
    except Unreadable as error:
        raise Broken(f"it is not a line of an export: {error}") from None
    for what in _TEXTS:
        if isinstance(given := getattr(shape, what), str):
            checked_text(given, what)
    if isinstance(shape.createdAt, str):
        if isinstance(shape.eventText, str):
            return entry_of_text(shape.eventText.encode(), shape.createdAt, shape.user, shape.id)
        if isinstance(shape.event, Raw):
            return entry_of_text(restore(shape.event), shape.createdAt, shape.user, shape.id)
    elif shape.format == FORMAT:
        if shape.version != VERSION:
            raise Broken(f"it has version {shape.version} of the format, this livesync knows {VERSION}")
        backend_id = BackendId(shape.backendId) if shape.backendId else None
        return Header(StoreId(shape.storeId), backend_id, shape.head, shape.events)
    elif isinstance(shape.end, str):
        return End(StoreId(shape.end), shape.head, shape.events, shape.sha256)
    elif shape.endOfFile:
        return FileEnd(shape.stores, shape.sha256)
    raise Broken("it is not a line of an export")


class Reading:
    """Follows the lines of a file in order and refuses the first that cannot come next.

    Attributes:
        header: the section that is open, None between sections.
        walk: the log of that section so far.
        complete: whether the file has come to its end.
    """

    def __init__(self) -> None:
        self.header: Header | None = None
        self.walk = Walk()
        self.complete = False
        self.sums = Checksums()
        self._seen: set[StoreId] = set()

    def take(self, text: bytes) -> Line:
        """Take the next line, with its line break.

        Raises:
            Broken: it cannot come here; says why.
        """
        if self.complete:
            raise Broken("something follows the end of the file")
        if not text.endswith(b"\n"):
            raise Broken("the file ends in the middle of a line")
        line = line_of(text)
        match line:
            case Entry():
                self._in_section()
                self.walk.step(line)
                self.sums.passed(text)
            case Header():
                self._begin(line)
                self.sums.begin(text)
            case End():
                self._end(line)
                self.sums.ended(text)
            case FileEnd():
                self._file_end(line)
        return line

    def missing(self) -> str | None:
        """What a file that ends here lacks, in words; None when it is complete."""
        if self.complete:
            return None
        if self.header is None:
            return "the file ends before its last line"
        return f"the file ends within store {self.header.store_id!r}, after e{self.walk.head} of e{self.header.head}"

    def _begin(self, header: Header) -> None:
        if self.header is not None:
            raise Broken(f"store {self.header.store_id!r} has no end")
        if header.store_id in self._seen:
            raise Broken(f"store {header.store_id!r} comes twice")
        self._seen.add(header.store_id)
        self.header, self.walk = header, Walk()

    def _in_section(self) -> Header:
        if self.header is None:
            raise Broken("it belongs to no store")
        return self.header

    def _end(self, end: End) -> None:
        header = self._in_section()
        found = (header.store_id, self.walk.head, self.walk.events)
        if found != (end.store_id, end.head, end.events) or found[1:] != (header.head, header.events):
            raise Broken(
                f"store {header.store_id!r} should have {count(header.events, 'event')} up to e{header.head}, "
                f"has {self.walk.events} up to e{self.walk.head}, "
                f"and its last line speaks of {end.events} up to e{end.head}"
            )
        if end.sha256 != self.sums.section:
            raise Broken(f"the checksum of store {header.store_id!r} is wrong: something in it was changed")
        self.header = None

    def _file_end(self, end: FileEnd) -> None:
        if self.header is not None:
            raise Broken(f"store {self.header.store_id!r} has no end")
        if (end.stores, end.sha256) != (self.sums.stores, self.sums.file):
            raise Broken(
                f"it should hold {count(end.stores, 'store')} and holds {self.sums.stores}, or their checksums differ"
            )
        self.complete = True


def entries_of_lines(lines: Iterable[bytes]) -> Iterator[Entry]:
    """Events of the section whose header has just been read, up to its end; lines were checked before."""
    for text in lines:
        line = line_of(text)
        if not isinstance(line, Entry):
            return
        yield line
