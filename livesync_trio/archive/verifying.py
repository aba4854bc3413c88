"""Whether what is stored is what was stored: every invariant of every log, one store at a time.

Owns the verdict on a store. The rules themselves stand where logs are read: `reading`, `entries`, storage's checks.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Final

import attrs

from livesync_trio.archive.entries import Broken, Entry
from livesync_trio.archive.reading import OnEvents, log_entries, unheard
from livesync_trio.errors import StoreDamaged
from livesync_trio.model import StoreId
from livesync_trio.storage.base import Reader, StoreSummary

STEP_EVENTS: Final = 500
"""Events after which `look_through` pauses."""


@attrs.frozen
class Verified:
    """What was found of one store.

    Attributes:
        store_id: the store.
        events: how many events its log should have.
        head: number of the last one.
        problem: what is wrong with it, in words; None: nothing.
        misfits: how many of its events do not fit their schemas.
    """

    store_id: StoreId
    events: int
    head: int
    problem: str | None
    misfits: int = 0


FaultOf = Callable[[bytes], str | None]
"""What is wrong with the text of an event, by a schema of it; None: nothing."""
OnMisfit = Callable[[StoreId, int, str], object]
"""Told of an event that does not fit: its store, its number, what is wrong."""


@attrs.define
class Fitting:
    """Looks at each event on the way.

    Attributes:
        fault_of: finds what is wrong with one.
        on_misfit: told of it.
        misfits: how many there were.
    """

    fault_of: FaultOf
    on_misfit: OnMisfit
    misfits: int = 0

    def look_at(self, store_id: StoreId, entry: Entry) -> None:
        """Look at one event."""
        wrong = self.fault_of(entry.json)
        if wrong is not None:
            self.misfits += 1
            self.on_misfit(store_id, entry.seq_num, wrong)


def verify(
    reader: Reader,
    summaries: Iterable[StoreSummary],
    on_events: OnEvents = unheard,
    fitting: Fitting | None = None,
) -> Iterator[Verified]:
    """Walk through the logs of stores; gives each verdict as soon as it is known.

    Checked are: the identity; the chain from the root; numbers, ordinals and parents of all events; that each text is
    the event that its number says; sizes, and checksums where the engine keeps them; the head; count and size in total;
    and with `fitting`, what events look like.

    Raises:
        StorageUnavailable: try again later.
        LogReplaced: a store was reset meanwhile; not on a snapshot.
    """
    for summary in summaries:
        state = summary.state
        before = 0 if fitting is None else fitting.misfits
        problem = _verdict(look_through(reader, summary, on_events, fitting))
        misfits = 0 if fitting is None else fitting.misfits - before
        yield Verified(summary.store_id, state.event_count, state.head, problem, misfits)


def _verdict(steps: Generator[int, None, str | None]) -> str | None:
    """Walk to the end without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return] # what the generator returns


def look_through(
    reader: Reader, summary: StoreSummary, on_events: OnEvents = unheard, fitting: Fitting | None = None
) -> Generator[int, None, str | None]:
    """Walk through one log, as `verify` does, and pause now and then.

    Gives how many events were looked at so far; returns what is wrong, in words, or None. Raises as `verify` does.
    """
    if not summary.state.backend_id:
        return f"Store {summary.store_id!r} is damaged: its identity is missing. Reset it, or restore a backup."
    text_bytes, last = 0, None
    try:
        for seen, entry in enumerate(log_entries(reader, summary.store_id, summary.state, on_events=on_events)):
            if seen and seen % STEP_EVENTS == 0:
                yield seen
            text_bytes += len(entry.json)
            last = entry.created_at
            if fitting is not None:
                fitting.look_at(summary.store_id, entry)
    except (StoreDamaged, Broken) as error:
        return str(error)
    if (text_bytes, last) != (summary.text_bytes, summary.last_push_at):
        return (
            f"Store {summary.store_id!r}: its events have {text_bytes} bytes, the last one of {last}, but "
            f"{summary.text_bytes} and {summary.last_push_at} are noted. The log itself is whole."
        )
    return None
