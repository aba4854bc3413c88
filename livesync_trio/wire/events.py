"""Events on the wire: from a client's JSON to the text that is kept, and to the items of a page.

An event is read once, checked, and written as one canonical text with its `args` (and its strings) byte for byte as
they came (SPEC section 1). From then on it is only copied.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
from msgspec import Raw

from livesync_trio.limits import EVENTS_PER_PUSH_MAX, PAGE_MAX_BYTES, PAGE_MAX_EVENTS, SEQ_NUM_MAX
from livesync_trio.model import Event, StoredEvent
from livesync_trio.wire.reading import Restore, Unreadable


class EventShape(msgspec.Struct):
    """An event as clients send it; unknown members are dropped [ws-34]. `args` may be absent (SPEC section 1)."""

    name: Raw
    seqNum: int | float  # noqa: N815 -- the wire's names
    parentSeqNum: int | float  # noqa: N815
    clientId: Raw  # noqa: N815
    sessionId: Raw  # noqa: N815
    args: Raw = Raw(b"null")


def take_batch(shapes: Sequence[EventShape], restore: Restore) -> tuple[Event, ...]:
    """Turn the events of a push into the form in which they are kept.

    Args:
        shapes: events as read.
        restore: from `reading.read`.

    Raises:
        Unreadable: too many; a number is not an integer within ±(2**53-1), or a string member is not a string.
    """
    if len(shapes) > EVENTS_PER_PUSH_MAX:
        raise Unreadable(f"Expected at most {EVENTS_PER_PUSH_MAX} events, got {len(shapes)} - at `$.batch`")
    if len(shapes) == 1:
        return (_take(0, shapes[0], restore),)  # nearly always
    return tuple([_take(index, shape, restore) for index, shape in enumerate(shapes)])


def _take(index: int, shape: EventShape, restore: Restore) -> Event:
    seq_num, parent = shape.seqNum, shape.parentSeqNum
    if type(seq_num) is not int or type(parent) is not int or not -SEQ_NUM_MAX <= parent < seq_num <= SEQ_NUM_MAX:
        # Not the path of a real client: the name of the place is built here only.
        seq_num = integer(seq_num, f"$.batch[{index}].seqNum")
        parent = integer(parent, f"$.batch[{index}].parentSeqNum")
    name, client, session = restore(shape.name), restore(shape.clientId), restore(shape.sessionId)
    if not name[0] == client[0] == session[0] == _QUOTE:
        raise Unreadable(f"Expected `str` for `name`, `clientId` and `sessionId` - at `$.batch[{index}]`")
    text = b'{"name":%b,"args":%b,"seqNum":%d,"parentSeqNum":%d,"clientId":%b,"sessionId":%b}' % (
        name,
        restore(shape.args),
        seq_num,
        parent,
        client,
        session,
    )
    return Event(seq_num, parent, text)


_QUOTE: Final = ord('"')


def integer(number: int | float, where: str) -> int:
    """The number as an integer: `1.0` is one; `1.5`, `1e999` and `2**53` are not (SPEC section 1).

    Args:
        number: as read from JSON.
        where: path of the member, for the message.

    Raises:
        Unreadable: not an integer within ±(2**53-1).
    """
    if isinstance(number, float):
        if not number.is_integer():
            raise Unreadable(f"Expected an integer, got {number} - at `{where}`")
        number = int(number)
    if not -SEQ_NUM_MAX <= number <= SEQ_NUM_MAX:
        raise Unreadable(f"Expected an integer within ±{SEQ_NUM_MAX} - at `{where}`")
    return number


RPC_ITEM_OVERHEAD_BYTES: Final = len(
    b'{"eventEncoded":,"metadata":{"_tag":"Some","value":'
    b'{"_tag":"SyncMessage.SyncMetadata","createdAt":"2026-01-01T00:00:00.000Z"}}},'
)
"""Bytes an event costs on a page beyond its own text, in 0.4 and next (a little less in 0.3)."""

PAGE_OVERHEAD_BYTES: Final = 512
"""Bytes of a page and its envelope beyond its items: tags, ids, `remaining`; generous."""


def rpc_items(events: Iterable[StoredEvent]) -> bytes:
    """Items of `PullResponse.batch` for 0.4 and next, joined with commas (SPEC 3.3)."""
    return b",".join(
        [
            b'{"eventEncoded":%b,"metadata":{"_tag":"Some","value":'
            b'{"_tag":"SyncMessage.SyncMetadata","createdAt":"%b"}}}' % (event.json, event.created_at.encode())
            for event in events
        ]
    )


def v3_items(events: Iterable[StoredEvent]) -> bytes:
    """Items of `PullRes.batch` for 0.3, joined with commas (SPEC 5.2)."""
    return b",".join(
        [
            b'{"eventEncoded":%b,"metadata":{"_tag":"Some","value":{"createdAt":"%b"}}}'
            % (event.json, event.created_at.encode())
            for event in events
        ]
    )


def pages(
    events: Sequence[StoredEvent], event_overhead_bytes: int, page_overhead_bytes: int
) -> Iterator[Sequence[StoredEvent]]:
    """Cut a run of events into pages of at most 100 events and 900,000 encoded bytes.

    Greedy: events are added until one limit would be exceeded. A single event above the limit is a page of its own.

    Args:
        events: the run; empty gives no page.
        event_overhead_bytes: bytes an event costs on a page beyond its text.
        page_overhead_bytes: bytes of a page beyond its events.
    """
    start, size = 0, page_overhead_bytes
    for index, event in enumerate(events):
        event_bytes = len(event.json) + event_overhead_bytes
        if index > start and (index - start == PAGE_MAX_EVENTS or size + event_bytes > PAGE_MAX_BYTES):
            yield events[start:index]
            start, size = index, page_overhead_bytes
        size += event_bytes
    if start < len(events):
        yield events[start:]
