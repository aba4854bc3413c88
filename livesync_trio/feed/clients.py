"""The registry of clients: who has been here, whose a client id is, and how far each has come.

Kept as records in the server's database, so that it survives restarts and all servers share it. An entry is forgotten
some time after its client was last seen. What a connection knows of its client beyond that is its `ClientState`.
"""

import time
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec
import trio

from livesync_trio.errors import StorageUnavailable
from livesync_trio.feed.history.reading import TooOld
from livesync_trio.feed.history.state import State
from livesync_trio.feed.position import START, Position, Token
from livesync_trio.storage.base import NO_RECORD
from livesync_trio.store.records import Moved, Records
from livesync_trio.telemetry import get_logger

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


_log = get_logger("feed")

FEED_NOTE_S: Final = 1.0
"""How often the position that a client has acknowledged while it follows is stored."""


class ClientState:
    """How far one client has come."""

    def __init__(
        self, clients: Clients, client_id: str, owner: str | None, worth_a_line: Callable[[str], bool]
    ) -> None:
        """It was not looked for yet.

        Args:
            clients: the registry.
            client_id: the client's name for itself.
            owner: id of whose client it is; None for somebody who proved nothing.
            worth_a_line: whether the log shall have another line of some kind.
        """
        self._clients = clients
        self._worth_a_line = worth_a_line
        self._client_id = client_id
        self._owner = owner
        self._entry = Entry(owner, 0.0)
        self._resumes = False  # what it has taken of an initial state still counts
        self._noted_s = 0.0
        self._position: Position | None = None  # behind what was sent; None: it needs an initial state
        self.sent = START
        """Behind the last whole commit that was sent."""
        self.told = START
        """Of that, what the client was told."""

    # --- the registry ----------------------------------------------------------------------------------------------

    async def arrive(self, state: State, rights: str, *, wants_all: bool) -> bool:
        """Register the client.

        What is known of it stays as it is until it takes an initial state: whenever it goes, the registry says under
        which rights it got what it has.

        Returns:
            Whether it can go on from a position: it has all its rows, with the same rights, of the same history.

        Raises:
            Taken, Full, StorageUnavailable: as `Clients.register`.
        """
        known = await self._clients.register(self._client_id, self._owner)
        if known is None:
            self._entry = Entry(self._owner, time.time(), active=True)
            return False
        self._entry = msgspec.structs.replace(known, seen_s=time.time(), active=True)
        same = (known.epoch, known.rights) == (state.epoch, rights)
        self._resumes = same and wants_all
        return same and known.progress is None

    async def leave(self) -> None:
        """The connection has ended. Raises Taken."""
        if self._entry.seen_s:
            self._entry = msgspec.structs.replace(self._entry, active=False)
            await self.note()

    async def note(self) -> None:
        """Remember how far it is. When that cannot be done now, it may have to fetch anew later. Raises Taken."""
        try:
            await self._clients.note(self._client_id, self._entry)
        except StorageUnavailable as error:
            if self._worth_a_line("position not noted"):
                _log.warning("the position of a client was not noted", reason=str(error))

    # --- positions -------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> str:
        """Of the history that it follows."""
        return self._entry.epoch

    @property
    def progress(self) -> Progress | None:
        """How far its initial state is taken; None when it takes none, or begins."""
        return self._entry.progress if self._resumes else None

    @property
    def position(self) -> Position:
        """Behind what was sent. Raises TooOld when it needs an initial state."""
        if self._position is None:
            raise TooOld
        return self._position

    @position.setter
    def position(self, position: Position) -> None:
        self._position = position

    def starts_over(self) -> None:
        """Nothing that it has counts any more. The registry hears of it when it begins to take something else."""
        self._position, self._resumes = None, False

    def takes_all(self, state: State, rights: str, progress: Progress) -> None:
        """It begins to take an initial state, or goes on with one."""
        self._entry = msgspec.structs.replace(self._entry, epoch=state.epoch, rights=rights, lsn=0, progress=progress)
        self._position, self._resumes = None, True

    def has_taken(self, progress: Progress) -> None:
        """It has acknowledged a part of its initial state."""
        self._entry = msgspec.structs.replace(self._entry, progress=progress)

    def moved_to(self, position: Position) -> None:
        """It has everything up to here, and said so."""
        self._entry = msgspec.structs.replace(self._entry, lsn=position.commit_lsn, seq=position.seq, progress=None)
        self._position = max(position, self._position or position)

    def acknowledged(self, position: Position) -> bool:
        """Live changes have arrived. Gives whether that should be noted now; not each of them is."""
        if self._position is None or not Position(self._entry.lsn, self._entry.seq) < position <= self.sent:
            return False
        self.moved_to(position)
        now_s = trio.current_time()
        if now_s - self._noted_s <= FEED_NOTE_S:
            return False
        self._noted_s = now_s
        return True
