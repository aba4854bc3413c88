"""The table of endpoints, from which routing, reading of queries and the OpenAPI document are made."""

from typing import Final

import msgspec
import trio
from msgspec import UNSET

from livesync_trio.api import events, openapi
from livesync_trio.api.declaring import EVENT_STREAM, JSON, LINES, Call, Parts, Reply, Route, Whole
from livesync_trio.api.following import Following
from livesync_trio.api.positions import cursor_of, etag, tags_in
from livesync_trio.api.posting import append_events
from livesync_trio.api.server import ApiServer
from livesync_trio.api.stores import list_sessions, show_store, unknown
from livesync_trio.api.structs import (
    Appended,
    AppendHeaders,
    EventHeaders,
    EventPage,
    ListEvents,
    NewEvent,
    NewEvents,
    Nothing,
    Sessions,
    Store,
)
from livesync_trio.connection.client_hooks import ClientHooks
from livesync_trio.errors import BackendIdMismatch, Kind, Refusal
from livesync_trio.model import BackendId, Cursor
from livesync_trio.wire.messages import Generation, PullRequest, RequestId

_PULL: Final = RequestId(b'"read"', Generation.PLAIN)


async def list_events(server: ApiServer, asked: ListEvents, call: Call) -> Reply:
    """Events of a store: a page of JSON, all of them as lines of it, or as they come as server-sent events."""
    start = _start(asked, call.request.headers.get("last-event-id", ""))
    if isinstance(start, Refusal):
        return start
    request = PullRequest(_PULL, None, None, call.accepts == EVENT_STREAM, start.seq_num, start.backend_id)
    refusal = (await ClientHooks(server.surroundings.hooks, call.client).may(request)).refusal
    if refusal is not None:
        return refusal
    asked = msgspec.structs.replace(asked, after=start.seq_num)
    if call.accepts == EVENT_STREAM:
        return await _followed(server, asked, call, start)
    if call.accepts == LINES:
        return await _lines(server, asked, call, start)
    return await _page(server, asked, call, start)


def _start(asked: ListEvents, last_event_id: str) -> Cursor | Refusal:
    """Where the client stands: what EventSource says counts more than the URL with which it began."""
    if last_event_id:
        found = cursor_of(last_event_id)
        return found or Refusal(Kind.BAD_PARAMETER, "Last-Event-ID is not the id of an event.")
    return Cursor(asked.after, BackendId(asked.backend_id) if asked.backend_id else None)


async def _page(server: ApiServer, asked: ListEvents, call: Call, start: Cursor) -> Reply:
    """A page; with `wait`, not before there is something in it."""
    read = events.reading(call.store_id, asked, compressed=call.gzip)
    known = set(tags_in(call.request.headers.get("if-none-match", "")))
    until_s = trio.current_time() + asked.wait
    while True:
        found = await server.readers.ask(read)
        if found is None:
            return unknown(call.store_id)
        if start.backend_id not in (None, found.state.backend_id):
            return BackendIdMismatch.of(found.state.backend_id, str(start.backend_id))
        if found.events or not found.at_head or server.ending or trio.current_time() >= until_s:
            break
        arrival = events.Arrival()
        server.follow(arrival, call.client)
        try:
            with trio.move_on_at(until_s):
                refusal = await arrival.wait_behind(call.handle, found.state)
                if refusal is not None:
                    return refusal
        finally:
            server.leave(arrival)
    tag = etag(found.state.cursor)
    if tag.strip('"') in known:
        return Whole(b"", 304, tag)
    return events.answer(found, compressed=call.gzip)


async def _lines(server: ApiServer, asked: ListEvents, call: Call, start: Cursor) -> Reply:
    summary = await call.handle.summary()
    if summary is None:
        return unknown(call.store_id)
    state = summary.state
    if start.backend_id not in (None, state.backend_id):
        return BackendIdMismatch.of(state.backend_id, str(start.backend_id))
    limit = None if asked.limit is UNSET else asked.limit
    parts = events.lines(server, state, asked, limit, compressed=call.gzip)
    return Parts(parts, [("etag", etag(state.cursor)), *([events.GZIP] if call.gzip else [])])


async def _followed(server: ApiServer, asked: ListEvents, call: Call, start: Cursor) -> Reply:
    """A store that nobody has used yet is made, as a pull would make it."""
    state = await call.handle.inspect()
    if isinstance(state, Refusal):
        return state
    following = Following(server, call, asked)
    return Parts(following.run_from(state, start))


async def show_document(_server: ApiServer, asked: Nothing, _call: Call) -> Whole:  # noqa: ARG001
    """This interface as an OpenAPI 3.1 document."""
    return Whole(openapi.text(ROUTES))


_STORE: Final = "/v1/stores/{storeId}"

ROUTES: Final = (
    Route(
        "POST",
        f"{_STORE}/events",
        append_events,
        {JSON: (Appended,)},
        bodies={JSON: (NewEvent, NewEvents), LINES: ()},
        headers=AppendHeaders,
        status=201,
        refusals=(
            Kind.INVALID_REQUEST,
            Kind.HEAD_MISMATCH,
            Kind.BODY_TOO_BIG,
            Kind.UNSUPPORTED_MEDIA_TYPE,
        ),
    ),
    Route(
        "GET",
        f"{_STORE}/events",
        list_events,
        {JSON: (EventPage,), LINES: (), EVENT_STREAM: ()},
        headers=EventHeaders,
        refusals=(Kind.NO_SUCH_STORE, Kind.BACKEND_ID_MISMATCH, Kind.NOT_ACCEPTABLE),
    ),
    Route("GET", _STORE, show_store, {JSON: (Store,)}, refusals=(Kind.NO_SUCH_STORE,)),
    Route("GET", f"{_STORE}/sessions", list_sessions, {JSON: (Sessions,)}),
    Route("GET", "/v1/openapi.json", show_document, {JSON: ()}),
)
