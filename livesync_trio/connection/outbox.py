"""What is queued for one peer, bounded in bytes (invariant 4).

Owns the queue and its watermarks. Filled by anybody without waiting, emptied by `writing`.
"""

from collections.abc import Callable

import attrs
import trio

from livesync_trio.connection.channel import Message
from livesync_trio.errors import Kind
from livesync_trio.limits import (
    OUTBOX_HARD_MAX_BYTES,
    OUTBOX_LOW_WATER_BYTES,
    OUTBOX_MAX_BYTES,
    OUTBOX_SHARE_BYTES,
    WRITE_BATCH_BYTES,
)
from livesync_trio.memory import Budget


@attrs.frozen
class Closing:
    """Why the connection is to be closed once everything queued has been written.

    Attributes:
        kind: gives the close code.
        reason: short text for the close frame.
    """

    kind: Kind
    reason: str


def nobody() -> None:
    """Whom an outbox tells of work before its connection runs, and after it has ended."""


def size_of(message: Message) -> int:
    """Bytes of a message."""
    return len(message) if isinstance(message, bytes) else sum(map(len, message))


class Outbox:
    """Ready messages on their way to one peer.

    While the peer's socket takes all that comes, nothing is counted for the server. From when it does not until it has
    taken everything, the bytes count against what the server may hold (`slow_from_now_on`, `written`).
    """

    __slots__ = (
        "_announced",
        "_budget",
        "_counted_bytes",
        "_messages",
        "_queued_bytes",
        "_reading",
        "_room",
        "closing",
        "on_work",
    )

    def __init__(self) -> None:
        self._budget: Budget | None = None  # set while the peer is slow
        self._counted_bytes = 0  # of that budget: what is queued, and what is being written
        self._messages: list[Message] = []  # a deque would hold 760 bytes for every idle peer
        self._queued_bytes = 0
        self._announced = False  # somebody has been told of the work and will take it
        self._room: trio.lowlevel.ParkingLot | None = None  # whoever waits for the queue to shrink
        self._reading: trio.Lock | None = None
        self.closing: Closing | None = None
        self.on_work: Callable[[], None] = nobody
        """Called when there is something to write or the connection is to be closed."""

    @property
    def reading(self) -> trio.Lock:
        """Held by the pull that reads history, so that many pulls of one peer hold one page in memory, not many."""
        if self._reading is None:
            self._reading = trio.Lock()
        return self._reading

    @property
    def queued_bytes(self) -> int:
        """Bytes not yet handed to the channel."""
        return self._queued_bytes

    @property
    def overfull(self) -> bool:
        """Whether a live pull must be sent back to the log instead of adding more."""
        if self._queued_bytes <= OUTBOX_SHARE_BYTES:
            return False
        return self._queued_bytes > OUTBOX_MAX_BYTES or (self._budget is not None and self._budget.over)

    @property
    def flooded(self) -> bool:
        """Whether nothing more may be read from the peer."""
        if self._queued_bytes < OUTBOX_SHARE_BYTES or self.closing is not None:
            return False
        return self._queued_bytes >= OUTBOX_HARD_MAX_BYTES or (self._budget is not None and self._budget.over)

    def slow_from_now_on(self, budget: Budget, unsent_bytes: int) -> None:
        """The socket does not take everything: count what is queued, and what is being written already."""
        self._budget = budget
        self._count(self._queued_bytes + unsent_bytes)

    def written(self) -> None:
        """The socket has taken everything that `take` gave so far."""
        self._count(self._queued_bytes - self._counted_bytes)

    def no_longer_slow(self) -> None:
        """Everything was taken, or the peer has gone: count nothing more."""
        self._count(-self._counted_bytes)
        self._budget = None

    def _count(self, size_bytes: int) -> None:
        budget = self._budget
        if budget is not None:
            self._counted_bytes += size_bytes
            if size_bytes >= 0:
                budget.take(size_bytes)
            else:
                budget.give_back(-size_bytes)

    def put(self, message: Message) -> None:
        """Queue a message. Never waits; dropped when the connection is closing."""
        if self.closing is None:
            self._messages.append(message)
            size_bytes = len(message) if isinstance(message, bytes) else sum(map(len, message))
            self._queued_bytes += size_bytes
            if self._budget is not None:
                self._count(size_bytes)
            if not self._announced:
                self._announced = True
                self.on_work()

    def close(self, kind: Kind, reason: str = "") -> None:
        """Ask for the connection to be closed after what is queued. The first reason counts."""
        if self.closing is None:
            self.closing = Closing(kind, reason)
            self._make_room()
            self.on_work()

    def take(self) -> list[Message]:
        """Take messages for one write.

        Returns:
            Messages in order, together at most `WRITE_BATCH_BYTES` unless the first alone is larger; possibly none.
        """
        self._announced = False
        taken = self._messages
        if self._queued_bytes <= WRITE_BATCH_BYTES:
            self._messages, self._queued_bytes = [], 0
        else:
            count, size_bytes = 1, size_of(taken[0])
            while count < len(taken) and size_bytes + (next_bytes := size_of(taken[count])) <= WRITE_BATCH_BYTES:
                size_bytes += next_bytes
                count += 1
            taken, self._messages = taken[:count], taken[count:]
            self._queued_bytes -= size_bytes
        if self._queued_bytes < OUTBOX_LOW_WATER_BYTES:
            self._make_room()
        return taken

    async def low(self) -> None:
        """Wait until less than the low water mark is queued; returns at once when the connection is closing.

        Always a checkpoint.
        """
        await trio.lowlevel.checkpoint()
        while self._queued_bytes >= OUTBOX_LOW_WATER_BYTES and self.closing is None:
            await self._wait_for_room()

    async def not_flooded(self) -> None:
        """Wait while nothing more may be read from the peer. No checkpoint otherwise."""
        while self.flooded:
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        """The lot exists while somebody waits: an idle peer holds none."""
        if self._room is None:
            self._room = trio.lowlevel.ParkingLot()
        await self._room.park()

    def _make_room(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.unpark_all()
