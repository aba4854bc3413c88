"""What one peer has asked for and not been answered, bounded in bytes (invariant 4).

Owns the count, which is part of the server's budget for what is received, and the wait of the peer's reader.
"""

import trio

from livesync_trio.limits import MESSAGE_LARGE_BYTES, PUSHES_SHARE_BYTES, PUSHES_UNDER_WAY_MAX_BYTES
from livesync_trio.memory import Memory


class Unanswered:
    """Bytes of requests under way: each is taken once and given back once, whatever becomes of it."""

    __slots__ = ("_lot", "_memory", "held_bytes")

    def __init__(self, memory: Memory) -> None:
        """`memory`: the budgets of the server."""
        self._memory = memory
        self.held_bytes = 0
        self._lot: trio.lowlevel.ParkingLot | None = None  # while the reader waits: an idle peer holds none

    @property
    def too_much(self) -> bool:
        """Whether nothing more may be read before something is answered."""
        if self.held_bytes < PUSHES_SHARE_BYTES:
            return False
        return self.held_bytes >= PUSHES_UNDER_WAY_MAX_BYTES or self._memory.received.over

    def take(self, size_bytes: int) -> None:
        """A request of that size is under way."""
        self.held_bytes += size_bytes
        budget = self._memory.received if size_bytes <= MESSAGE_LARGE_BYTES else self._memory.received_large
        budget.used_bytes += size_bytes  # what is held already

    def give_back(self, size_bytes: int) -> None:
        """It was answered, refused or forgotten."""
        self.held_bytes -= size_bytes
        budget = self._memory.received if size_bytes <= MESSAGE_LARGE_BYTES else self._memory.received_large
        budget.give_back(size_bytes)
        if self._lot is not None:
            self._lot.unpark_all()

    async def not_too_much(self) -> None:
        """Wait while nothing more may be read. No checkpoint otherwise."""
        while self.too_much:
            self._lot = self._lot or trio.lowlevel.ParkingLot()
            await self._lot.park()
        self._lot = None
