"""A log comes into a database as a whole or not at all.

Owns the way in: its events are appended under another name, compared with their source one by one, and only then take
their place under the store's own name, in one transaction. Whatever happens on the way, no client ever meets half a
log, and the same import begun again goes on where it was.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, zip_longest
from operator import attrgetter
from typing import Final

import attrs

from livesync_trio.archive.entries import Broken, Entry, Walk
from livesync_trio.archive.reading import OnEvents, log_entries, unheard
from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import LOAD_MAX_BYTES, LOAD_MAX_EVENTS
from livesync_trio.model import RESERVED_STORES, BackendId, Batch, Event, LogState, StoreId
from livesync_trio.storage.base import Adopt, Append, Appended, OpenStore, Outcome, Reader, Reset, Write, Writer
from livesync_trio.storage.chain import state_after

STAGED: Final = RESERVED_STORES
"""Under this name and its own a store stands until it is whole."""

Again = Callable[[], Iterator[Entry]]
"""Gives the events of the source from the first, each time it is called."""


@attrs.frozen
class Target:
    """A database that logs come into.

    Attributes:
        writer: changes it.
        reader: reads it.
        tell: told of stores that have another log now, for servers that use the database meanwhile.
    """

    writer: Writer
    reader: Reader
    tell: Callable[[Iterable[StoreId]], None] = lambda _: None

    def one(self, write: Write) -> Outcome:
        """Carry out one write. Raises what it failed with."""
        (outcome,) = self.writer.commit([write])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def stage(target: Target, store_id: StoreId, entries: Again, on_events: OnEvents = unheard) -> LogState:
    """Bring a log into the database under its staged name, and compare it with its source.

    Args:
        target: the database.
        store_id: the store's own name.
        entries: its events.
        on_events: told of progress.

    Returns:
        The staged log, for `adopt`.

    Raises:
        Broken: the source is not a log, or gives other events when it is asked again.
        CommandError: somebody else writes to the staged log.
        StorageUnavailable, StoreDamaged: of the database.
    """
    staged_id = StoreId(STAGED + store_id)
    state = target.one(OpenStore(staged_id))
    assert isinstance(state, LogState)
    source = Walk().along(entries())
    if state.event_count:
        if _begins_with(source, log_entries(target.reader, staged_id, state)):
            on_events(state.event_count)
        else:
            state = target.one(Reset(staged_id))
            assert isinstance(state, LogState)
            source = Walk().along(entries())
    for run in _runs(source):
        state = _append(target, staged_id, state, run)
        on_events(len(run))
    compare(entries(), log_entries(target.reader, staged_id, state))
    return state


def adopt(
    target: Target, store_id: StoreId, staged: LogState, backend_id: BackendId | None, replacing: LogState | None
) -> LogState:
    """Let a staged log take its place.

    Args:
        target: the database.
        store_id: the store's own name.
        staged: what `stage` gave.
        backend_id: its identity from now on; None: the fresh one that it has.
        replacing: the log that must be there now, and goes; None: there must be none.

    Raises:
        CommandError: another log is there by now.
    """
    staged_id = StoreId(STAGED + store_id)
    outcome = target.one(Adopt(store_id, staged_id, staged, backend_id or staged.backend_id, replacing))
    if not isinstance(outcome, Appended):
        raise CommandError(
            Kind.ALREADY_THERE,
            f"Store {store_id!r} was used while its events came in, and stays as it is: stop its clients first.",
        )
    target.tell([store_id])
    return outcome.state


def compare(source: Iterable[Entry], stored: Iterable[Entry]) -> None:
    """Compare two logs event by event.

    Raises:
        Broken: they differ; says where.
    """
    for theirs, ours in zip_longest(source, stored):
        if theirs != ours:
            seen = theirs or ours
            assert seen is not None
            raise Broken(f"e{seen.seq_num} is another event, or none, when the source is asked again: is it in use?")


def _begins_with(source: Iterator[Entry], stored: Iterable[Entry]) -> bool:
    """Whether a source gives first what is stored; takes that much of it."""
    return all(next(source, None) == ours for ours in stored)


def _runs(source: Iterator[Entry]) -> Iterator[list[Entry]]:
    """Cut a source into what one transaction takes."""
    run: list[Entry] = []
    size_bytes = 0
    for entry in source:
        if run and (len(run) == LOAD_MAX_EVENTS or size_bytes + len(entry.json) > LOAD_MAX_BYTES):
            yield run
            run, size_bytes = [], 0
        run.append(entry)
        size_bytes += len(entry.json)
    if run:
        yield run


def _append(target: Target, staged_id: StoreId, state: LogState, run: list[Entry]) -> LogState:
    """Append events, each with the time of its push and the user who pushed it."""
    writes = []
    for created_at, pushed in groupby(run, attrgetter("created_at")):
        batches = tuple(
            Batch(tuple(Event(one.seq_num, one.parent_seq_num, one.json, one.append_id) for one in batch), user)
            for user, batch in groupby(pushed, attrgetter("user"))
        )
        writes.append(Append(staged_id, state, batches, created_at))
        state = state_after(writes[-1])
    for outcome in target.writer.commit(writes):
        if isinstance(outcome, ValueError):
            raise Broken(f"an event is refused: {outcome}")
        if isinstance(outcome, Exception):
            raise outcome
        if not isinstance(outcome, Appended):
            raise CommandError(Kind.ALREADY_THERE, f"Somebody else writes to {staged_id!r}: is another import running?")
    return state
