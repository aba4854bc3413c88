"""A POST of events: its body and headers, and what is answered when they are durable."""

from collections.abc import Mapping, Sequence

import msgspec
import trio

from livesync_trio.api.declaring import JSON, LINES, Call, Whole
from livesync_trio.api.positions import cursor_of, etag, tags_in
from livesync_trio.api.server import ApiServer
from livesync_trio.api.structs import Appended, AppendedEvent, Nothing
from livesync_trio.connection.context import HTTP
from livesync_trio.connection.pushing import Appender, NewIds
from livesync_trio.errors import Kind, Refusal
from livesync_trio.limits import IDEMPOTENCY_KEY_MAX_CHARACTERS
from livesync_trio.model import Cursor, Draft
from livesync_trio.store.commands import Numbered
from livesync_trio.transport.websocket import is_utf8
from livesync_trio.wire.plain import drafts_of_json, drafts_of_lines
from livesync_trio.wire.reading import Unreadable


async def append_events(server: ApiServer, asked: Nothing, call: Call) -> Whole | Refusal:  # noqa: ARG001
    """Append one event, or several: the store numbers them behind its head, and they never conflict."""
    headers = call.request.headers
    refusal = call.client.refusal_to_push(trio.current_time())  # before a body is waited for
    if refusal is not None:
        return refusal
    expected = _expected(headers)
    if isinstance(expected, Refusal):
        return expected
    memory = server.surroundings.memory
    async with memory.room_for(call.request.body_bytes(server.frame_max_bytes)):
        body = await call.http.read_body(server.frame_max_bytes)
        drafts = _drafts(headers, body)
        del body
        if isinstance(drafts, Refusal):
            return drafts
        answer = await Appender(server.surroundings, call.client, call.handle, HTTP).append(drafts, expected)
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
