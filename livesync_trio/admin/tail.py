"""A live tail of a store: a subscription whose events go out as server-sent events.

Its steps are carried out by whoever takes what is sent, so it reads no faster than its client. What it holds is bounded
in bytes, and so is what all tails hold; an event is encoded once for all of them.
"""

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import msgspec
import trio

from livesync_trio.admin.declaring import Stream
from livesync_trio.admin.events import as_json
from livesync_trio.admin.server_view import ServerView
from livesync_trio.admin.stores import state_of, unknown
from livesync_trio.errors import BackendIdMismatch, Refusal
from livesync_trio.limits import READ_MAX_BYTES, WRITE_SLICE_BYTES
from livesync_trio.model import Cursor, LogState, Page, Publication, StoredEvent, StoreId
from livesync_trio.store.handle import StoreHandle
from livesync_trio.store.subscription import Standing, Subscription
from livesync_trio.telemetry import get_logger

ADMIN_TAIL_QUEUE_BYTES: Final = 256 * 1024
"""Events queued for one tail above which it is sent back to the log (invariant 4)."""

ADMIN_HEARTBEAT_S: Final = 15.0
"""Silence after which a tail sends a comment: below the 30 s of impatient proxies, and who has gone is noticed."""

_log = get_logger("admin")

HEARTBEAT: Final = b": still here\n\n"
FAREWELL: Final = b"event: end\ndata: {}\n\n"


async def follow(server: ServerView, store_id: StoreId, after: int | None) -> Stream | Refusal:
    """Follow a store from a number on, or from its head."""
    state = await state_of(server, store_id)
    if state is None:
        return unknown(store_id)
    tail = Tail(server, server.open_store(store_id))
    return Stream(tail.run_from(state, state.head if after is None else after))


class Tail(Subscription):
    """One subscription, and what is queued of it."""

    __slots__ = ("_lost", "_news", "_queue", "_queued_bytes", "_server")

    def __init__(self, server: ServerView, handle: StoreHandle) -> None:
        """Nothing is begun before `run_from`."""
        super().__init__(handle, None, live=True)
        self._server = server
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._lost = False  # the log is another one now, and that is to be told
        self._news = trio.lowlevel.ParkingLot()

    @staticmethod
    def render(events: Sequence[StoredEvent]) -> Sequence[Page]:
        """Each event is a message; so many of them make a page."""
        return [Page(b"".join(map(_event, events)), events[-1].seq_num, events[-1].ordinal)] if events else []

    # --- what the subscription asks for ----------------------------------------------------------------------------

    def wake(self) -> None:
        """Look again at what is to be sent."""
        self._news.unpark_all()

    def has_room(self, publication: Publication) -> bool:
        """A larger batch than the queue is read from the log."""
        return self._queued_bytes + publication.size_bytes <= ADMIN_TAIL_QUEUE_BYTES

    def send_publication(self, publication: Publication) -> None:
        """Queue it, encoded once for all tails."""
        made: bytes | None = publication.encoded.get("tail")
        if made is None:
            made = publication.encoded["tail"] = self.render(publication.events)[0].items
        self._put(made)

    async def send_page(self, page: Page, remaining: int, state: LogState, *, live: bool) -> None:
        """Queue a page of history."""
        self._put(page.items)

    async def read(self, log: LogState, after: int) -> Sequence[Page]:
        """With the control plane's own readers, so that the pulls of clients keep theirs."""
        return self.render(await self._server.readers.read(log, after, log.head))

    def log_lost(self, refusal: BackendIdMismatch) -> None:
        """What is queued belongs to the log that is gone."""
        self._queue.clear()
        self._queued_bytes = 0
        self._lost = True
        self.ask_again()

    def troubled(self, refusal: Refusal) -> None:
        """Say that it does not go on for the moment."""
        _log.warning("tail cannot be read", store=self._handle.store_id, reason=refusal.message)
        told = {"code": str(refusal.kind), "message": refusal.message}
        self._put(b"event: trouble\ndata: %b\n\n" % msgspec.json.encode(told))

    def _put(self, message: bytes) -> None:
        self._queue.append(message)
        self._queued_bytes += len(message)
        self.wake()

    # --- what is sent ----------------------------------------------------------------------------------------------

    async def run_from(self, state: LogState, after: int) -> AsyncGenerator[bytes, None]:
        """What is sent, from the greeting to the farewell.

        Args:
            state: of the store, read just now.
            after: number of the last event the client has.
        """
        memory, held_bytes = self._server.tails_memory, 0
        self._cursor = Cursor(after, state.backend_id)
        self._server.tails[self] = None
        try:
            yield _message("store", state)
            if after > state.head:  # this log has never had that number
                self._lost = True
            while not self._server.ending:
                if self._lost:
                    yield await self._told_of_another_log(state)
                elif self._queue:
                    message = self._queue.popleft()
                    self._queued_bytes -= len(message)
                    for start in range(0, len(message), WRITE_SLICE_BYTES):
                        yield message[start : start + WRITE_SLICE_BYTES]
                    del message
                elif held_bytes:
                    memory.give_back(held_bytes)
                    held_bytes = 0
                elif self.following:
                    if not await self._wait(ADMIN_HEARTBEAT_S):
                        yield HEARTBEAT
                elif self.standing is Standing.PAUSING:
                    await self._wait(self.take_pause_s())
                    self.ask_again()
                elif self.standing is Standing.READING:
                    await memory.wait_for(READ_MAX_BYTES)
                    held_bytes = READ_MAX_BYTES
                    await self.advance()
                    more_bytes = max(0, self._queued_bytes - held_bytes)  # a single event may be larger
                    memory.take(more_bytes)
                    held_bytes += more_bytes
                else:
                    await self.advance()
            yield FAREWELL
        finally:
            memory.give_back(held_bytes)
            self._server.tails.pop(self, None)
            self.close()

    async def _told_of_another_log(self, known: LogState) -> bytes:
        self._lost = False
        state = await state_of(self._server, self._handle.store_id) or known
        self.start_over(state.backend_id)
        return _message("reset", state)

    async def _wait(self, limit_s: float) -> bool:
        """Wait for news. False: none came within the limit."""
        with trio.move_on_after(limit_s):
            await self._news.park()
            return True
        return False


def _event(event: StoredEvent) -> bytes:
    """An event as a message. Line ends between tokens mean nothing in JSON; here they are sent as spaces."""
    return b"id: %d\ndata: %b\n\n" % (event.seq_num, as_json(event).translate(_LINE_ENDS_AS_SPACES))


_LINE_ENDS_AS_SPACES: Final = bytes.maketrans(b"\r\n", b"  ")


def _message(kind: str, state: LogState) -> bytes:
    """The identity and the head of the log: `store` at the beginning, `reset` when it is another one."""
    told = {"backendId": state.backend_id, "head": state.head}
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode(told))
