r"""The export format: JSON Lines, one section a store, one event a line (`docs/moving-in.md` describes it).

    {"format":"livesync-jsonl","version":1,"storeId":"notes","backendId":"…","head":2,"events":2}
    {"createdAt":"2026-11-20T12:34:56.789Z","event":{"name":…,"args":…,"seqNum":1,…}}
    {"createdAt":"2026-11-20T12:34:57.120Z","user":"ann","id":"invoice-17","event":{…}}
    {"end":"notes","events":2,"head":2,"sha256":"…"}
    {"endOfFile":true,"stores":1,"sha256":"…"}

The event is the text that is kept, byte for byte. Where a client sent line breaks between the tokens of its `args`,
which JSON allows, that text would not be one line; it then stands as a string: `"eventText":"{\"name\":…"`.

A section's checksum is the SHA-256 of its lines up to the end line; the file's is that of the end lines. Nothing in a
file says when it was made: the same log gives the same bytes. Owns what is written; `jsonl_reading` reads it. Pure.
"""

import hashlib
from typing import Final

import attrs
import msgspec

from livesync_trio.archive.entries import Entry
from livesync_trio.model import BackendId, StoreId

FORMAT: Final = "livesync-jsonl"
VERSION: Final = 1


@attrs.frozen
class Header:
    """How a section begins.

    Attributes:
        store_id: the store.
        backend_id: its identity; None when the file's author knew of none.
        head: number of its last event, 0 when it is empty.
        events: how many there are.
    """

    store_id: StoreId
    backend_id: BackendId | None
    head: int
    events: int


@attrs.frozen
class End:
    """How a section ends.

    Attributes:
        store_id: the store.
        head: number of the last event before it.
        events: how many events came.
        sha256: checksum of the section's lines, in hexadecimal.
    """

    store_id: StoreId
    head: int
    events: int
    sha256: str


@attrs.frozen
class FileEnd:
    """How a file ends.

    Attributes:
        stores: how many sections came.
        sha256: checksum of their end lines, in hexadecimal.
    """

    stores: int
    sha256: str


Line = Header | Entry | End | FileEnd


# --- the lines -------------------------------------------------------------------------------------------------------


def _line(members: dict[str, object]) -> bytes:
    return msgspec.json.encode(members) + b"\n"


def _header_line(header: Header) -> bytes:
    return _line(
        {
            "format": FORMAT,
            "version": VERSION,
            "storeId": header.store_id,
            "backendId": header.backend_id,
            "head": header.head,
            "events": header.events,
        }
    )


def _entry_line(entry: Entry) -> bytes:
    user = b"" if entry.user is None else b'"user":%b,' % msgspec.json.encode(entry.user)
    append_id = b"" if entry.append_id is None else b'"id":%b,' % msgspec.json.encode(entry.append_id)
    if b"\n" in entry.json or b"\r" in entry.json:
        text = b'"eventText":%b' % msgspec.json.encode(entry.json.decode())
    else:
        text = b'"event":%b' % entry.json
    return b'{"createdAt":"%b",%b%b%b}\n' % (entry.created_at.encode(), user, append_id, text)


def _end_line(end: End) -> bytes:
    return _line({"end": end.store_id, "events": end.events, "head": end.head, "sha256": end.sha256})


class Checksums:
    """The checksums of a file while its lines pass, in either direction."""

    def __init__(self) -> None:
        self.stores = 0
        self._section = hashlib.sha256()
        self._file = hashlib.sha256()

    @property
    def section(self) -> str:
        """Of the section's lines so far."""
        return self._section.hexdigest()

    @property
    def file(self) -> str:
        """Of the end lines so far."""
        return self._file.hexdigest()

    def begin(self, line: bytes) -> bytes:
        """Take the first line of a section."""
        self._section = hashlib.sha256(line)
        return line

    def passed(self, line: bytes) -> bytes:
        """Take the line of an event."""
        self._section.update(line)
        return line

    def ended(self, line: bytes) -> bytes:
        """Take the last line of a section."""
        self.stores += 1
        self._file.update(line)
        return line


class Sections:
    """Makes the lines of a file, one section after the other."""

    def __init__(self, checksums: Checksums | None = None) -> None:
        """`checksums`: of a beginning that is there already."""
        self._sums = checksums or Checksums()

    def begin(self, header: Header) -> bytes:
        """The first line of a section."""
        return self._sums.begin(_header_line(header))

    def entry(self, entry: Entry) -> bytes:
        """The line of one event."""
        return self._sums.passed(_entry_line(entry))

    def end(self, header: Header) -> bytes:
        """The last line of a section."""
        return self._sums.ended(_end_line(End(header.store_id, header.head, header.events, self._sums.section)))

    def file_end(self) -> bytes:
        """The last line of the file."""
        return _line({"endOfFile": True, "stores": self._sums.stores, "sha256": self._sums.file})
