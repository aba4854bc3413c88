"""The registry of clients: who has been here, whose a client id is, and how far each has come.

Kept as records in the server's database, so that it survives restarts and all servers share it. An entry is forgotten
some time after its client was last seen.
"""

import time
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from livesync_trio.feed.position import Position, Token
from livesync_trio.storage.base import NO_RECORD
from livesync_trio.store.records import Moved, Records

KIND: Final = "feed-client"

CLIENTS_MAX: Final = 100_000
"""Clients that are remembered: anybody who may connect can make up names."""


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far an initial state has been taken: as of which commit, and which rows of which table are next."""

    lsn: int
    done: tuple[str, ...] = ()
    table: str = ""
    after_key: str = ""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a client.

    Attributes:
        owner: who registered it; None for somebody who proved nothing.
        seen_s: when it was last seen, in seconds since 1970.
        epoch: of the history that its position belongs to.
        rights: fingerprint of what it could see.
        lsn: the commit up to which it has everything.
        seq: the last change of a commit that it has in part.
        progress: of the initial state, while that is being taken.
        active: whether it was connected then.
    """

    owner: str | None
    seen_s: float
    epoch: str = ""
    rights: str = ""
    lsn: int = 0
    seq: int = Position(0).seq
    progress: Progress | None = None
    active: bool = False

    @property
    def token(self) -> Token:
        """How far it has come."""
        return Token(Position(self.lsn, self.seq), self.epoch)


class Taken(Exception):
    """The client id belongs to somebody else."""


class Full(Exception):
    """So many clients are remembered that no new one can be."""


class Clients:
    """The registry."""

    def __init__(self, records: Records, ttl_s: float) -> None:
        """`ttl_s`: how long a client that is not seen is remembered, in seconds."""
        self._records = records
        self._ttl_s = ttl_s
        self._count = 0  # as of the last sweep, and those that came since

    async def register(self, client_id: str, owner: str | None) -> Entry | None:
        """A client has come.

        Returns:
            What was known of it; None when nothing was, or too long ago.

        Raises:
            Taken: its id belongs to somebody else.
            Full: it is new, and there is no room.
            StorageUnavailable: try again later.
        """
        while True:
            record = await self._records.get(KIND, client_id)
            known = None if record is None else msgspec.json.decode(record.value, type=Entry)
            if known is not None and self._is_old(known):
                known = None
            if known is not None and known.owner != owner:
                raise Taken
            if record is None and self._count >= CLIENTS_MAX:
                raise Full
            entry = Entry(owner, time.time(), active=True) if known is None else _seen(known, active=True)
            try:
                version = NO_RECORD if record is None else record.version
                await self._records.put(KIND, client_id, msgspec.json.encode(entry), version)
            except Moved:
                continue
            self._count += record is None
            return known

    async def note(self, client_id: str, entry: Entry) -> None:
        """Remember how far a client has come. Raises Taken, StorageUnavailable."""
        while True:
            record = await self._records.get(KIND, client_id)
            if record is not None and msgspec.json.decode(record.value, type=Entry).owner != entry.owner:
                raise Taken
            try:
                version = NO_RECORD if record is None else record.version
                await self._records.put(
                    KIND, client_id, msgspec.json.encode(_seen(entry, active=entry.active)), version
                )
            except Moved:
                continue
            return

    async def unregister(self, client_id: str) -> bool:
        """Forget a client; its next visit begins anew. Gives whether it was known."""
        while (record := await self._records.get(KIND, client_id)) is not None:
            try:
                await self._records.put(KIND, client_id, None, record.version)
            except Moved:
                continue
            return True
        return False

    async def get(self, client_id: str) -> Entry | None:
        """What is known of a client."""
        record = await self._records.get(KIND, client_id)
        entry = None if record is None else msgspec.json.decode(record.value, type=Entry)
        return None if entry is None or self._is_old(entry) else entry

    async def all(self) -> AsyncIterator[tuple[str, Entry]]:
        """All clients that are remembered."""
        async for record in self._records.all_of(KIND):
            entry = msgspec.json.decode(record.value, type=Entry)
            if not self._is_old(entry):
                yield record.key, entry

    async def forget_old(self) -> int:
        """Let go of those that were not seen for too long. Gives how many."""
        count = left = 0
        async for record in self._records.all_of(KIND):
            if self._is_old(msgspec.json.decode(record.value, type=Entry)):
                try:
                    await self._records.put(KIND, record.key, None, record.version)
                    count += 1
                except Moved:
                    left += 1
            else:
                left += 1
        self._count = left
        return count

    def _is_old(self, entry: Entry) -> bool:
        return entry.seen_s < time.time() - self._ttl_s


def _seen(entry: Entry, *, active: bool) -> Entry:
    return msgspec.structs.replace(entry, seen_s=time.time(), active=active)
