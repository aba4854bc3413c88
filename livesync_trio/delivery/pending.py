"""What is to be delivered, as the database has it: cursors beside logs, read in a reader thread.

Owns these questions; each is answered in one go by one handle, so that a step of a delivery costs one hop.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from livesync_trio.config.webhooks import Webhook
from livesync_trio.delivery.limits import WEBHOOK_BODY_BYTES
from livesync_trio.delivery.records import Cursor, cursors_of
from livesync_trio.errors import LogReplaced
from livesync_trio.limits import READ_MAX_EVENTS
from livesync_trio.model import RESERVED_STORES, LogState, StoredEvent, StoreId
from livesync_trio.storage.base import Reader, StoreSummary
from livesync_trio.wire.choice import origin_of

PAGE: Final = 500


@attrs.frozen
class Nothing:
    """Nothing is to be done about a store: all was delivered, or it is parked."""


@attrs.frozen
class Replaced:
    """The log of a store is another one than that of which events were delivered."""

    cursor: Cursor
    state: LogState
    created_at: str


@attrs.frozen
class Deleted:
    """There is no such store any more, of which events were delivered."""

    cursor: Cursor


@attrs.frozen
class Events:
    """The next events of a store.

    Attributes:
        cursor: how far it was delivered; its place is of the log that is there.
        state: the log.
        wanted: events that are to be sent; perhaps none.
        up_to: number of the last event that was looked at.
    """

    cursor: Cursor
    state: LogState
    wanted: Sequence[StoredEvent]
    up_to: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the texts of the wanted ones."""
        return sum(len(event.json) for event in self.wanted)


Found = Nothing | Replaced | Deleted | Events


def look(reader: Reader, webhook: Webhook, store_id: StoreId) -> Found:
    """What is next for a store. Raises what `Reader.read` raises, but for `LogReplaced`."""
    cursor = Cursor.of(reader.record(cursors_of(webhook.id), store_id))
    state = reader.state(store_id)
    if cursor.place.parked or (state is None and cursor.place.backend_id is None):
        return Nothing()
    if state is None:
        return Deleted(cursor)
    if cursor.place.lost(state):
        summary = reader.summary(store_id)
        return Nothing() if summary is None else Replaced(cursor, state, summary.created_at)
    if cursor.place.covers(state):
        return Nothing()
    if cursor.place.backend_id is None:
        cursor = attrs.evolve(cursor, place=cursor.place.of_log(state.backend_id))
    place = cursor.place
    limit = webhook.batch if webhook.wants_all_events else READ_MAX_EVENTS
    try:
        events = reader.read(state, place.seq_num, place.up_to or state.head, limit, WEBHOOK_BODY_BYTES)
    except LogReplaced:
        return look(reader, webhook, store_id)
    if not events:  # an earlier attempt went up to a number that this log has not
        return Events(cursor, state, (), place.up_to)
    wanted = [event for event in events if webhook.wants_all_events or webhook.wants_event(origin_of(event)[0])]
    if len(wanted) > webhook.batch:
        wanted = wanted[: webhook.batch]
        return Events(cursor, state, wanted, wanted[-1].seq_num)
    return Events(cursor, state, wanted, events[-1].seq_num)


@attrs.frozen
class Beside:
    """A store and how far it was delivered; `cursor` is None where nothing was noted yet."""

    summary: StoreSummary
    cursor: Cursor | None


@attrs.frozen
class ComparedPage:
    """Some stores, beside their cursors.

    Attributes:
        stores: those that are there.
        gone: cursors of stores that are not there any more.
        after: where the next page begins; None: there is none.
    """

    stores: Sequence[Beside]
    gone: Mapping[StoreId, Cursor]
    after: StoreId | None


def compare(reader: Reader, webhook: Webhook, after: StoreId | None) -> ComparedPage:
    """The next stores that a webhook wants, beside their cursors. Raises what `Reader.stores` raises."""
    summaries = reader.stores(after, PAGE)
    last = summaries[-1].store_id if len(summaries) == PAGE else None
    cursors: dict[str, Cursor] = {}
    key: str | None = after
    while True:
        records = reader.records(cursors_of(webhook.id), key, PAGE)
        within = [record for record in records if last is None or record.key.encode() <= last.encode()]
        cursors |= {record.key: Cursor.of(record) for record in within}
        if len(within) < PAGE:
            break
        key = records[-1].key
    stores = [
        Beside(summary, cursors.get(summary.store_id))
        for summary in summaries
        if webhook.wants_store(summary.store_id) and not summary.store_id.startswith(RESERVED_STORES)
    ]
    there = {summary.store_id for summary in summaries}
    gone = {
        StoreId(name): cursor
        for name, cursor in cursors.items()
        if name not in there and cursor.place.backend_id is not None and webhook.wants_store(StoreId(name))
    }
    return ComparedPage(stores, gone, last)
