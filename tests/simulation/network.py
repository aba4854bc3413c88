"""The simulated network: connections that delay, stall, lose, end half, and deliver what a client sent before it left.

Each connection has delays of its own, so that what two of them carry overtakes each other; a client that comes back
on a new connection may find what it sent on the old one arriving after it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence

import trio

from livesync_trio.connection.channel import ChannelEnded, Incoming, Message, whole
from livesync_trio.errors import Kind

STALL_LIMIT_S = 60.0
COMES_BACK_AFTER_S = 1.2
"""When a client that left has opened another connection (`leader.Pace`)."""


class Wire:
    """One direction of a connection: in order, after a delay, or never."""

    def __init__(self, dice: random.Random, window_bytes: int) -> None:
        self._dice = dice
        self._window_bytes = window_bytes
        self._items: deque[tuple[float, bytes]] = deque()
        self._reader = trio.lowlevel.ParkingLot()
        self._writer = trio.lowlevel.ParkingLot()
        self._last_s = 0.0
        self.queued_bytes = 0
        self.cut = False
        self.finished = False
        self.finished_s = float("inf")
        self.swallows = False

    def put(self, message: bytes) -> None:
        if self.cut or self.finished or self.swallows:
            return
        if not self._items:
            self._last_s = max(self._last_s, trio.current_time() + self._dice.uniform(0.001, 0.05))
        elif self._dice.random() < 0.2:
            self._last_s += self._dice.uniform(0.001, 0.02)
        self._items.append((self._last_s, message))
        self.queued_bytes += len(message)
        self._reader.unpark_all()

    def end(self) -> None:
        """The connection is gone; what is under way is lost."""
        self.cut = True
        self._items.clear()
        self.queued_bytes = 0
        self._reader.unpark_all()
        self._writer.unpark_all()

    def finish(self) -> None:
        """The sender has closed its end: what is under way still arrives, then the end."""
        self.finished = True
        self.finished_s = trio.current_time()
        self._reader.unpark_all()

    def congest(self, delay_s: float) -> None:
        """What is put from now on takes so much longer."""
        self._last_s = max(self._last_s, trio.current_time()) + delay_s

    async def get(self) -> list[bytes] | None:
        """What has arrived, waiting for something; None when the connection is gone."""
        while not self.cut:
            if not self._items:
                if self.finished:
                    return None
                await self._reader.park()
                continue
            now_s = trio.current_time()
            if self._items[0][0] > now_s:
                await trio.sleep_until(self._items[0][0])
                continue
            arrived: list[bytes] = []
            while self._items and self._items[0][0] <= now_s:
                message = self._items.popleft()[1]
                self.queued_bytes -= len(message)
                arrived.append(message)
            self._writer.unpark_all()
            return arrived
        return None

    async def room(self) -> bool:
        """Wait until the wire takes more. False: not within the stall limit."""
        if self.queued_bytes <= self._window_bytes or self.cut:
            return True
        with trio.move_on_after(STALL_LIMIT_S):
            while self.queued_bytes > self._window_bytes and not self.cut:
                await self._writer.park()
            return True
        return False


class Link:
    """A connection between a client and a server process; the client's end is a `leader.Line`."""

    def __init__(self, dice: random.Random, note: Callable[[bytes], None]) -> None:
        window_bytes = dice.choice([300, 4 * 1024, 64 * 1024])
        self.up, self.down = Wire(dice, 64 * 1024), Wire(dice, window_bytes)
        self._arrived: deque[bytes] = deque()
        self._note = note

    # --- the client's end ---------------------------------------------------------------------------------------------

    def put(self, message: bytes) -> None:
        self.up.put(message)

    async def get(self) -> bytes | None:
        while not self._arrived:
            arrived = await self.down.get()
            if arrived is None:
                return None
            self._arrived.extend(arrived)
        message = self._arrived.popleft()
        self._note(message)
        return message

    def leave(self) -> None:
        self.up.finish()
        self.down.end()

    # --- the weather --------------------------------------------------------------------------------------------------

    @property
    def gone(self) -> bool:
        return self.down.cut

    def cut(self) -> None:
        """Both ends learn that the connection is gone."""
        self.up.end()
        self.down.end()

    def congest(self, delay_s: float) -> None:
        """What the client sends takes so much longer: it may come back on another connection before that arrives."""
        self.up.congest(delay_s)

    def go_silent(self) -> None:
        """Half-open: nothing arrives any more, and nobody is told."""
        self.up.swallows = self.down.swallows = True


class SimulatedChannel:
    """A link as the server's transport (`connection.channel.Channel`)."""

    def __init__(self, link: Link, note: Callable[[str], None]) -> None:
        self._link = link
        self._note = note
        self._waiting: list[bytes] = []
        self.on_control: Callable[[], None] = lambda: None
        self.take_short: Callable[[bytes], bool] = lambda _: False

    held_back = overdue = False

    async def flow(self, take: Callable[[list[Incoming]], bool]) -> None:
        while (arrived := await self._link.up.get()) is not None:
            if trio.current_time() > self._link.up.finished_s + COMES_BACK_AFTER_S:
                self._note(f"arrived late: {len(arrived)} messages of a client that had left")
            if not take([Incoming(message, text=True) for message in arrived]):
                return
        raise ChannelEnded(None, "gone")

    @property
    def has_control(self) -> bool:
        return False

    def begin(self, messages: Sequence[Message]) -> bool:
        self._waiting = [whole(message) for message in messages]
        return not self._waiting

    async def finish(self) -> None:
        messages, self._waiting = self._waiting, []
        await trio.lowlevel.checkpoint()
        for message in messages:
            if not await self._link.down.room():
                raise ChannelEnded(Kind.STALLED, "took no bytes")
            self._link.down.put(message)

    def probe(self) -> None:
        """A WebSocket ping: the client's network stack answers it, if anything arrives there at all."""
        if not self._link.down.swallows:
            self._link.up.put(b'{"_tag":"Eof"}')

    async def close(self, code: int, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        self._note(f"closed with {code}: {reason}")
        self._link.cut()

    def let_go(self) -> None:
        pass
