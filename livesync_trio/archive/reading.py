"""Whole logs out of a database, page by page, every invariant checked on the way.

Owns the walk through a log; memory stays at a page however long the log is. The checks of storage itself (no hole
within a page, sizes, checksums where the engine keeps them) come with every page.
"""

from collections.abc import Callable, Iterator
from typing import Final

from livesync_trio.archive.entries import Broken, Entry, Walk, entries_of
from livesync_trio.errors import StoreDamaged
from livesync_trio.limits import READ_MAX_BYTES, READ_MAX_EVENTS
from livesync_trio.model import ROOT_SEQ_NUM, LogState, StoredEvent, StoreId
from livesync_trio.storage.base import Reader, StoreSummary
from livesync_trio.wording import count

_NEWEST_SPAN: Final = 128
"""Numbers that are looked at first when a log is read backwards."""

OnEvents = Callable[[int], None]
"""Told how many events more have been dealt with."""


def unheard(_events: int) -> None:
    """Nobody wants to know."""


def all_stores(reader: Reader, containing: str = "", page: int = READ_MAX_EVENTS) -> Iterator[StoreSummary]:
    """Every store of a database in the order of their names.

    Raises:
        StorageUnavailable: try again later.
    """
    after: StoreId | None = None
    while summaries := reader.stores(after, page, containing):
        yield from summaries
        after = summaries[-1].store_id


def newest_first(reader: Reader, log: LogState, before: int | None = None) -> Iterator[StoredEvent]:
    """Events of a log from its head back to its root, or from in front of the number `before`.

    Storage reads forwards only, so a span of numbers is read and turned round. It is halved when what lies in it is
    more than one page, and doubled when nothing does: memory stays at a page, however large events are and however
    far their numbers lie apart.

    Raises:
        LogReplaced, StoreDamaged, StorageUnavailable: see `Reader.read`.
    """
    up_to = log.head if before is None else min(before - 1, log.head)
    span = _NEWEST_SPAN
    while up_to > ROOT_SEQ_NUM:
        after = max(ROOT_SEQ_NUM, up_to - span)
        events = reader.read(log, after, up_to, READ_MAX_EVENTS, READ_MAX_BYTES)
        if events and span > 1 and reader.read(log, events[-1].seq_num, up_to, 1, READ_MAX_BYTES):
            span //= 2
            continue
        yield from reversed(events)
        up_to = after
        if not events:
            span *= 2


def log_entries(
    reader: Reader, store_id: StoreId, log: LogState, after: int = ROOT_SEQ_NUM, on_events: OnEvents = unheard
) -> Iterator[Entry]:
    """Events of a log behind `after` up to its head.

    Args:
        reader: where it is kept.
        store_id: the store, for messages.
        log: which log, and how far.
        after: an event of the log, or its root.
        on_events: told of every page.

    Raises:
        LogReplaced: the store was reset meanwhile.
        StoreDamaged: what is stored is not a whole log; says where.
        StorageUnavailable: try again later.
    """
    walk = Walk()
    walk.head = after
    while walk.head < log.head:
        events = reader.read(log, walk.head, log.head, READ_MAX_EVENTS, READ_MAX_BYTES)
        if not events:
            raise _damaged(store_id, f"nothing is stored between e{walk.head} and its head e{log.head}")
        if after == ROOT_SEQ_NUM and events[0].ordinal != walk.events + 1:
            raise _damaged(store_id, f"e{events[0].seq_num} has ordinal {events[0].ordinal}, not {walk.events + 1}")
        try:
            yield from walk.along(entries_of(events))
        except Broken as error:
            raise _damaged(store_id, str(error)) from None
        on_events(len(events))
    if walk.head != log.head or (after == ROOT_SEQ_NUM and walk.events != log.event_count):
        raise _damaged(
            store_id,
            f"{count(log.event_count, 'event')} up to e{log.head} are recorded, "
            f"{walk.events} up to e{walk.head} are there",
        )


def _damaged(store_id: StoreId, what: str) -> StoreDamaged:
    return StoreDamaged(f"Store {store_id!r} is damaged: {what}. Restore a backup, or reset the store.")
