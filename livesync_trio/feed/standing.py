"""Where a client of the feed stands: in its connection, and in the registry, where the next connection finds it."""

import time
from collections.abc import Callable
from typing import Final

import msgspec
import trio

from livesync_trio.errors import StorageUnavailable
from livesync_trio.feed.clients import Clients, Entry, Progress
from livesync_trio.feed.history.reading import TooOld
from livesync_trio.feed.history.state import State
from livesync_trio.feed.position import START, Position
from livesync_trio.telemetry import get_logger

_log = get_logger("feed")

FEED_NOTE_S: Final = 1.0
"""How often the position that a client has acknowledged while it follows is stored."""


class Standing:
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
