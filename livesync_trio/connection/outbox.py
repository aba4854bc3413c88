"""What is queued for one peer, bounded in bytes (invariant 4), and its way to the peer's channel (decision 0005).

Filled by anybody without waiting. What the socket takes at once is written by the server's one flushing task (`peers`),
for all peers that have something, in one turn; only for a peer whose socket is full, or that is being closed, does a
task of its own carry on. An idle connection needs no task to write.
"""

import enum
import math
from collections.abc import Callable

import attrs
import trio

from livesync_trio.connection import frame_log
from livesync_trio.connection.channel import Channel, ChannelEnded, Message, SharedMessage, size_of
from livesync_trio.errors import RULES, Kind
from livesync_trio.limits import (
    OUTBOX_HARD_MAX_BYTES,
    OUTBOX_LOW_WATER_BYTES,
    OUTBOX_MAX_BYTES,
    OUTBOX_SHARE_BYTES,
    SHED_AFTER_S,
    SHED_BYTES_PER_S,
    WRITE_BATCH_BYTES,
)
from livesync_trio.memory import Budget
from livesync_trio.telemetry import get_logger

_log = get_logger("connection")


@attrs.frozen
class Closing:
    """Why the connection is to be closed once everything queued has been written.

    Attributes:
        kind: gives the close code.
        reason: short text for the close frame.
    """

    kind: Kind
    reason: str


class WrittenBy(enum.Enum):
    """Who writes what is queued."""

    NOBODY = enum.auto()
    """There is nothing, or nobody has been told."""
    FLUSH = enum.auto()
    """The flushing task has been told."""
    TASK = enum.auto()
    """A task of the connection carries on; nobody else may write."""


def nobody() -> None:
    """Whom an outbox tells of work before its connection runs, and after it has ended."""


class Outbox:
    """Ready messages on their way to one peer.

    While the peer's socket takes all that comes, nothing is counted for the server. From when it does not until it has
    taken everything, the bytes count against what the server may hold.
    """

    __slots__ = (
        "_channel",
        "_counted_bytes",
        "_logs",
        "_messages",
        "_number",
        "_reading",
        "_room",
        "_sending",
        "_slow",
        "_written_by",
        "closing",
        "due_s",
        "on_work",
        "queued_bytes",
    )

    def __init__(self, channel: Channel, sending: Budget, number: int) -> None:
        """Nothing is written before `flush`.

        Args:
            channel: where everything goes.
            sending: the server's budget for what sockets do not take at once.
            number: names the connection in the log.
        """
        self._channel = channel
        self._sending = sending
        self._number = number
        self._logs = frame_log.wanted()
        self._slow = False  # the bytes are counted for the server
        self._counted_bytes = 0  # of that budget: what is queued, and what is being written
        self._messages: list[Message] = []  # a deque would hold 760 bytes for every idle peer
        self.queued_bytes = 0
        """Bytes not yet handed to the channel."""
        self._written_by = WrittenBy.NOBODY
        self._room: trio.lowlevel.ParkingLot | None = None  # whoever waits for the queue to shrink
        self._reading: trio.Lock | None = None
        self.closing: Closing | None = None
        self.due_s = math.inf
        """Until when the peer must have taken what is being written, should the server need the memory."""
        self.on_work: Callable[[], None] = nobody
        """Called when there is something to write or the connection is to be closed."""

    @property
    def reading(self) -> trio.Lock:
        """Held by the pull that reads history, so that many pulls of one peer hold one page in memory, not many."""
        if self._reading is None:
            self._reading = trio.Lock()
        return self._reading

    @property
    def overfull(self) -> bool:
        """Whether a live pull must be sent back to the log instead of adding more."""
        if self.queued_bytes <= OUTBOX_SHARE_BYTES:
            return False
        return self.queued_bytes > OUTBOX_MAX_BYTES or (self._slow and self._sending.over)

    @property
    def flooded(self) -> bool:
        """Whether nothing more may be read from the peer."""
        if self.queued_bytes < OUTBOX_SHARE_BYTES or self.closing is not None:
            return False
        return self.queued_bytes >= OUTBOX_HARD_MAX_BYTES or (self._slow and self._sending.over)

    # --- filling ---------------------------------------------------------------------------------------------------

    def put(self, message: Message) -> None:
        """Queue a message. Never waits; dropped when the connection is closing."""
        if self.closing is None:
            self._messages.append(message)
            if type(message) is SharedMessage:  # most there are, without a call
                size_bytes = len(message.text)
            else:
                size_bytes = len(message) if type(message) is bytes else size_of(message)
            self.queued_bytes += size_bytes
            if self._slow:
                self._count(size_bytes)
            if self._written_by is WrittenBy.NOBODY:
                self._written_by = WrittenBy.FLUSH
                self.on_work()

    def close(self, kind: Kind, reason: str = "") -> None:
        """Ask for the connection to be closed after what is queued. The first reason counts."""
        if self.closing is None:
            self.closing = Closing(kind, reason)
            self._make_room()
            self.on_work()

    async def low(self) -> None:
        """Wait until less than the low water mark is queued; returns at once when the connection is closing.

        Always a checkpoint.
        """
        await trio.lowlevel.checkpoint()
        while self.queued_bytes >= OUTBOX_LOW_WATER_BYTES and self.closing is None:
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

    # --- writing ---------------------------------------------------------------------------------------------------

    @property
    def carried_on(self) -> bool:
        """Whether a task carries on, or is about to; nobody else may write then."""
        return self._written_by is WrittenBy.TASK

    def flush(self) -> bool:
        """Write what the socket takes without waiting.

        Returns:
            False when `carry_on` must write the rest, or close, in a task that the caller starts. True, and nothing was
            done, while such a task runs.

        Raises:
            ChannelEnded: the peer has gone.
        """
        if self._written_by is WrittenBy.TASK:
            return True
        if self.closing is None:
            self._written_by = WrittenBy.NOBODY
            if (
                self.queued_bytes <= WRITE_BATCH_BYTES and self._room is None and not self._logs
            ):  # `_take`, without a call
                messages, self._messages, self.queued_bytes = self._messages, [], 0
            else:
                messages = self._take()
            if not self._channel.begin(messages):
                unsent_bytes = self._expect(messages)
                self._slow = True
                self._count(self.queued_bytes + unsent_bytes)
            elif not self.queued_bytes:
                return True
        self._written_by = WrittenBy.TASK  # from now on, not only from the task's first step
        return False

    async def carry_on(self) -> None:
        """Write until nothing is left, however long the peer takes, and close if that is asked for.

        Returns when it is done; a peer that has gone or takes no bytes for the stall limit is left, with `closing` set.
        """
        self._written_by = WrittenBy.TASK
        try:
            await self._channel.finish()
            self._count_written()
            while self.queued_bytes or self._channel.has_control:
                messages = self._take()
                if not self._channel.begin(messages):
                    self._expect(messages)
                    await self._channel.finish()
                self._count_written()
            if self.closing is not None:
                code = RULES[self.closing.kind].close_code or RULES[Kind.INTERNAL].close_code
                assert code is not None
                await self._channel.close(code, self.closing.reason)
        except ChannelEnded as ended:
            if ended.kind is not None:
                _log.warning("connection cut", connection=self._number, kind=str(ended.kind), reason=str(ended))
            self.close(Kind.STALLED)
        finally:
            self._written_by = WrittenBy.NOBODY
            self.due_s = math.inf
            self._count(-self._counted_bytes)
            self._slow = False

    def _take(self) -> list[Message]:
        """Messages for one write, in order, together at most `WRITE_BATCH_BYTES` unless the first alone is larger."""
        taken = self._messages
        if self.queued_bytes <= WRITE_BATCH_BYTES:
            self._messages, self.queued_bytes = [], 0
        else:
            count, size_bytes = 1, size_of(taken[0])
            while count < len(taken) and size_bytes + (next_bytes := size_of(taken[count])) <= WRITE_BATCH_BYTES:
                size_bytes += next_bytes
                count += 1
            taken, self._messages = taken[:count], taken[count:]
            self.queued_bytes -= size_bytes
        if self._room is not None and self.queued_bytes < OUTBOX_LOW_WATER_BYTES:
            self._make_room()
        if self._logs:
            frame_log.log_sent(self._number, taken)
        return taken

    def _count_written(self) -> None:
        """The socket has taken everything that `_take` gave so far."""
        self._count(self.queued_bytes - self._counted_bytes)

    def _count(self, size_bytes: int) -> None:
        if self._slow:
            self._counted_bytes += size_bytes
            if size_bytes >= 0:
                self._sending.take(size_bytes)
            else:
                self._sending.give_back(-size_bytes)

    def _expect(self, unsent: list[Message]) -> int:
        """The peer has so long to take these; gives their bytes."""
        unsent_bytes = sum(map(size_of, unsent))
        self.due_s = trio.current_time() + SHED_AFTER_S + unsent_bytes / SHED_BYTES_PER_S
        return unsent_bytes
