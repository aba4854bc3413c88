"""A live tail of a store: a subscription whose events go out as messages of one long answer.

Its steps are carried out by whoever takes what is sent, so it reads no faster than its client. While it follows and its
client keeps up, what comes is written by the task that writes for all peers (decision 0005), and its own task rests.
What it holds is bounded in bytes, and so is what all such answers hold together; an event is encoded once for all of
them. How messages look is decided by subclasses: `admin.tail`, and `api.following` for server-sent events.
"""

import abc
import math
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Final

import attrs
import trio

from livesync_trio.errors import BackendIdMismatch
from livesync_trio.limits import READ_MAX_BYTES, WRITE_SLICE_BYTES
from livesync_trio.memory import Budget
from livesync_trio.model import Cursor, LogState, Page, Publication
from livesync_trio.store.handle import StoreHandle
from livesync_trio.store.subscription import Phase, Subscription

EVENT_STREAM_QUEUE_BYTES: Final = 256 * 1024
"""Events queued for one stream above which it is sent back to the log (invariant 4)."""


_THE_REST: Final = b""
"""In the queue: the socket has not taken all that was written."""


@attrs.frozen
class AtOnce:
    """How messages are written without a task.

    Attributes:
        note_work: has `flush` called soon (`Peers.note_work`).
        send: sends what the socket takes; False: `messages` must give something, so that the rest is sent.
    """

    note_work: Callable[["EventStream"], None]
    send: Callable[[bytes], bool]


class EventStream(Subscription):
    """One subscription, and what is queued of it."""

    __slots__ = (
        "_at_once",
        "_ending",
        "_heartbeat_s",
        "_lost",
        "_memory",
        "_news",
        "_queue",
        "_queued_bytes",
        "_resting",
        "_until_s",
    )
    number = None
    """Connections have one, for the log."""

    def __init__(
        self,
        handle: StoreHandle,
        memory: Budget,
        heartbeat_s: float,
        until_s: float = math.inf,
        at_once: AtOnce | None = None,
    ) -> None:
        """Nothing is begun before `messages`.

        Args:
            handle: the store.
            memory: what all such answers may hold of history.
            heartbeat_s: after so long without an event, a sign of life is sent.
            until_s: when it ends by itself, on Trio's clock.
            at_once: how to write without a task; None: every message goes through `messages`.
        """
        super().__init__(handle, None, live=True)
        self._memory = memory
        self._heartbeat_s = heartbeat_s
        self._until_s = until_s
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._lost = False  # the log is another one now, and that is to be told
        self._ending = False
        self._at_once = at_once
        self._resting = False  # its task waits for news, and nothing that it gave is under way
        self._news = trio.lowlevel.ParkingLot()

    # --- how messages look -----------------------------------------------------------------------------------------

    @abc.abstractmethod
    def shared(self, publication: Publication) -> bytes:
        """A durable batch as messages, made once for all."""

    @property
    @abc.abstractmethod
    def heartbeat(self) -> bytes:
        """The sign of life."""

    @property
    @abc.abstractmethod
    def farewell(self) -> bytes:
        """The last message."""

    @abc.abstractmethod
    async def another_log(self, known: LogState) -> tuple[LogState, bytes]:
        """The log that is there now, and how that is told."""

    # --- what the subscription asks for ----------------------------------------------------------------------------

    def wake(self) -> None:
        """Look again at what is to be sent."""
        self._resting = False
        self._news.unpark_all()

    def end_soon(self) -> None:
        """Take leave."""
        self._ending = True
        self.wake()

    def has_room(self, publication: Publication) -> bool:
        """A larger batch than the queue is read from the log."""
        return self._queued_bytes + publication.size_bytes <= EVENT_STREAM_QUEUE_BYTES

    def send_publication(self, publication: Publication) -> None:
        """Queue it."""
        self.put(self.shared(publication))

    async def send_page(self, page: Page, remaining: int, state: LogState, *, live: bool) -> None:
        """Queue a page of history."""
        self.put(page.items)

    def log_lost(self, refusal: BackendIdMismatch) -> None:
        """What is queued belongs to the log that is gone."""
        self._clear()
        self._lost = True
        self.ask_again()

    def gone(self) -> None:
        """The store is gone: take leave. To look for it again would make a new one."""
        self.end_soon()

    def put(self, message: bytes) -> None:
        """Queue a message."""
        if message:
            self._queue.append(message)
            self._queued_bytes += len(message)
            if self._resting and self._at_once is not None:
                self._at_once.note_work(self)
            else:
                self.wake()

    def _clear(self) -> None:
        self._queue.clear()
        self._queued_bytes = 0

    # --- written without its task (`peers.Written`) ----------------------------------------------------------------

    def flush(self) -> None:
        """Write what is queued, unless its task is about to."""
        if self._resting and self._queue and self._at_once is not None:
            message = b"".join(self._queue)
            self._clear()
            if not self._at_once.send(message):
                self._queue.append(_THE_REST)
                self.wake()

    def cut(self) -> None:
        """Something of ours has failed."""
        self.end_soon()

    # --- what is sent ----------------------------------------------------------------------------------------------

    async def messages(self, state: LogState, cursor: Cursor) -> AsyncGenerator[bytes, None]:
        """What is sent, from the first event to the farewell.

        Args:
            state: of the store, read just now.
            cursor: where the client stands.
        """
        held_bytes = 0
        self._cursor = cursor
        self._lost = cursor.seq_num > state.head or cursor.backend_id not in (None, state.backend_id)
        try:
            while not self._ending and trio.current_time() < self._until_s:
                if self._lost:
                    self._lost = False
                    state, told = await self.another_log(state)
                    self.start_over(state.backend_id)
                    yield told
                elif self._queue:
                    message = self._queue.popleft()
                    self._queued_bytes -= len(message)
                    for start in range(0, len(message) or 1, WRITE_SLICE_BYTES):
                        yield message[start : start + WRITE_SLICE_BYTES]
                    del message
                elif held_bytes:
                    self._memory.give_back(held_bytes)
                    held_bytes = 0
                elif self.following:
                    self._resting = True
                    if not await self._wait(self._heartbeat_s):
                        yield self.heartbeat
                elif self.phase is Phase.PAUSING:
                    await self._wait(self.take_pause_s())
                    self.ask_again()
                elif self.phase is Phase.READING:
                    await self._memory.wait_for(READ_MAX_BYTES)
                    held_bytes = READ_MAX_BYTES
                    await self.advance()
                    more_bytes = max(0, self._queued_bytes - held_bytes)  # a single event may be larger
                    self._memory.take(more_bytes)
                    held_bytes += more_bytes
                else:
                    await self.advance()
            yield self.farewell
        finally:
            self._resting = False
            self._memory.give_back(held_bytes)
            self.close()

    async def _wait(self, limit_s: float) -> bool:
        """Wait for news. False: none came within the limit."""
        with trio.move_on_at(min(trio.current_time() + limit_s, self._until_s)):
            await self._news.park()
            return True
        self._resting = False
        return False
