"""The JSON messages of generation 0.3 (SPEC section 5)."""

from typing import Final, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from livesync_trio.errors import Kind
from livesync_trio.limits import REQUEST_ID_MAX_BYTES
from livesync_trio.model import ROOT_SEQ_NUM
from livesync_trio.wire.events import EventShape, integer, take_batch
from livesync_trio.wire.messages import (
    AdminInfo,
    AdminReset,
    Generation,
    Invalid,
    Message,
    Ping,
    PullRequest,
    PushRequest,
    RequestId,
    Unintelligible,
)
from livesync_trio.wire.reading import Unreadable, read


class _Envelope(msgspec.Struct, rename={"kind": "_tag"}):
    kind: str
    requestId: Raw  # noqa: N815 -- the wire's names


class _Pull(msgspec.Struct):
    cursor: int | float | UnsetType | None = UNSET


class _Push(msgspec.Struct):
    batch: list[EventShape]


class _Admin(msgspec.Struct):
    adminSecret: str  # noqa: N815


_envelope: Final = msgspec.json.Decoder(_Envelope)
_pull: Final = msgspec.json.Decoder(_Pull)
_push: Final = msgspec.json.Decoder(_Push)
_admin: Final = msgspec.json.Decoder(_Admin)


def decode(text: bytes) -> Message:
    """Read one text message of a 0.3 client.

    Returns:
        The message; `Invalid` when it has an id to answer to, `Unintelligible` when not (0.3 ignores those, SPEC 5.3).
    """
    try:
        envelope, restore = read(_envelope, text)
    except Unreadable as error:
        return Unintelligible(str(error))
    id_json = restore(envelope.requestId)
    if id_json[:1] != b'"':
        return Unintelligible("`requestId` must be a string")
    request_id = RequestId(id_json, Generation.V3)
    if len(id_json) > REQUEST_ID_MAX_BYTES:
        return Invalid(request_id, Kind.INVALID_REQUEST, f"`requestId` is longer than {REQUEST_ID_MAX_BYTES} bytes.")
    try:
        match envelope.kind:
            case "WSMessage.Ping":
                return Ping(id_json)
            case "WSMessage.PullReq":
                return _pull_request(request_id, text)
            case "WSMessage.PushReq":
                shape, restore = read(_push, text)
                return PushRequest(request_id, None, None, take_batch(shape.batch, restore), None)
            case "WSMessage.AdminResetRoomReq":
                return AdminReset(request_id, read(_admin, text)[0].adminSecret)
            case "WSMessage.AdminInfoReq":
                return AdminInfo(request_id, read(_admin, text)[0].adminSecret)
            case other:
                return Unintelligible(f"unknown `_tag` {other[:40]!r}")
    except Unreadable as error:
        return Invalid(request_id, Kind.INVALID_REQUEST, f"{envelope.kind} is not valid: {error}")


def _pull_request(request_id: RequestId, text: bytes) -> PullRequest:
    cursor = read(_pull, text)[0].cursor
    after = 0 if cursor is UNSET or cursor is None else max(ROOT_SEQ_NUM, integer(cursor, "$.cursor"))
    return PullRequest(request_id, None, None, True, after, None)


def pong(ping: Ping) -> bytes:
    """Answer to a Ping, with its id."""
    return b'{"_tag":"WSMessage.Pong","requestId":%b}' % (ping.id or b'"ping"')


def pull_res(items: bytes, remaining: int, context: Literal[b"pull", b"push"], request_id: bytes) -> bytes:
    """A page of a pull's answer, or a broadcast.

    Args:
        items: the events, from `events.v3_items`; possibly none.
        remaining: events of this answer that follow; 0 in broadcasts.
        context: `pull` for an answer, `push` for a broadcast.
        request_id: JSON text of the pull's or push's id.
    """
    return b'{"_tag":"WSMessage.PullRes","batch":[%b],"requestId":{"context":"%b","requestId":%b},"remaining":%d}' % (
        items,
        context,
        request_id,
        remaining,
    )


def broadcast(items: bytes, request_id: bytes) -> bytes:
    """What others have pushed.

    Args:
        items: the events, from `events.v3_items`.
        request_id: JSON text of the push's id. Generation next numbers its requests; these clients read texts only.
    """
    return pull_res(items, 0, b"push", request_id if request_id.startswith(b'"') else b'"%b"' % request_id)


def push_ack(request_id: RequestId) -> bytes:
    """Acknowledgement of a push: its events are durable."""
    return b'{"_tag":"WSMessage.PushAck","requestId":%b}' % request_id.json


def error(request_id: RequestId, message: str) -> bytes:
    """Refusal of any request."""
    text = msgspec.json.encode(message.encode(errors="replace").decode())
    return b'{"_tag":"WSMessage.Error","requestId":%b,"message":%b}' % (request_id.json, text)


def parent_mismatch(head: int, provided: int) -> str:
    """The text by which 0.3 clients are told that the server is ahead (SPEC 5.3: exactly this)."""
    return f"Invalid parent event number. Received e{provided} but expected e{head}"


def admin_reset_res(request_id: RequestId) -> bytes:
    """The room was reset."""
    return b'{"_tag":"WSMessage.AdminResetRoomRes","requestId":%b}' % request_id.json


def admin_info_res(request_id: RequestId, object_id: str) -> bytes:
    """Which object this is: 64 hexadecimal digits."""
    return b'{"_tag":"WSMessage.AdminInfoRes","requestId":%b,"info":{"durableObjectId":"%b"}}' % (
        request_id.json,
        object_id.encode(),
    )
