"""Records: small durable documents of the server's own, written by the writer thread and read by readers.

Owns nothing: it gives the records of the storage contract the shape in which services use them.
"""

from collections.abc import AsyncGenerator, Callable
from typing import Final, Protocol, TypeVar

from livesync_trio.storage import base
from livesync_trio.storage.base import NO_RECORD, PutRecord, Record, RecordMoved

T = TypeVar("T")

_PAGE: Final = 100


class Asked(Protocol):
    """Readers that questions can be put to (`readers.ThreadReaders`)."""

    async def ask(self, question: Callable[[base.Reader], T]) -> T:
        """Put a question to a handle."""


class Commits(Protocol):
    """What writes can be given to (`persistence.Writer`)."""

    async def commit(self, write: base.Write) -> base.Outcome:
        """Carry out one write durably."""


class Moved(Exception):
    """The record has not the version that was expected; `found` is what is there."""

    def __init__(self, found: Record | None) -> None:
        super().__init__("the record was changed by somebody else")
        self.found = found


class Records:
    """The records of a server's database."""

    def __init__(self, writer: Commits, readers: Asked) -> None:
        self._writer = writer
        self._readers = readers

    async def put(self, kind: str, key: str, value: bytes | None, expected: int = NO_RECORD) -> int:
        """Write a record, or delete it with None; gives its new version. Not cancellable.

        Raises:
            Moved: it has not the version `expected`; nothing was written.
            StorageUnavailable: nothing is known to be written; read it again before relying on it.
            ValueError: see `PutRecord`.
        """
        outcome = await self._writer.commit(PutRecord(kind, key, value, expected))
        if isinstance(outcome, RecordMoved):
            raise Moved(outcome.found)
        assert isinstance(outcome, base.RecordStored)
        return outcome.version

    async def get(self, kind: str, key: str) -> Record | None:
        """One record. Raises as `base.Reader.record`."""
        return await self._readers.ask(lambda reader: reader.record(kind, key))

    async def all_of(self, kind: str, after: str | None = None) -> AsyncGenerator[Record, None]:
        """All records of a kind in the order of their keys, read page by page. Raises as `base.Reader.records`.

        Args:
            kind: which sort.
            after: those whose key comes after this one only.
        """
        while True:
            page = await self._readers.ask(lambda reader, after=after: reader.records(kind, after, _PAGE))  # type: ignore[misc]
            for record in page:
                yield record
            if len(page) < _PAGE:
                return
            after = page[-1].key
