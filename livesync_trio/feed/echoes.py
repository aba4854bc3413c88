"""What a client has written over its connection, so that it is not sent to it again.

Only what the client knows already is left out: a change counts as its own if it came with the client's transaction and
the row is exactly the one that the client was told of with the answer. What a trigger or a default made of it is sent.
What is forgotten here is sent too, which costs the client nothing but the bytes.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

import attrs
import trio

from livesync_trio.feed.tables import Change, Relation, Row, text_of

FEED_OWN_ROWS_KEPT: Final = 4_000
"""Rows that are remembered of what one client wrote, each with a few hundred bytes."""

Key = tuple[str, str]
"""A table, and what names a row in it."""


def digest_of(row: Row | None) -> bytes:
    """What a row is recognized by; None: it is gone."""
    return b"" if row is None else hashlib.sha256(text_of(row).encode()).digest()


@attrs.define(eq=False)
class _Written:
    rows: dict[Key, set[bytes]]
    answered: trio.Event = attrs.field(factory=trio.Event)


class OwnWrites:
    """The transactions of one connection, by their numbers."""

    def __init__(self) -> None:
        """There is nothing yet."""
        self._written: dict[int, _Written] = {}
        self._rows = 0

    def expect(self, xid: int, rows: Mapping[Key, set[bytes]]) -> None:
        """A transaction is about to be committed that makes rows what the client knows."""
        self._written[xid] = _Written(dict(rows))
        self._rows += len(rows)
        while self._rows > FEED_OWN_ROWS_KEPT and len(self._written) > 1:
            self._forget(next(iter(self._written)))

    def answer(self, xid: int) -> None:
        """The client was told of it: what comes behind may be sent."""
        if xid in self._written:
            self._written[xid].answered.set()

    def forget_unanswered(self) -> None:
        """The client was told that it failed, or that nobody knows: if it was committed all the same, it is sent."""
        for xid in [xid for xid, written in self._written.items() if not written.answered.is_set()]:
            self._forget(xid)

    def _forget(self, xid: int) -> None:
        written = self._written.pop(xid)
        self._rows -= len(written.rows)
        written.answered.set()  # who waits goes on, and sends all

    def expects(self, xid: int) -> bool:
        """Whether a transaction is one of them."""
        return xid in self._written

    async def answered(self, xid: int) -> None:
        """Wait for the answer: a client that left before it must be sent its changes when it comes back."""
        if xid in self._written:
            await self._written[xid].answered.wait()

    def knows(self, xid: int, relation: Relation, change: Change) -> bool:
        """Whether the client knows a change because it made it."""
        written = self._written.get(xid)
        if written is None:
            return False
        key = (relation.table, change.key)
        known = written.rows.get(key)
        if known is None:
            return False
        if digest_of(change.row) in known:
            return True
        del written.rows[key]  # something else changed it too: from here on the client is sent all
        self._rows -= 1
        return False
