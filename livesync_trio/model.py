"""The nouns of the domain: events as they are kept, batches, cursors, the state of a log, publications.

Owns values only, which nobody changes; no behaviour beyond what follows from the fields, no I/O, no Trio. What is made
for each push is not `frozen`, here and above: attrs' guard against changes costs three times as much as the rest of it.

An event is kept as the JSON text that is sent as `eventEncoded` (SPEC section 1), its `args` byte for byte as received
(decision 0003). Nothing in the server decodes it again, unless a hook asks.
"""

import operator
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, NewType

import attrs
import msgspec

StoreId = NewType("StoreId", str)
"""Name of a store, exactly as in the URL: never sanitised, folded or cut (storage/base.py)."""

RESERVED_STORES: Final = "livesync-staged/"
"""Stores under names with this beginning are imports under way: no client ever meets one."""

SCRATCH_STORES: Final = "livesync-probe"
"""Beginning of the names of stores that `doctor` and `bench` try out; nobody wants to see them in a list."""

BackendId = NewType("BackendId", str)
"""Identity of a store's log: made with it, replaced by a reset (SPEC 3.4)."""

ROOT_SEQ_NUM: Final = 0
"""Parent of a first event, and head of an empty log (SPEC section 1)."""


@attrs.frozen
class Principal:
    """Who a client has proved to be.

    Attributes:
        id: the user's name: what the token's claim says, or a hook.
        claims: everything the token says, checked; empty when there was none.
    """

    id: str
    claims: Mapping[str, Any] = attrs.field(factory=dict, hash=False)


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event of a batch on its way in. Nothing is made more often, and msgspec makes it in a quarter of attrs' time.

    Attributes:
        seq_num: number the client chose, |n| <= 2**53-1.
        parent_seq_num: number of the event before it, 0 at the root.
        json: canonical text of the event: the six fields in a fixed order, `args` byte-exact. UTF-8.
        append_id: under which id it was appended without a number; None for an event of a LiveStore client.
    """

    seq_num: int
    parent_seq_num: int
    json: bytes
    append_id: str | None = None


class Draft(msgspec.Struct, frozen=True, gc=False):
    """An event without a number, which the store gives it behind its head (`rules.numbering`).

    Attributes:
        before: canonical text of the event up to its numbers: name and `args`, byte-exact. UTF-8.
        after: what follows them: client and session.
        append_id: its id, one event's own in its log for ever.
        repeatable: whether the client gave the id, so that it may come again; else it was made for this event alone.
    """

    before: bytes
    after: bytes
    append_id: str
    repeatable: bool

    def numbered(self, seq_num: int, parent_seq_num: int) -> Event:
        """The event under a number."""
        text = b'%b,"seqNum":%d,"parentSeqNum":%d,%b' % (self.before, seq_num, parent_seq_num, self.after)
        return Event(seq_num, parent_seq_num, text, self.append_id)


def text_bytes(events: Iterable[Event]) -> int:
    """Bytes of the texts of events together."""
    return sum(map(len, map(_TEXT, events)))  # asked for every push, so without a frame of Python for each event


_TEXT: Final = operator.attrgetter("json")


@attrs.define(unsafe_hash=True)
class Batch:
    """Events that are admitted together or not at all; never empty, ascending and chained (`rules.admission`).

    What follows from the events is asked for several times on the way of each push, and so is worked out once.

    Attributes:
        events: the events.
        user: who pushed them, to be stored with them; None where nobody is known or nobody asked for it (`store_user`).
        parent_seq_num: the head this batch continues.
        last_seq_num: the head after this batch.
        size_bytes: bytes of all event texts together.
    """

    events: tuple[Event, ...]
    user: str | None = None
    parent_seq_num: int = attrs.field(init=False, eq=False, repr=False)
    last_seq_num: int = attrs.field(init=False, eq=False, repr=False)
    size_bytes: int = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        events = self.events
        self.parent_seq_num, self.last_seq_num = events[0].parent_seq_num, events[-1].seq_num
        self.size_bytes = sum(map(len, map(_TEXT, events)))


class StoredEvent(NamedTuple):
    """One event as storage gives it back.

    Attributes:
        seq_num: its number.
        ordinal: how many events the log holds up to and including this one (1 for the first). With it
            `remaining` is exact without counting rows, although numbers may have gaps (decision 0003).
        json: the text stored by `Event.json`, byte for byte.
        created_at: server time of the push, `YYYY-MM-DDTHH:MM:SS.mmmZ` (SPEC section 1).
        user: who pushed it, if that was stored (`Batch.user`). Never sent to a client.
        append_id: its id, if it was appended under one (`Event.append_id`). Never sent to a LiveStore client.
    """

    seq_num: int
    ordinal: int
    json: bytes
    created_at: str
    user: str | None = None
    append_id: str | None = None


class Page(NamedTuple):
    """A run of events as it is sent, encoded for one generation of clients.

    Attributes:
        items: the encoded events, joined with commas.
        last_seq_num: number of the last of them.
        last_ordinal: its ordinal.
    """

    items: bytes
    last_seq_num: int
    last_ordinal: int


@attrs.frozen
class Cursor:
    """Where a client stands: the last event it has, and the identity under which it got it.

    Attributes:
        seq_num: number of the last event the client has; it need not exist.
        backend_id: identity the client remembers, None when its generation has none (0.3).
    """

    seq_num: int
    backend_id: BackendId | None


@attrs.define(unsafe_hash=True)
class LogState:
    """What is durably true of a store at one moment.

    Attributes:
        log_id: storage's own number of this log; a reset gives the store another one.
        backend_id: identity that clients see; changes together with `log_id`.
        head: number of the last event, 0 when empty.
        event_count: events in the log; the ordinal of the last one.
        frozen: whether it takes no more events, until an operator thaws it.
    """

    log_id: int
    backend_id: BackendId
    head: int
    event_count: int
    frozen: bool = False

    @property
    def cursor(self) -> Cursor:
        """Where a client stands that has all of it."""
        return Cursor(self.head, self.backend_id)


@attrs.frozen
class Publication:
    """A durable batch on its way to the followers of its store.

    Attributes:
        state: the log right after the batch.
        events: the batch as stored.
        request_id: id of the push that brought it, as JSON text (0.3 broadcasts carry it, SPEC 5.2).
        origin: the pushing peer, compared by identity only; None when the batch came from elsewhere.
        cursor: where whoever received it stands.
        size_bytes: bytes of the texts of its events.
        encoded: what `connection.pulling` made of it, so that it is made once however many receive it.
    """

    state: LogState
    events: tuple[StoredEvent, ...]
    request_id: bytes
    origin: object | None = attrs.field(eq=False, default=None)
    cursor: Cursor = attrs.field(init=False, repr=False)
    size_bytes: int = attrs.field(init=False, repr=False)
    encoded: dict[str | bytes, Any] = attrs.field(eq=False, repr=False, factory=dict)

    @cursor.default
    def _stand(self) -> Cursor:
        return self.state.cursor

    @size_bytes.default
    def _measure(self) -> int:
        return sum([len(event.json) for event in self.events])
