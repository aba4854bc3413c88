"""Moving in: stores of a source become stores of ours, identity and all.

Owns what is decided for each store: whether it can come in, under which identity, and that nothing that is there is
overwritten.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal

import attrs

from livesync_trio.archive.entries import Broken, Comparison, Walk, compared
from livesync_trio.archive.reading import OnEvents, all_stores, log_entries, unheard
from livesync_trio.archive.sources import Source, SourceStore
from livesync_trio.archive.staging import Target, adopt, stage
from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import STORE_ID_MAX_BYTES
from livesync_trio.model import RESERVED_STORES, BackendId, LogState, StoreId
from livesync_trio.wording import count

Outcome = Literal["ready", "imported", "already there", "in the way", "refused"]
"""What came of one store: `ready` after a dry run only; `in the way` is another store of its name that is there and
stays, `refused` what the source cannot give whole."""

_TELL_EVENTS: Final = 1_000


@attrs.frozen
class Moved:
    """What came of one store.

    Attributes:
        store_id: its name here.
        place: where it stood.
        events: how many events the source has of it.
        head: number of the last one.
        backend_id: its identity from now on; None: a new one.
        outcome: see `Outcome`.
        problems: why it was refused.
        notes: what the operator should know.
    """

    store_id: StoreId
    place: str
    events: int
    head: int
    backend_id: BackendId | None
    outcome: Outcome
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@attrs.frozen
class Wishes:
    """What the operator asks for.

    Attributes:
        only: names, as the source has them, of the stores to take; empty: all.
        renamed: other names for them here.
        backend_id: identity for the one store that is taken, where the source does not know it.
        dry_run: look, and change nothing.
    """

    only: frozenset[StoreId] = frozenset()
    renamed: Mapping[StoreId, StoreId] = attrs.Factory(dict)
    backend_id: BackendId | None = None
    dry_run: bool = False


OnStore = Callable[[StoreId], None]
"""Told which store is dealt with now."""


def move_in(
    target: Target,
    source: Source,
    wishes: Wishes,
    *,
    on_store: OnStore = lambda _: None,
    on_events: OnEvents = unheard,
) -> Iterator[Moved]:
    """Bring the stores of a source in, one after the other; gives what came of each as soon as it is known.

    A store that cannot come in does not keep the others out.

    Raises:
        CommandError: the source cannot be read.
        StorageUnavailable: the database cannot be written now. What came in so far stays; begin again later.
    """
    stores = [store for store in source.stores() if not wishes.only or store.store_id in wishes.only]
    names = Counter(wishes.renamed.get(store.store_id, store.store_id) for store in stores)
    owners = {one.state.backend_id: one.store_id for one in all_stores(target.reader)}
    for store in stores:
        store_id = wishes.renamed.get(store.store_id, store.store_id)
        on_store(store_id)
        looked = _looked_at(source, store, store_id, wishes, times=names[store_id], on_events=on_events)
        if looked.outcome == "ready":
            if looked.backend_id is not None and owners.get(looked.backend_id, store_id) != store_id:
                note = f"{owners[looked.backend_id]!r} has its identity here already, so it gets a new one"
                looked = attrs.evolve(looked, backend_id=None, notes=(*looked.notes, note))
            looked = _brought(target, source, store, looked, dry_run=wishes.dry_run, on_events=on_events)
        if looked.outcome == "imported" and looked.backend_id is not None:
            owners[looked.backend_id] = store_id
        yield looked


def missing(stores: Sequence[SourceStore], wishes: Wishes) -> list[StoreId]:
    """Stores that were asked for and are not there."""
    return sorted((wishes.only | wishes.renamed.keys()) - {store.store_id for store in stores})


def name_problem(store_id: StoreId) -> str | None:
    """Why no client could open a store of this name; None when one can."""
    try:
        size_bytes = len(store_id.encode())
    except UnicodeEncodeError:
        return "its name is not Unicode: rename it (--rename)"
    if not 0 < size_bytes <= STORE_ID_MAX_BYTES or "\0" in store_id:
        return f"no client can open a store of this name (1 to {STORE_ID_MAX_BYTES} bytes, no U+0000): --rename"
    if store_id.startswith(RESERVED_STORES):
        return f"names that begin with {RESERVED_STORES} are the server's own: --rename"
    return None


def _looked_at(
    source: Source, store: SourceStore, store_id: StoreId, wishes: Wishes, *, times: int, on_events: OnEvents
) -> Moved:
    """Walk through a store of the source, and find out whether it can come in."""
    walk = Walk()
    problems, notes = list(store.problems), list(store.notes)
    if times > 1:
        problems.append(f"{times} stores would have this name: rename all but one (--rename)")
    if (problem := name_problem(store_id)) is not None:
        problems.append(problem)
    if wishes.backend_id is not None and store.backend_id not in {None, wishes.backend_id}:
        problems.append(f"the source knows its identity, {store.backend_id!r}: leave --backend-id out")
    try:
        for _ in walk.along(source.entries(store)):
            if walk.events % _TELL_EVENTS == 0:
                on_events(_TELL_EVENTS)
        on_events(walk.events % _TELL_EVENTS)
    except (Broken, CommandError) as error:
        problems.append(str(error))
    backend_id = wishes.backend_id or store.backend_id
    if not problems and store.head is not None and store.head > walk.head:
        backend_id = None
        notes.append(
            f"its server acknowledged events up to e{store.head}, and has them up to e{walk.head}: "
            "it gets a new identity, so that clients start over instead of waiting for ever"
        )
    elif backend_id is None:
        notes.append("it gets a new identity: clients of 0.4 start over with what is here")
    outcome: Outcome = "refused" if problems else "ready"
    return Moved(store_id, store.place, walk.events, walk.head, backend_id, outcome, tuple(problems), tuple(notes))


def _brought(
    target: Target, source: Source, store: SourceStore, looked: Moved, *, dry_run: bool, on_events: OnEvents
) -> Moved:
    """Bring in a store that was looked at, unless something is in its place."""
    found = target.reader.state(looked.store_id)
    try:
        if found is not None and (found.event_count or found.backend_id == looked.backend_id):
            return _compared(target, source, store, looked, found)
        if dry_run:
            return looked
        staged = stage(target, looked.store_id, lambda: source.entries(store), on_events)
        state = adopt(target, looked.store_id, staged, looked.backend_id, found)
    except (Broken, CommandError) as error:  # this store stays out; the others still come in
        used = isinstance(error, CommandError) and error.kind is Kind.ALREADY_THERE
        return attrs.evolve(looked, outcome="in the way" if used else "refused", problems=(str(error),))
    return attrs.evolve(looked, outcome="imported", backend_id=state.backend_id)


def _compared(target: Target, source: Source, store: SourceStore, looked: Moved, found: LogState) -> Moved:
    """A store that is there already: the same, or another one, which stays as it is."""
    there = compared(log_entries(target.reader, looked.store_id, found), source.entries(store))
    same_events = there in {Comparison.SAME, Comparison.AHEAD}
    if same_events and looked.backend_id in {None, found.backend_id}:
        longer = found.event_count - looked.events
        notes = (f"it has gone on since, with {count(longer, 'event')}",) if longer else ()
        return attrs.evolve(looked, outcome="already there", backend_id=found.backend_id, notes=notes)
    what = "other events" if not same_events else "the same events, but another identity"
    problem = (
        f"a store of this name with {what} is there ({count(found.event_count, 'event')}): reset it first, or "
        "bring this one in under another name (--rename)"
    )
    return attrs.evolve(looked, outcome="in the way", problems=(problem,))
