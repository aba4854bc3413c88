"""A store as server-sent events: history first, then everything as it comes, without gap or double.

The `id` of an event is its position, so that `Last-Event-ID` goes on right behind it, and tells when the log it belongs
to has gone.
"""

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

import msgspec
import trio

from livesync_trio.api.declaring import Call
from livesync_trio.api.events import wanted_only
from livesync_trio.api.headers import position
from livesync_trio.api.server import ApiServer
from livesync_trio.api.structs import ListEvents
from livesync_trio.connection.event_stream import AtOnce, EventStream
from livesync_trio.errors import Refusal
from livesync_trio.limits import API_HEARTBEAT_S
from livesync_trio.model import BackendId, Cursor, LogState, Page, Publication, StoredEvent
from livesync_trio.telemetry import get_logger
from livesync_trio.wire.plain import plain_text

_log = get_logger("api")

_HEARTBEAT: Final = b": still here\n\n"
_FAREWELL: Final = b"event: end\ndata: {}\n\n"


class Following(EventStream):
    """One program that follows a store."""

    __slots__ = ("_asked", "_client", "_identity", "_server")
    heartbeat = _HEARTBEAT
    farewell = _FAREWELL

    def __init__(self, server: ApiServer, call: Call, asked: ListEvents) -> None:
        """Nothing is begun before `run_from`."""
        expiry = call.client.rights.expiry
        until_s = math.inf if expiry is None else expiry.trio_s
        at_once = AtOnce(server.peers.note_work, call.http.send_part_now) if call.http.sends_at_once else None
        super().__init__(call.handle, server.shared.memory.sending, API_HEARTBEAT_S, until_s, at_once)
        self._server = server
        self._client = call.client
        self._asked = asked

    async def read(self, log: LogState, after: int) -> Sequence[Page]:
        """See `Subscription`; what is not wanted is passed over."""
        events = await self._server.readers.read(log, after, log.head)
        if not events:
            return []
        text = _messages(wanted_only(self._asked, events), log.backend_id)
        return [Page(text, events[-1].seq_num, events[-1].ordinal)]

    def shared(self, publication: Publication) -> bytes:
        """A durable batch, encoded once for all who want everything."""
        if self._asked.type or self._asked.since or self._asked.until:
            return _messages(wanted_only(self._asked, publication.events), publication.state.backend_id)
        made: bytes | None = publication.encoded.get("sse")
        if made is None:
            made = publication.encoded["sse"] = _messages(publication.events, publication.state.backend_id)
        return made

    def troubled(self, refusal: Refusal) -> None:
        """It goes on by itself; a comment tells whoever looks."""
        if self._server.shared.flood.allows(self._handle.store_id, "stream", trio.current_time()):
            _log.warning("stream cannot be read", store=self._handle.store_id, reason=refusal.message)
        self.put(b": %b\n\n" % refusal.message.encode())

    async def another_log(self, known: LogState) -> tuple[LogState, bytes]:
        """Tell that the log has gone; everything that comes belongs to the new one."""
        summary = await self._handle.summary()
        state = known if summary is None else summary.state
        return state, _told("reset", state)

    async def run_from(self, state: LogState, cursor: Cursor) -> AsyncGenerator[bytes, None]:
        """What is sent, from the greeting to the farewell.

        Args:
            state: of the store, read just now.
            cursor: where the client stands.
        """
        self._server.follow(self, self._client)
        try:
            yield _told("store", state)
            async with aclosing(self.messages(state, cursor)) as messages:
                async for message in messages:
                    yield message
        finally:
            self._server.leave(self)


def _messages(events: Sequence[StoredEvent], backend_id: BackendId) -> bytes:
    identity = position(Cursor(0, backend_id))[1:].encode()
    return b"".join([b"id: %d%b\ndata: %b\n\n" % (event.seq_num, identity, plain_text(event)) for event in events])


def _told(kind: str, state: LogState) -> bytes:
    told = {"backendId": state.backend_id, "head": state.head}
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode(told))
