"""Bytes that all clients of a server may hold together: who wants more waits in line for what others give back.

Owns the counts. A count is of bytes that one client alone causes to be held; small ones are counted where that costs
nothing, and bounded by the limits of a connection where they are not.
"""

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio

from livesync_trio.limits import (
    MESSAGE_FREE_BYTES,
    MESSAGE_LARGE_BYTES,
    READS_AT_A_TIME,
    RECEIVING_LARGE_MAX_BYTES,
    RECEIVING_MAX_BYTES,
    SENDING_MAX_BYTES,
)


class Budget:
    """A number of bytes, shared first come, first served. Used in the Trio thread only."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._waiting: deque[tuple[int, trio.Event]] = deque()
        self.used_bytes = 0
        self.reads = trio.Semaphore(READS_AT_A_TIME)
        """Held by who reads with this budget: a page may turn out larger than what was taken for it, which must be
        counted before too many others have read as well."""
        self.large_read = trio.Lock()
        """Held besides by who knows that a page will be large."""

    @property
    def over(self) -> bool:
        """Whether everything is taken, or somebody waits."""
        return self.used_bytes >= self._limit_bytes or bool(self._waiting)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def take(self, size_bytes: int) -> None:
        """Count bytes that are held already, whether or not that is within the limit."""
        self.used_bytes += size_bytes

    def try_take(self, size_bytes: int) -> bool:
        """Take bytes if they are to be had at once and nobody waits. What is larger than all fits when it is alone."""
        if self._waiting or not self._fits(size_bytes):
            return False
        self.used_bytes += size_bytes
        return True

    async def wait_for(self, size_bytes: int) -> None:
        """Take bytes, waiting in line for them. Cancelled, it has taken none. No checkpoint when they are to be had."""
        if self.try_take(size_bytes):
            return
        ticket = (size_bytes, trio.Event())
        self._waiting.append(ticket)
        try:
            await ticket[1].wait()
        except trio.Cancelled:
            if ticket[1].is_set():
                self.give_back(size_bytes)
            else:
                self._waiting.remove(ticket)
                self._serve()
            raise

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[None, None]:
        """Hold `reads`. No checkpoint when it is to be had: a turn of the loop for each page would slow down a pull."""
        try:
            self.reads.acquire_nowait()
        except trio.WouldBlock:
            await self.reads.acquire()
        try:
            yield
        finally:
            self.reads.release()

    def give_back(self, size_bytes: int) -> None:
        """Give back what was taken."""
        self.used_bytes -= size_bytes
        if self._waiting:
            self._serve()

    def _fits(self, size_bytes: int) -> bool:
        return self.used_bytes + size_bytes <= self._limit_bytes or not self.used_bytes

    def _serve(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size_bytes, turn = self._waiting.popleft()
            self.used_bytes += size_bytes
            turn.set()


@attrs.frozen(eq=False)
class Memory:
    """The budgets of a server (docs/hardening.md).

    Attributes:
        received: messages that are being received, and pushes until they are answered.
        received_large: the same, of those above `MESSAGE_LARGE_BYTES`: no real client sends such, so that whoever
            hoards them is in nobody's way.
        sending: history that is being read, and whatever sockets do not take at once.
    """

    received: Budget = attrs.field(factory=lambda: Budget(RECEIVING_MAX_BYTES))
    received_large: Budget = attrs.field(factory=lambda: Budget(RECEIVING_LARGE_MAX_BYTES))
    sending: Budget = attrs.field(factory=lambda: Budget(SENDING_MAX_BYTES))

    @asynccontextmanager
    async def room_for(self, size_bytes: int) -> AsyncGenerator[None, None]:
        """Room for a message of that size; waits until there is some."""
        budget = self.receiving(size_bytes)
        if size_bytes <= MESSAGE_FREE_BYTES:
            yield
            return
        await budget.wait_for(size_bytes)
        try:
            yield
        finally:
            budget.give_back(size_bytes)

    def receiving(self, size_bytes: int) -> Budget:
        """The budget of a message of that size."""
        return self.received_large if size_bytes > MESSAGE_LARGE_BYTES else self.received
