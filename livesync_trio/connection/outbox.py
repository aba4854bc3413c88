"""What is queued for one peer, bounded in bytes (design.md, law 4).

Owns the queue and its watermarks. Filled by anybody without waiting, emptied by the connection's writer task.
"""

from collections import deque

import attrs
import trio

from livesync_trio.errors import Kind
from livesync_trio.limits import OUTBOX_HARD_MAX_BYTES, OUTBOX_LOW_WATER_BYTES, OUTBOX_MAX_BYTES, WRITE_BATCH_BYTES


@attrs.frozen
class Closing:
    """Why the connection is to be closed once everything queued has been written.

    Attributes:
        kind: gives the close code.
        reason: short text for the close frame.
    """

    kind: Kind
    reason: str


class Outbox:
    """Ready messages on their way to one peer."""

    __slots__ = ("_messages", "_queued_bytes", "_room", "_work", "closing")

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._queued_bytes = 0
        self._work = trio.lowlevel.ParkingLot()  # the writer, while there is nothing to write
        self._room = trio.lowlevel.ParkingLot()  # whoever waits for the queue to shrink
        self.closing: Closing | None = None

    @property
    def queued_bytes(self) -> int:
        """Bytes not yet handed to the writer."""
        return self._queued_bytes

    @property
    def overfull(self) -> bool:
        """Whether a live pull must be sent back to the log instead of adding more."""
        return self._queued_bytes > OUTBOX_MAX_BYTES

    def put(self, message: bytes) -> None:
        """Queue a message. Never waits; dropped when the connection is closing."""
        if self.closing is None:
            self._messages.append(message)
            self._queued_bytes += len(message)
            self.wake()

    def close(self, kind: Kind, reason: str = "") -> None:
        """Ask for the connection to be closed after what is queued. The first reason counts."""
        if self.closing is None:
            self.closing = Closing(kind, reason)
            self.wake()
            self._room.unpark_all()

    def wake(self) -> None:
        """Let the writer look: there may be something to write that is not a message (a WebSocket pong)."""
        if self._work:
            self._work.unpark_all()

    async def take(self) -> list[bytes]:
        """Wait for something to do, then take messages for one write.

        Returns:
            Messages in order, together at most `WRITE_BATCH_BYTES` unless the first alone is larger; empty when woken
            for another reason (`wake`, `close`).
        """
        if not self._messages and self.closing is None:
            await self._work.park()
        messages = self._messages
        taken: list[bytes] = []
        size_bytes = 0
        while messages and (not taken or size_bytes + len(messages[0]) <= WRITE_BATCH_BYTES):
            message = messages.popleft()
            size_bytes += len(message)
            taken.append(message)
        self._queued_bytes -= size_bytes
        if self._room and self._queued_bytes < OUTBOX_LOW_WATER_BYTES:
            self._room.unpark_all()
        return taken

    async def low(self) -> None:
        """Wait until less than the low water mark is queued; returns at once when the connection is closing.

        Always a checkpoint.
        """
        await trio.lowlevel.checkpoint()
        while self._queued_bytes >= OUTBOX_LOW_WATER_BYTES and self.closing is None:
            await self._room.park()

    async def not_flooded(self) -> None:
        """Wait while so much is queued that nothing more may be read from the peer. No checkpoint otherwise."""
        while self._queued_bytes >= OUTBOX_HARD_MAX_BYTES and self.closing is None:
            await self._room.park()
