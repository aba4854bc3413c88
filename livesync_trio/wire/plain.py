"""The plain form of events, for programs that are no LiveStore clients: read from JSON or lines of it, and written.

    {"id":"invoice-17","type":"invoicePaid","data":{"amount":3},"clientId":"billing","sessionId":"cron"}

`type` is LiveStore's event name and `data` its args, kept byte for byte. Number and time come from the server; a
`timestamp` that is sent is taken and not kept (decision 0018).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from livesync_trio.limits import APPEND_ID_MAX_CHARACTERS, EVENTS_PER_PUSH_MAX
from livesync_trio.model import Draft, StoredEvent
from livesync_trio.wire.reading import Restore, Unreadable, plain, read

_NOBODY_TEXT: Final = b'"api"'
_NOBODY: Final = Raw(_NOBODY_TEXT)
"""Client and session of an event that names none."""

_BY_NOBODY: Final = b'"clientId":%b,"sessionId":%b}' % (_NOBODY_TEXT, _NOBODY_TEXT)

_QUOTE: Final = ord('"')
_NULL: Final = b"null"

NewId = Callable[[], str]
"""Makes an id that no event has."""


class EventShape(msgspec.Struct, forbid_unknown_fields=True):
    """An event as it is sent."""

    type: Raw
    data: Raw = Raw(_NULL)
    id: Raw | UnsetType = UNSET
    timestamp: Raw | UnsetType = UNSET
    clientId: Raw = _NOBODY  # noqa: N815 -- the wire's names
    sessionId: Raw = _NOBODY  # noqa: N815


class _BodyShape(msgspec.Struct, forbid_unknown_fields=True):
    """One event, or several under one name."""

    events: list[EventShape] | UnsetType = UNSET
    type: Raw | UnsetType = UNSET
    data: Raw = Raw(_NULL)
    id: Raw | UnsetType = UNSET
    timestamp: Raw | UnsetType = UNSET
    clientId: Raw = _NOBODY  # noqa: N815
    sessionId: Raw = _NOBODY  # noqa: N815


_body: Final = msgspec.json.Decoder(_BodyShape)
_event: Final = msgspec.json.Decoder(EventShape)


def drafts_of_json(body: bytes, key: str | None, new_id: NewId) -> tuple[Draft, ...]:
    """Read one event, or `{"events":[…]}`.

    Args:
        body: UTF-8.
        key: names the request: the ids of events that bring none are made of it. None: they get new ones.
        new_id: makes those.

    Raises:
        Unreadable: it is neither, or has too many events, or none.
    """
    shape, restore = read(_body, body)
    if shape.events is UNSET:
        if shape.type is UNSET:
            raise Unreadable("Object missing required field `type` or `events`")
        one = EventShape(shape.type, shape.data, shape.id, shape.timestamp, shape.clientId, shape.sessionId)
        return drafts_of([one], restore, key, new_id)
    if shape != _BodyShape(shape.events):
        raise Unreadable("Beside `events` there is nothing else in an object: ids and types belong to each event")
    return drafts_of(shape.events, restore, key, new_id)


def drafts_of_lines(body: bytes, key: str | None, new_id: NewId) -> tuple[Draft, ...]:
    """Read one event a line; empty lines are passed over. See `drafts_of_json`."""
    drafts: list[Draft] = []
    for number, line in enumerate(body.split(b"\n")):
        if line.strip():
            if len(drafts) == EVENTS_PER_PUSH_MAX:
                raise _too_many()
            try:
                shape, restore = read(_event, line)
                drafts.append(_draft(shape, restore, key, len(drafts), new_id))
            except Unreadable as error:
                raise Unreadable(f"line {number + 1}: {error}") from None
    return _some(drafts)


def drafts_of(shapes: Sequence[EventShape], restore: Restore, key: str | None, new_id: NewId) -> tuple[Draft, ...]:
    """Turn events as read into what a store takes. See `drafts_of_json`."""
    if len(shapes) > EVENTS_PER_PUSH_MAX:
        raise _too_many()
    return _some([_draft(shape, restore, key, index, new_id) for index, shape in enumerate(shapes)])


def _some(drafts: list[Draft]) -> tuple[Draft, ...]:
    if not drafts:
        raise Unreadable("There is no event in it")
    return tuple(drafts)


def _too_many() -> Unreadable:
    return Unreadable(f"Expected at most {EVENTS_PER_PUSH_MAX} events")


def _draft(shape: EventShape, restore: Restore, key: str | None, index: int, new_id: NewId) -> Draft:
    name, after = restore(shape.type), _BY_NOBODY
    if shape.clientId is not _NOBODY or shape.sessionId is not _NOBODY:
        client, session = restore(shape.clientId), restore(shape.sessionId)
        after = b'"clientId":%b,"sessionId":%b}' % (client, session)
    else:
        client = session = _NOBODY_TEXT
    if not name[0] == client[0] == session[0] == _QUOTE:
        raise Unreadable(f"Expected `str` for `type`, `clientId` and `sessionId` - at `$.events[{index}]`")
    if shape.timestamp is not UNSET and restore(shape.timestamp)[:1] not in b'"n':
        raise Unreadable(f"Expected `str | null` - at `$.events[{index}].timestamp`")
    append_id = None
    if shape.id is not UNSET and (given := restore(shape.id)) != _NULL:
        append_id = checked_id(plain(given), f"$.events[{index}].id")
    elif key is not None:
        append_id = f"{key}/{index}"
    before = b'{"name":%b,"args":%b' % (name, restore(shape.data))
    return Draft(before, after, append_id or new_id(), append_id is not None)


def checked_id(given: object, where: str) -> str:
    """An id that may be kept. Raises Unreadable."""
    if not isinstance(given, str) or not 0 < len(given) <= APPEND_ID_MAX_CHARACTERS or not given.isprintable():
        raise Unreadable(f"Expected 1 to {APPEND_ID_MAX_CHARACTERS} printable characters - at `{where}`")
    return given


# --- written ---------------------------------------------------------------------------------------------------------


class _KeptShape(msgspec.Struct):
    """The text that is kept of an event."""

    name: Raw
    args: Raw
    clientId: Raw  # noqa: N815
    sessionId: Raw  # noqa: N815


_kept: Final = msgspec.json.Decoder(_KeptShape)
_LINE_ENDS_AS_SPACES: Final = bytes.maketrans(b"\r\n", b"  ")


def plain_text(event: StoredEvent) -> bytes:
    """An event in its plain form, on one line: line ends between tokens mean nothing in JSON and are sent as spaces."""
    shape, restore = read(_kept, event.json)
    text = b'{"id":%b,"seqNum":%d,"type":%b,"data":%b,"timestamp":"%b","clientId":%b,"sessionId":%b}' % (
        _NULL if event.append_id is None else msgspec.json.encode(event.append_id),
        event.seq_num,
        restore(shape.name),
        restore(shape.args),
        event.created_at.encode(),
        restore(shape.clientId),
        restore(shape.sessionId),
    )
    return text.translate(_LINE_ENDS_AS_SPACES)


def plain_items(events: Iterable[StoredEvent]) -> bytes:
    """Events in their plain form, joined with commas."""
    return b",".join(map(plain_text, events))


def plain_lines(events: Iterable[StoredEvent]) -> bytes:
    """Events in their plain form, one a line."""
    return b"".join([b"%b\n" % plain_text(event) for event in events])
