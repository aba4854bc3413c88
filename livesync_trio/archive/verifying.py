"""Whether what is stored is what was stored: every invariant of every log, one store at a time.

Owns the verdict on a store. The rules themselves stand where logs are read: `reading`, `entries`, storage's checks.
"""

from collections.abc import Iterable, Iterator

import attrs

from livesync_trio.archive.entries import Broken
from livesync_trio.archive.reading import OnEvents, log_entries, unheard
from livesync_trio.errors import StoreDamaged
from livesync_trio.model import StoreId
from livesync_trio.storage.base import Reader, StoreSummary


@attrs.frozen
class Verified:
    """What was found of one store.

    Attributes:
        store_id: the store.
        events: how many events its log should have.
        head: number of the last one.
        problem: what is wrong with it, in words; None: nothing.
    """

    store_id: StoreId
    events: int
    head: int
    problem: str | None


def verify(reader: Reader, summaries: Iterable[StoreSummary], on_events: OnEvents = unheard) -> Iterator[Verified]:
    """Walk through the logs of stores; gives each verdict as soon as it is known.

    Checked are: the identity; the chain from the root; numbers, ordinals and parents of all events; that each text is
    the event that its number says; sizes, and checksums where the engine keeps them; the head; count and size in total.

    Raises:
        StorageUnavailable: try again later.
        LogReplaced: a store was reset meanwhile; not on a snapshot.
    """
    for summary in summaries:
        state = summary.state
        yield Verified(summary.store_id, state.event_count, state.head, _problem(reader, summary, on_events))


def _problem(reader: Reader, summary: StoreSummary, on_events: OnEvents) -> str | None:
    if not summary.state.backend_id:
        return f"Store {summary.store_id!r} is damaged: its identity is missing. Reset it, or restore a backup."
    text_bytes, last = 0, None
    try:
        for entry in log_entries(reader, summary.store_id, summary.state, on_events=on_events):
            text_bytes += len(entry.json)
            last = entry.created_at
    except (StoreDamaged, Broken) as error:
        return str(error)
    if (text_bytes, last) != (summary.text_bytes, summary.last_push_at):
        return (
            f"Store {summary.store_id!r}: its events have {text_bytes} bytes, the last one of {last}, but "
            f"{summary.text_bytes} and {summary.last_push_at} are noted. The log itself is whole."
        )
    return None
