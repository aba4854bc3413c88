"""A live tail of a store: a subscription whose events go out as server-sent events.

Owns how its messages look; how it reads and waits is `connection.event_stream`.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

import msgspec
import trio

from livesync_trio.admin.declaring import Stream
from livesync_trio.admin.events import as_json
from livesync_trio.admin.server_view import ServerView
from livesync_trio.admin.stores import state_of, unknown
from livesync_trio.connection.event_stream import EventStream
from livesync_trio.errors import Refusal
from livesync_trio.model import Cursor, LogState, Page, Publication, StoredEvent, StoreId
from livesync_trio.store.handle import StoreHandle
from livesync_trio.telemetry import get_logger

ADMIN_HEARTBEAT_S: Final = 15.0
"""Silence after which a tail sends a comment: below the 30 s of impatient proxies, and who has gone is noticed."""

TAIL_PAUSE_S: Final = 0.1
"""Between two messages to one tail while it follows. What comes meanwhile goes together, so that under a flood a tail
costs the server ten writes a second and not one for each push; an event that comes alone is sent at once."""

TAIL_TOGETHER_BYTES: Final = 16 * 1024
"""Messages that are put together; larger ones, and pages of history, wait for nothing."""

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


class Tail(EventStream):
    """One tail of the control plane."""

    __slots__ = ("_server", "_waiting_s")
    heartbeat = HEARTBEAT
    farewell = FAREWELL

    def __init__(self, server: ServerView, handle: StoreHandle) -> None:
        """Nothing is begun before `run_from`."""
        super().__init__(handle, server.tails_memory, ADMIN_HEARTBEAT_S)
        self._server = server
        self._waiting_s = 0.0  # before this time of Trio's clock the next message is not sent

    def put(self, message: bytes) -> None:
        """Queue a message, together with those that wait."""
        if self._queue and len(self._queue[-1]) + len(message) <= TAIL_TOGETHER_BYTES:
            self._queue[-1] += message
            self._queued_bytes += len(message)
        else:
            super().put(message)

    @staticmethod
    def render(events: Sequence[StoredEvent]) -> Sequence[Page]:
        """Each event is a message; so many of them make a page."""
        return [Page(b"".join(map(_event, events)), events[-1].seq_num, events[-1].ordinal)] if events else []

    def shared(self, publication: Publication) -> bytes:
        """Its events, encoded once for all tails."""
        made: bytes | None = publication.encoded.get("tail")
        if made is None:
            made = publication.encoded["tail"] = self.render(publication.events)[0].items
        return made

    async def read(self, log: LogState, after: int) -> Sequence[Page]:
        """With the control plane's own readers, so that the pulls of clients keep theirs."""
        return self.render(await self._server.readers.read(log, after, log.head))

    def troubled(self, refusal: Refusal) -> None:
        """Say that it does not go on for the moment."""
        _log.warning("tail cannot be read", store=self._handle.store_id, reason=refusal.message)
        told = {"code": str(refusal.kind), "message": refusal.message}
        self.put(b"event: trouble\ndata: %b\n\n" % msgspec.json.encode(told))

    async def another_log(self, known: LogState) -> tuple[LogState, bytes]:
        """See `EventStream`."""
        state = await state_of(self._server, self._handle.store_id) or known
        return state, _message("reset", state)

    async def run_from(self, state: LogState, after: int) -> AsyncGenerator[bytes, None]:
        """What is sent, from the greeting to the farewell.

        Args:
            state: of the store, read just now.
            after: number of the last event the client has.
        """
        self._server.tails[self] = None
        if self._server.ending:
            self.end_soon()
        try:
            yield _message("store", state)
            async with aclosing(self.messages(state, Cursor(after, state.backend_id))) as messages:
                async for message in messages:
                    yield message
                    if self.following and len(message) <= TAIL_TOGETHER_BYTES:
                        await trio.sleep_until(self._waiting_s)
                        self._waiting_s = trio.current_time() + TAIL_PAUSE_S
        finally:
            self._server.tails.pop(self, None)


def _event(event: StoredEvent) -> bytes:
    """An event as a message. Line ends between tokens mean nothing in JSON; here they are sent as spaces."""
    return b"id: %d\ndata: %b\n\n" % (event.seq_num, as_json(event).translate(_LINE_ENDS_AS_SPACES))


_LINE_ENDS_AS_SPACES: Final = bytes.maketrans(b"\r\n", b"  ")


def _message(kind: str, state: LogState) -> bytes:
    """The identity and the head of the log: `store` at the beginning, `reset` when it is another one."""
    told = {"backendId": state.backend_id, "head": state.head}
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode(told))
