"""A live tail of a store: one more follower, whose events go out as server-sent events.

Catch up, then follow (design.md, law 3): it registers at the durable head, reads history up to it, asks again, and is
taken on once it stands there. Its queue is bounded in bytes; when that is full it is sent back to the log (law 4).
"""

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import msgspec
import trio

from livesync_trio.admin.declaring import Asked, Stream
from livesync_trio.admin.events import as_json
from livesync_trio.admin.reading import refused
from livesync_trio.admin.rooms import UNAVAILABLE, Rooms
from livesync_trio.admin.stores import state_of, unknown
from livesync_trio.errors import BackendIdMismatch, Kind, LogReplaced, Refusal, StorageUnavailable, StoreDamaged
from livesync_trio.limits import (
    ADMIN_HEARTBEAT_S,
    ADMIN_TAIL_QUEUE_BYTES,
    ADMIN_TAILS_MAX,
    SEQ_NUM_MAX,
    STORAGE_BACKOFF_FIRST_S,
    STORAGE_BACKOFF_MAX_S,
)
from livesync_trio.model import ROOT_SEQ_NUM, Cursor, LogState, Publication, StoredEvent, StoreId
from livesync_trio.store.commands import Register, Registered, Reply
from livesync_trio.store.handle import StoreHandle
from livesync_trio.telemetry import get_logger

_log = get_logger("admin")

HEARTBEAT: Final = b": still here\n\n"
FAREWELL: Final = b"event: end\ndata: {}\n\n"


async def tail_store(rooms: Rooms, asked: Asked) -> Stream | Refusal:
    """Follow a store from a number on, or from its head."""
    store_id = StoreId(asked.text("storeId") or "")
    after = _resumed(asked)
    if isinstance(after, Refusal):
        return after
    if len(rooms.tails) >= ADMIN_TAILS_MAX:
        return Refusal(Kind.TOO_MANY_REQUESTS, f"{ADMIN_TAILS_MAX} tails are open already.")
    state = await state_of(rooms, store_id)
    if state is None:
        return unknown(store_id)
    tail = Tail(rooms, rooms.open_store(store_id), state, state.head if after is None else after)
    return Stream(tail.run())


def _resumed(asked: Asked) -> int | Refusal | None:
    """Where to go on: behind the last event that a client which comes back has had, else as the query says."""
    last = asked.headers.get("last-event-id", "")
    if not last:
        return asked.number("after")
    if last.isascii() and last.isdigit() and int(last[:17]) <= SEQ_NUM_MAX:
        return int(last)
    return refused("Last-Event-ID is not the number of an event.")


class Tail:
    """One follower (`store.followers.Follower`), and what is sent of it."""

    def __init__(self, rooms: Rooms, handle: StoreHandle, state: LogState, after: int) -> None:
        """Nothing is begun before `run`.

        Args:
            rooms: the server.
            handle: the store.
            state: of the store, read just now.
            after: number of the last event the client has.
        """
        self._rooms = rooms
        self._handle = handle
        self._state = state
        self._cursor = Cursor(after, state.backend_id)
        self._replaced = state if after > state.head else None  # this log has never had that number
        self._queue: deque[Publication] = deque()
        self._queued_bytes = 0
        self._following = False
        self._history: LogState | None = None
        self._answer: Registered | Refusal | None = None
        self._closed = False
        self._pause_s = STORAGE_BACKOFF_FIRST_S
        self._news = trio.lowlevel.ParkingLot()

    # --- from the actor; none of these may wait --------------------------------------------------------------------

    def offer(self, publication: Publication) -> bool:
        """Take a durable batch; False when the queue is full: then it is read from the log."""
        if self._closed:
            return False
        if self._queued_bytes > ADMIN_TAIL_QUEUE_BYTES:
            self.dropped()
            return False
        self._queue.append(publication)
        self._queued_bytes += _size_bytes(publication)
        self.wake()
        return True

    def dropped(self) -> None:
        """The store offers nothing any more. What is queued is still sent; the log has the rest."""
        self._following = False
        self.wake()

    def replaced(self, state: LogState) -> None:
        """The store was reset: what is queued belongs to the log that is gone. To register again tells of the new."""
        self._queue.clear()
        self._queued_bytes = 0
        self.dropped()

    def wake(self) -> None:
        """Look again at what is to be sent."""
        self._news.unpark_all()

    def _registered(self, answer: Registered | Refusal) -> None:
        if self._closed:
            self._handle.leave(self)
            return
        self._following = isinstance(answer, Registered) and answer.following
        self._answer = answer
        self.wake()

    # --- what is sent ----------------------------------------------------------------------------------------------

    async def run(self) -> AsyncGenerator[bytes, None]:
        """What is sent, from the greeting to the farewell."""
        self._rooms.tails[self] = None
        try:
            yield _message("store", self._state)
            while not self._rooms.ending:
                part = await self._next()
                if part:
                    yield part
            yield FAREWELL
        finally:
            self._closed = True
            del self._rooms.tails[self]
            self._handle.leave(self)

    async def _next(self) -> bytes:
        """What to send next; nothing when it must only be looked again. Waits while there is nothing to do."""
        if self._replaced is not None:
            state, self._replaced = self._replaced, None
            self._history, self._cursor = None, Cursor(ROOT_SEQ_NUM, state.backend_id)
            return _message("reset", state)
        if self._queue:
            publication = self._queue.popleft()
            self._queued_bytes -= _size_bytes(publication)
            return self._send(publication.events)
        if self._following:
            return b"" if await self._wait(ADMIN_HEARTBEAT_S) else HEARTBEAT
        if self._history is not None:
            return await self._read(self._history)
        return await self._register()

    def _send(self, events: Sequence[StoredEvent]) -> bytes:
        self._cursor = Cursor(events[-1].seq_num, self._cursor.backend_id)
        self._pause_s = STORAGE_BACKOFF_FIRST_S
        return b"".join(map(_event, events))

    async def _register(self) -> bytes:
        """Ask the store where its head is, and to be taken on if it is where this tail stands."""
        self._answer = None
        await self._handle.post(Register(self._cursor, self, Reply(self._registered)))
        while self._answer is None:
            await self._news.park()
        answer = self._answer
        if isinstance(answer, BackendIdMismatch):
            self._replaced = await state_of(self._rooms, self._handle.store_id)
        elif isinstance(answer, Refusal):
            return await self._trouble(answer)
        elif not answer.following:
            self._history = answer.state
        return b""

    async def _read(self, log: LogState) -> bytes:
        """The next page of history, up to the head at which it registered."""
        after = self._cursor.seq_num
        if after >= log.head:
            self._history = None
            return b""
        try:
            events = await self._rooms.readers.read(log, after, log.head)
        except LogReplaced:
            self._history = None  # registering again tells what the log is called now
            return b""
        except (StorageUnavailable, StoreDamaged) as trouble:
            _log.warning("tail cannot be read", store=self._handle.store_id, reason=str(trouble))
            events = []
        if events:
            return self._send(events)
        self._history = None
        return await self._trouble(UNAVAILABLE)

    async def _trouble(self, refusal: Refusal) -> bytes:
        """Say that it does not go on for the moment, after a pause that grows."""
        await self._wait(self._pause_s)
        self._pause_s = min(2 * self._pause_s, STORAGE_BACKOFF_MAX_S)
        told = {"code": str(refusal.kind), "message": refusal.message}
        return b"event: trouble\ndata: %b\n\n" % msgspec.json.encode(told)

    async def _wait(self, limit_s: float) -> bool:
        """Wait for news. False: none came within the limit."""
        with trio.move_on_after(limit_s):
            await self._news.park()
            return True
        return False


def _size_bytes(publication: Publication) -> int:
    return sum(len(event.json) for event in publication.events)


def _event(event: StoredEvent) -> bytes:
    """An event as a message. Line ends between the tokens of `args` become those of SSE, their meaning stays."""
    lines = as_json(event).replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
    return b"id: %d\ndata: %b\n\n" % (event.seq_num, lines)


def _message(kind: str, state: LogState) -> bytes:
    """The identity and the head of the log: `store` at the beginning, `reset` when it is another one."""
    told = {"backendId": state.backend_id, "head": state.head}
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode(told))
