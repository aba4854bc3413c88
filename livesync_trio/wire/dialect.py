"""Messages of the plain WebSocket dialect: JSON objects with a `type`, for programs that are no LiveStore clients.

    → {"type":"push","id":1,"events":[{"type":"todoAdded","data":{…}}]}
    ← {"type":"ack","id":1,"events":[{"id":"…","seqNum":7}],"repeated":0,"head":7,"backendId":"…"}

`id`, where a message has one, comes back in its answer. Owns both directions.
"""

from collections.abc import Sequence
from typing import Final, Literal

import attrs
import msgspec
from msgspec import UNSET, Raw, UnsetType

from livesync_trio.errors import Refusal
from livesync_trio.limits import API_PAGE, API_PAGE_MAX, REQUEST_ID_MAX_BYTES, SEQ_NUM_MAX
from livesync_trio.model import Draft, LogState
from livesync_trio.wire.plain import EventShape, NewId, drafts_of
from livesync_trio.wire.reading import Unreadable, read

PONG: Final = b'{"type":"pong"}'


class _Shape(msgspec.Struct, forbid_unknown_fields=True):
    """Any message; its `type` says which members count."""

    type: Literal["auth", "push", "pull", "unsubscribe", "ping", "pong"]
    id: Raw | UnsetType = UNSET
    token: str = ""
    events: list[EventShape] = []
    head: int | None = None
    backendId: str | None = None  # noqa: N815 -- the wire's names
    after: int = 0
    since: str | None = None
    limit: int = API_PAGE
    live: bool = False


_shapes: Final = msgspec.json.Decoder(_Shape)


@attrs.frozen
class Auth:
    """Who the client is: a token."""

    id: bytes | None
    token: str


@attrs.frozen
class Push:
    """Append events. `head`, `backend_id`: where the log is expected to be; None for anywhere."""

    id: bytes | None
    drafts: tuple[Draft, ...]
    head: int | None
    backend_id: str | None


@attrs.frozen
class Pull:
    """Read events behind a number, or from a moment on; with `live` all of them, and then everything as it comes."""

    id: bytes | None
    after: int
    backend_id: str | None
    since: str | None
    limit: int
    live: bool


@attrs.frozen
class Unsubscribe:
    """Send nothing new any more."""

    id: bytes | None


@attrs.frozen
class Ping:
    """A sign of life is wanted, or given."""

    wants_answer: bool


Message = Auth | Push | Pull | Unsubscribe | Ping


class BadMessage(ValueError):
    """A message cannot be understood. `id`: the one it has, if that can be told."""

    def __init__(self, reason: str, request_id: bytes | None) -> None:
        super().__init__(reason)
        self.id = request_id


def is_dialect(text: bytes) -> bool:
    """Whether a first message speaks this dialect: an object with `type`, and without the `_tag` of LiveStore."""
    try:
        found = _firsts.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return found.type is not UNSET and found.tag is UNSET


class _First(msgspec.Struct):
    type: str | UnsetType = UNSET
    tag: Raw | UnsetType = msgspec.field(default=UNSET, name="_tag")


_firsts: Final = msgspec.json.Decoder(_First)


def decode(text: bytes, new_id: NewId) -> Message:
    """Read a message.

    Args:
        text: UTF-8.
        new_id: makes an id for an event that brings none.

    Raises:
        BadMessage: it is none.
    """
    request_id: bytes | None = None
    try:
        shape, restore = read(_shapes, text)
        if shape.id is not UNSET:
            given = restore(shape.id)
            if len(given) > REQUEST_ID_MAX_BYTES or given[:1] in b"[{":
                raise Unreadable("`id` is a short text or a number")
            request_id = given
        match shape.type:
            case "auth":
                return Auth(request_id, shape.token)
            case "push":
                return Push(request_id, drafts_of(shape.events, restore, None, new_id), shape.head, shape.backendId)
            case "pull":
                _check(shape)
                return Pull(request_id, shape.after, shape.backendId, shape.since, shape.limit, shape.live)
            case "unsubscribe":
                return Unsubscribe(request_id)
            case _:
                return Ping(shape.type == "ping")
    except Unreadable as error:
        raise BadMessage(str(error), request_id) from None


def _check(shape: _Shape) -> None:
    if not 0 <= shape.after <= SEQ_NUM_MAX or not 1 <= shape.limit <= API_PAGE_MAX:
        raise Unreadable(f"`after` is the number of an event, `limit` 1 to {API_PAGE_MAX}")


# --- written ---------------------------------------------------------------------------------------------------------


def session(request_id: bytes | None, user: str | None, state: LogState) -> bytes:
    """The client is known, and may use the store."""
    told = {"user": user, "head": state.head, "backendId": state.backend_id}
    return _message(b"session", request_id, msgspec.json.encode(told)[1:])


def ack(
    request_id: bytes | None, drafts: Sequence[Draft], seq_nums: Sequence[int], repeated: int, state: LogState
) -> bytes:
    """Events are durable, under these numbers."""
    told = {
        "events": [{"id": draft.append_id, "seqNum": number} for draft, number in zip(drafts, seq_nums, strict=True)],
        "repeated": repeated,
        "head": state.head,
        "backendId": state.backend_id,
    }
    return _message(b"ack", request_id, msgspec.json.encode(told)[1:])


def events(request_id: bytes | None, items: bytes, timestamp: str, more: bytes) -> bytes:
    """Events, as `plain.plain_items` gives them. `more`: further members, each with a comma in front."""
    return _message(b"events", request_id, b'"events":[%b],"timestamp":"%b"%b}' % (items, timestamp.encode(), more))


def reset(backend_id: str) -> bytes:
    """The log has gone; what comes belongs to another one, from its first event on."""
    return _message(b"reset", None, b'"backendId":%b}' % msgspec.json.encode(backend_id))


def error(request_id: bytes | None, refusal: Refusal) -> bytes:
    """A request is refused."""
    told = {"code": str(refusal.kind), "message": refusal.message.encode(errors="replace").decode()}
    if isinstance(getattr(refusal, "head", None), int):
        told["head"] = refusal.head  # type: ignore[attr-defined]
    return _message(b"error", request_id, msgspec.json.encode(told)[1:])


def quoted(text: str) -> bytes:
    """A text as JSON."""
    return msgspec.json.encode(text.encode(errors="replace").decode())


def _message(kind: bytes, request_id: bytes | None, rest: bytes) -> bytes:
    named = b"" if request_id is None else b'"id":%b,' % request_id
    return b'{"type":"%b",%b%b' % (kind, named, rest)
