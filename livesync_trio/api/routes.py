"""The endpoints of the HTTP API: what each answers, and their table.

Routing, the reading of queries and the OpenAPI document are made from the table.
"""

import datetime
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import trio
from msgspec import UNSET

from livesync_trio.access.client import Client
from livesync_trio.api import events, openapi
from livesync_trio.api.declaring import EVENT_STREAM, JSON, LINES, Call, Parts, Reply, Route, Whole
from livesync_trio.api.events import squeezed
from livesync_trio.api.following import Following
from livesync_trio.api.headers import cursor_of, etag, tags_in
from livesync_trio.api.server import ApiServer
from livesync_trio.api.structs import (
    Appended,
    AppendedEvent,
    AppendHeaders,
    EventHeaders,
    EventPage,
    ListEvents,
    NewEvent,
    NewEvents,
    Nothing,
    Session,
    Sessions,
    Store,
)
from livesync_trio.connection.client_hooks import ClientHooks
from livesync_trio.connection.context import HTTP
from livesync_trio.connection.pushing import Appender, NewIds
from livesync_trio.errors import BackendIdMismatch, Kind, Refusal
from livesync_trio.limits import IDEMPOTENCY_KEY_MAX_CHARACTERS, PERSISTENCE_FORMAT_VERSION
from livesync_trio.model import BackendId, Cursor, Draft, StoreId
from livesync_trio.openapi import wire_time
from livesync_trio.store.commands import Numbered
from livesync_trio.transport.websocket import is_utf8
from livesync_trio.wire.messages import Generation, PullRequest, RequestId
from livesync_trio.wire.plain import drafts_of_json, drafts_of_lines
from livesync_trio.wire.reading import Unreadable


async def show_store(_server: ApiServer, asked: Nothing, call: Call) -> Whole | Refusal:  # noqa: ARG001
    """A store: its head, its identity, how much is in it, since when."""
    summary = await call.handle.summary()
    if summary is None:
        return unknown(call.store_id)
    state = summary.state
    told = Store(
        store_id=call.store_id,
        backend_id=state.backend_id,
        head=state.head,
        events=state.event_count,
        text_bytes=summary.text_bytes,
        created_at=summary.created_at,
        last_sync_at=summary.last_push_at,
        format_version=PERSISTENCE_FORMAT_VERSION,
    )
    return Whole(msgspec.json.encode(told), etag=etag(state.cursor))


async def list_sessions(server: ApiServer, asked: Nothing, call: Call) -> Whole:  # noqa: ARG001
    """Who is connected to a store at this server: since when, and how."""
    found = [
        (peer.since_s, _session(peer.client, peer.since_s, str(peer.generation or "unknown"), peer.number))
        for peer in server.peers
        if peer.client.context.store_id == call.store_id
    ]
    found += [
        (since_s, _session(client, since_s, EVENT_STREAM, None))
        for client, since_s in server.following.values()
        if client.context.store_id == call.store_id
    ]
    told = Sessions(sessions=[session for _, session in sorted(found, key=lambda one: one[0])])
    return squeezed(Whole(msgspec.json.encode(told)), wanted=call.gzip)


def unknown(store_id: StoreId) -> Refusal:
    """Nobody has used a store of this name."""
    return Refusal(Kind.NO_SUCH_STORE, f"There is no store {store_id!r}: it is made when somebody writes to it.")


def _session(client: Client, since_s: float, protocol: str, number: int | None) -> Session:
    user = client.context.user
    ago = datetime.timedelta(seconds=trio.current_time() - since_s)
    return Session(
        connection=number,
        protocol=protocol,
        user=None if user is None else user.id.encode(errors="replace").decode(),
        since=wire_time(datetime.datetime.now(datetime.UTC) - ago),
    )


async def append_events(server: ApiServer, asked: Nothing, call: Call) -> Whole | Refusal:  # noqa: ARG001
    """Append one event, or several: the store numbers them behind its head, and they never conflict."""
    headers = call.request.headers
    refusal = call.client.refusal_to_push(trio.current_time())  # before a body is waited for
    if refusal is not None:
        return refusal
    expected = _expected(headers)
    if isinstance(expected, Refusal):
        return expected
    memory = server.shared.memory
    async with memory.room_for(call.request.body_bytes(server.frame_max_bytes)):
        body = await call.http.read_body(server.frame_max_bytes)
        drafts = _drafts(headers, body)
        del body
        if isinstance(drafts, Refusal):
            return drafts
        answer = await Appender(server.shared, call.client, call.handle, HTTP).append(drafts, expected)
    if isinstance(answer, Refusal):
        return answer
    return Whole(_told(drafts, answer), 201 if answer.repeated < len(drafts) else 200, etag(answer.state.cursor))


def _drafts(headers: Mapping[str, str], body: bytes) -> tuple[Draft, ...] | Refusal:
    """The events of a body."""
    media = headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if headers.get("content-encoding", "identity").lower() != "identity":
        return Refusal(Kind.UNSUPPORTED_MEDIA_TYPE, "Send the body as it is: no content coding is read here.")
    if media not in (JSON, LINES):
        return Refusal(Kind.UNSUPPORTED_MEDIA_TYPE, f"Send {JSON}, or {LINES} with one event a line.")
    key = headers.get("idempotency-key")
    if key is not None and not (key.isprintable() and 0 < len(key) <= IDEMPOTENCY_KEY_MAX_CHARACTERS):
        most = IDEMPOTENCY_KEY_MAX_CHARACTERS
        return Refusal(Kind.BAD_PARAMETER, f"Idempotency-Key has 1 to {most} printable characters.")
    if not (body.isascii() or is_utf8(body)):
        return Refusal(Kind.INVALID_REQUEST, "The body is not UTF-8.")
    try:
        return (drafts_of_json if media == JSON else drafts_of_lines)(body, key, NewIds())
    except Unreadable as error:
        return Refusal(Kind.INVALID_REQUEST, f"The events cannot be read: {str(error)[:300]}.")


def _expected(headers: Mapping[str, str]) -> Cursor | Refusal | None:
    """What `If-Match` expects of the log."""
    given = headers.get("if-match")
    if given is None or given.strip() == "*":
        return None
    tags = list(tags_in(given))
    expected = cursor_of(tags[0]) if len(tags) == 1 else None
    return expected or Refusal(Kind.BAD_PARAMETER, 'If-Match is the number of the head in quotes, as in "17".')


def _told(drafts: Sequence[Draft], answer: Numbered) -> bytes:
    events = [
        AppendedEvent(id=draft.append_id, seq_num=number) for draft, number in zip(drafts, answer.seq_nums, strict=True)
    ]
    state = answer.state
    return msgspec.json.encode(
        Appended(events=events, repeated=answer.repeated, head=state.head, backend_id=state.backend_id)
    )


_PULL: Final = RequestId(b'"read"', Generation.PLAIN)


async def list_events(server: ApiServer, asked: ListEvents, call: Call) -> Reply:
    """Events of a store: a page of JSON, all of them as lines of it, or as they come as server-sent events."""
    start = _start(asked, call.request.headers.get("last-event-id", ""))
    if isinstance(start, Refusal):
        return start
    request = PullRequest(_PULL, None, None, call.accepts == EVENT_STREAM, start.seq_num, start.backend_id)
    refusal = (await ClientHooks(server.shared.hooks, call.client).may(request)).refusal
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
