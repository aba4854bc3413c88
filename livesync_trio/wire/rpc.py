"""Effect RPC as 0.4 and next speak it, over WebSocket and HTTP (SPEC sections 3 and 4).

`decode` reads client messages, the other functions write server messages. Which of the two encodings an answer uses
follows from the JSON type of the request's id and nothing else.
"""

import json
import re
from typing import Final, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from livesync_trio.errors import BackendIdMismatch, Kind, Refusal, ServerAhead
from livesync_trio.limits import MESSAGES_PER_ARRAY_MAX
from livesync_trio.model import ROOT_SEQ_NUM
from livesync_trio.wire.events import EventShape, integer, take_batch
from livesync_trio.wire.messages import (
    EOF,
    PING,
    Ack,
    Generation,
    Interrupt,
    Invalid,
    Message,
    PingRequest,
    PullRequest,
    PushRequest,
    RequestId,
    Unintelligible,
)
from livesync_trio.wire.reading import Restore, Unreadable, plain, read

# --- client messages -----------------------------------------------------------------------------------------------


class _Envelope(msgspec.Struct, rename={"kind": "_tag"}):
    kind: str
    id: Raw | UnsetType = UNSET
    tag: str | UnsetType = UNSET
    payload: Raw | UnsetType = UNSET
    requestId: Raw | UnsetType = UNSET  # noqa: N815 -- the wire's names
    traceId: Raw | UnsetType = UNSET  # noqa: N815
    spanId: Raw | UnsetType = UNSET  # noqa: N815
    sampled: Raw | UnsetType = UNSET


class _None(msgspec.Struct, tag_field="_tag", tag="None"):
    pass


class _CursorValue(msgspec.Struct):
    backendId: Raw  # noqa: N815
    eventSequenceNumber: int | float  # noqa: N815


class _SomeCursor(msgspec.Struct, tag_field="_tag", tag="Some"):
    value: _CursorValue


class _SomeBackendId(msgspec.Struct, tag_field="_tag", tag="Some"):
    value: Raw


class _Pull(msgspec.Struct):
    storeId: Raw  # noqa: N815
    cursor: _None | _SomeCursor
    live: bool = False
    payload: Raw | UnsetType = UNSET


class _Push(msgspec.Struct):
    storeId: Raw  # noqa: N815
    batch: list[EventShape]
    backendId: _None | _SomeBackendId  # noqa: N815
    payload: Raw | UnsetType = UNSET


class _HttpPing(msgspec.Struct):
    storeId: Raw  # noqa: N815


_envelope: Final = msgspec.json.Decoder(_Envelope)
_array: Final = msgspec.json.Decoder(list[Raw])
_pull: Final = msgspec.json.Decoder(_Pull)
_push: Final = msgspec.json.Decoder(_Push)
_http_ping: Final = msgspec.json.Decoder(_HttpPing)

_ID: Final = re.compile(rb'"-?[0-9]{1,20}"|-?[0-9]{1,20}')
_FIRST_ID: Final = re.compile(
    rb'\s*(?:\[\s*)?\{\s*"_tag"\s*:\s*"Request"\s*,\s*"id"\s*:\s*("-?[0-9]{1,20}"|-?[0-9]{1,20})\s*,'
)


def decode(text: bytes, transport: Literal["ws", "http"]) -> list[Message]:
    """Read one WebSocket message or HTTP body.

    Args:
        text: UTF-8 bytes: one JSON object, or an array of them (next, SPEC section 4).
        transport: decides which procedure names exist.

    Returns:
        The messages in order; what cannot be understood stands among them as `Invalid` or `Unintelligible`. Never
        empty.
    """
    if text.lstrip()[:1] != b"[":
        return [_decode_one(text, transport)]
    try:
        members, restore = read(_array, text)
    except Unreadable as error:
        return [Unintelligible(str(error))]
    if len(members) > MESSAGES_PER_ARRAY_MAX:
        return [Unintelligible(f"more than {MESSAGES_PER_ARRAY_MAX} messages in one array")]
    return [_decode_one(restore(member), transport) for member in members] or [Unintelligible("empty array")]


def first_id(beginning: bytes) -> list[RequestId]:
    """The id of the first request in a text of which only the beginning is there; none when it cannot be found.

    Every client writes it right behind the tag.
    """
    found = _FIRST_ID.match(beginning)
    request_id = None if found is None else _request_id(Raw(found[1]))
    return [] if request_id is None else [request_id]


def _decode_one(text: bytes, transport: str) -> Message:
    try:
        envelope, restore = read(_envelope, text)
    except Unreadable as error:
        return Unintelligible(str(error))
    match envelope.kind:
        case "Ping":
            return PING
        case "Request":
            request_id = _request_id(envelope.id)
            if request_id is None:
                return Unintelligible("a Request needs an `id` that is a decimal integer")
            return _request(request_id, envelope, restore, transport)
        case "Ack" | "Interrupt":
            request_id = _request_id(envelope.requestId)
            if request_id is None:
                return Unintelligible(f"{envelope.kind} needs a `requestId` that is a decimal integer")
            return Ack(request_id) if envelope.kind == "Ack" else Interrupt(request_id)
        case "Eof":
            return EOF
        case other:
            return Unintelligible(f"unknown `_tag` {other[:40]!r}")


def _request_id(raw: Raw | UnsetType) -> RequestId | None:
    if raw is UNSET:
        return None
    text = bytes(raw)
    if _ID.fullmatch(text) is None:
        return None
    return RequestId(text, Generation.V4 if text[:1] == b'"' else Generation.NEXT)


def _request(request_id: RequestId, envelope: _Envelope, restore: Restore, transport: str) -> Message:
    prefix, _, procedure = str(envelope.tag).partition(".")
    if prefix != ("SyncWsRpc" if transport == "ws" else "SyncHttpRpc"):
        procedure = ""
    payload = b"null" if envelope.payload is UNSET else bytes(envelope.payload)
    try:
        match procedure:
            case "Pull":
                return _pull_request(request_id, payload, restore)
            case "Push":
                return _push_request(request_id, payload, restore, _trace(envelope))
            case "Ping" if transport == "http":
                shape, restore = read(_http_ping, payload, restore)
                return PingRequest(request_id, _string(restore(shape.storeId), "storeId"))
            case _:
                return Invalid(request_id, Kind.UNKNOWN_RPC, f"There is no procedure {str(envelope.tag)[:60]!r} here.")
    except Unreadable as error:
        return Invalid(request_id, Kind.INVALID_REQUEST, f"The payload of {envelope.tag} is not valid: {error}")


def _pull_request(request_id: RequestId, payload: bytes, restore: Restore) -> PullRequest:
    shape, restore = read(_pull, payload, restore)
    after, backend_id = 0, None
    if isinstance(shape.cursor, _SomeCursor):
        value = shape.cursor.value
        after = max(ROOT_SEQ_NUM, integer(value.eventSequenceNumber, "$.cursor.value.eventSequenceNumber"))
        backend_id = _string(restore(value.backendId), "cursor.value.backendId")
    return PullRequest(
        request_id,
        _string(restore(shape.storeId), "storeId"),
        None if shape.payload is UNSET else restore(shape.payload),
        shape.live,
        after,
        backend_id,
    )


def _push_request(
    request_id: RequestId, payload: bytes, restore: Restore, trace: tuple[bytes, bytes, bytes] | None
) -> PushRequest:
    shape, restore = read(_push, payload, restore)
    known = shape.backendId
    return PushRequest(
        request_id,
        _string(restore(shape.storeId), "storeId"),
        None if shape.payload is UNSET else restore(shape.payload),
        take_batch(shape.batch, restore),
        _string(restore(known.value), "backendId.value") if isinstance(known, _SomeBackendId) else None,
        trace,
    )


def _trace(envelope: _Envelope) -> tuple[bytes, bytes, bytes] | None:
    if envelope.traceId is UNSET or envelope.spanId is UNSET:
        return None
    sampled = b"" if envelope.sampled is UNSET else bytes(envelope.sampled)
    return bytes(envelope.traceId), bytes(envelope.spanId), sampled


def _string(text: bytes, member: str) -> str:
    """A string member taken as Raw because it may hold lone surrogates."""
    if text[:1] != b'"':
        raise Unreadable(f"Expected `str` - at `$.{member}`")
    try:
        bare = text[1:-1].decode()
    except UnicodeDecodeError:
        raise Unreadable(f"Invalid UTF-8 - at `$.{member}`") from None
    if bare.isprintable() and "\\" not in bare:
        return bare  # every real one
    value = plain(text)
    assert isinstance(value, str)
    return value


# --- server messages -----------------------------------------------------------------------------------------------

PONG: Final = b'{"_tag":"Pong"}'


def page(items: bytes, remaining: int, backend_id: str) -> bytes:
    """A `PullResponse` (SPEC 3.3), the same bytes for 0.4 and next.

    Args:
        items: at most a page of events, from `events.rpc_items`; possibly none.
        remaining: events of this pull that follow after this page.
        backend_id: identity of the store.
    """
    info = b'{"_tag":"MoreKnown","remaining":%d}' % remaining if remaining else b'{"_tag":"NoMore"}'
    return b'{"batch":[%b],"pageInfo":%b,"backendId":%b}' % (
        items,
        info,
        msgspec.json.encode(backend_id),
    )


def chunk(request_id: RequestId, response: bytes) -> bytes:
    """A `Chunk` with one `PullResponse` (SPEC 3.2)."""
    return b'{"_tag":"Chunk","requestId":%b,"values":[%b]}' % (request_id.json, response)


def pull_success(request_id: RequestId) -> bytes:
    """End of a pull that is not live. The null value is required by next and accepted by 0.4 (SPEC section 4)."""
    return b'{"_tag":"Exit","requestId":%b,"exit":{"_tag":"Success","value":null}}' % request_id.json


def push_success(request_id: RequestId) -> bytes:
    """Acknowledgement of a push: its events are durable (SPEC 3.4)."""
    return b'{"_tag":"Exit","requestId":%b,"exit":{"_tag":"Success","value":{}}}' % request_id.json


def ping_success(request_id: RequestId) -> bytes:
    """Answer to an HTTP ping (SPEC 3.7)."""
    return (
        b'{"_tag":"Exit","requestId":%b,"exit":{"_tag":"Success","value":{"_tag":"SyncMessage.Pong"}}}'
        % request_id.json
    )


def interrupted(request_id: RequestId) -> bytes:
    """Answer to an Interrupt; clients ignore it (SPEC 3.3, section 4)."""
    if request_id.generation is Generation.NEXT:
        return _failure(request_id, b'{"_tag":"Interrupt","fiberId":null}')
    return _failure(request_id, b'{"_tag":"Interrupt","fiberId":{"_tag":"None"}}')


def refused(request_id: RequestId, refusal: Refusal) -> bytes:
    """A typed error: one of the three of SPEC 3.2, any other shape kills the client's request."""
    error: dict[str, object]
    match refusal:
        case ServerAhead():
            error = {
                "_tag": "ServerAheadError",
                "minimumExpectedNum": refusal.head,
                "providedNum": refusal.provided,
            }
        case BackendIdMismatch():
            received = Raw(json.dumps(refusal.received).encode())  # may hold lone surrogates, as only escapes can
            error = {"_tag": "BackendIdMismatchError", "expected": refusal.expected, "received": received}
        case _:
            cause = {"name": "Error", "message": _encodable(refusal.message)}
            error = {"_tag": "UnknownError", "cause": cause, "note": str(refusal.kind)}
    return _failure(request_id, b'{"_tag":"Fail","error":%b}' % msgspec.json.encode(error))


def _failure(request_id: RequestId, cause: bytes) -> bytes:
    if request_id.generation is Generation.NEXT:
        cause = b"[%b]" % cause
    return b'{"_tag":"Exit","requestId":%b,"exit":{"_tag":"Failure","cause":%b}}' % (request_id.json, cause)


def defect(message: str) -> bytes:
    """A `Defect`, only for an HTTP body in which no request id can be read.

    Over a WebSocket it would kill every request of the client (SPEC 3.6), so it is never sent there.
    """
    return msgspec.json.encode({"_tag": "Defect", "defect": {"name": "Error", "message": _encodable(message)}})


def _encodable(text: str) -> str:
    """A hook's message may hold lone surrogates, which UTF-8 cannot carry."""
    return text.encode(errors="replace").decode()
