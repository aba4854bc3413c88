"""Going back to a backup, without leaving clients behind (decision 0007).

Owns the question which identity a restored store gets. Clients remember the number of their last event. If the
restored log does not reach it, they would wait for ever, or take other events for those they have; a new identity tells
them to start over. So the old identity is kept only where nothing that was acknowledged is missing.
"""

import enum
from collections.abc import Iterator, Sequence
from typing import Final, Literal

import attrs

from livesync_trio.archive.entries import Comparison, Entry, compared
from livesync_trio.archive.reading import OnEvents, all_stores, log_entries, unheard
from livesync_trio.archive.sources.jsonl_file import JsonlFile
from livesync_trio.archive.staging import Target, adopt, stage
from livesync_trio.errors import CommandError, Kind
from livesync_trio.model import RESERVED_STORES, BackendId, LogState, StoreId

Outcome = Literal["restored", "nothing to do"]


class Claim(enum.Enum):
    """What the operator knows about events after the backup."""

    UNKNOWN = "unknown"
    COMPLETE = "complete"
    LOST_TAIL = "lost-tail"


class Relation(enum.Enum):
    """How the log that is there stands to the one in the backup."""

    ABSENT = "there is no such store"
    SAME = "it holds exactly what the backup holds"
    RENEWED = "it holds the events of the backup under another identity"
    BEHIND = "it holds the beginning of what the backup holds"
    AHEAD = "it holds what the backup holds, and events after that"
    DIVERGED = "it holds other events under the same numbers and the same identity"
    RESET = "it was reset since, and is empty"
    OTHER = "it was reset or replaced since, and holds other events under another identity"


@attrs.frozen
class Verdict:
    """Which identity, and why.

    Attributes:
        keeps_identity: whether clients go on as if nothing had happened.
        reason: why, in words.
    """

    keeps_identity: bool
    reason: str


def verdict(relation: Relation, claim: Claim) -> Verdict:
    """Decide the identity of a restored store.

    Raises:
        ValueError: the claim is refuted by what is in the database; the message says how.
    """
    if relation in {Relation.AHEAD, Relation.DIVERGED}:
        if claim is Claim.COMPLETE:
            raise ValueError("the database holds acknowledged events that the backup has not, so it is not complete")
        return Verdict(False, "events that are not in the backup are given up")
    if claim is Claim.COMPLETE and relation in {Relation.RESET, Relation.OTHER, Relation.RENEWED}:
        return Verdict(
            True,
            "the operator says that nothing came after the backup: clients of that time go on, those that have synced "
            "with what is there now start over",
        )
    if claim is Claim.COMPLETE:
        return Verdict(True, "the operator says that nothing came after the backup")
    if claim is Claim.LOST_TAIL:
        return Verdict(False, "the operator says that events came after the backup")
    return Verdict(False, "nobody knows whether events came after the backup")


@attrs.frozen
class Restored:
    """What came of one store.

    Attributes:
        store_id: the store.
        events: how many events it has now.
        head: number of the last one.
        lost_events: acknowledged events that were in the database and are given up.
        backend_id: its identity now; None after a dry run that would give a new one.
        kept_identity: whether clients go on: that is the one of the backup, or nothing was done.
        outcome: see `Outcome`.
        reason: why the identity is what it is.
    """

    store_id: StoreId
    events: int
    head: int
    lost_events: int
    backend_id: BackendId | None
    kept_identity: bool
    outcome: Outcome
    reason: str


@attrs.frozen
class Planned:
    """A store of a backup, and what is in its place now."""

    store_id: StoreId
    events: int
    head: int
    backend_id: BackendId | None
    found: LogState | None
    relation: Relation

    @property
    def lost_events(self) -> int:
        """Acknowledged events that are there now and would be given up."""
        if self.found is None or self.relation not in {Relation.AHEAD, Relation.DIVERGED, Relation.OTHER}:
            return 0
        return self.found.event_count - (self.events if self.relation is Relation.AHEAD else 0)

    @property
    def replaces(self) -> bool:
        """Whether events that are there now would go."""
        return (
            self.found is not None
            and self.found.event_count > 0
            and self.relation not in {Relation.SAME, Relation.RENEWED}
        )


def plan(target: Target, file: JsonlFile, only: frozenset[StoreId] = frozenset()) -> list[Planned]:
    """Compare a backup, once it was found to be whole, with what is in the database. Changes nothing.

    Raises:
        CommandError: the backup is not whole, or a store that is asked for is not in it.
    """
    headers = [section.header for section in file.sections()]
    absent = sorted(only - {header.store_id for header in headers})
    if absent:
        raise CommandError(Kind.NO_SUCH_STORE, f"{file.describe()} holds no store {absent[0]!r}.")
    planned = []
    for header in headers:
        if not only or header.store_id in only:
            if header.store_id.startswith(RESERVED_STORES):
                raise CommandError(
                    Kind.BAD_ARCHIVE,
                    f"{file.describe()} holds {header.store_id!r}, which was an import under way: name the others by "
                    "--store.",
                )
            found = target.reader.state(header.store_id)
            relation = _relation(target, file, header.store_id, header.backend_id, found)
            planned.append(Planned(header.store_id, header.events, header.head, header.backend_id, found, relation))
    return planned


def decide(target: Target, planned: Sequence[Planned], claim: Claim) -> list[Verdict | None]:
    """What becomes of each store, before any of them is touched; None where there is nothing to do.

    Raises:
        CommandError: the claim is refuted for one of them, or two stores would have one identity.
    """
    verdicts = [_verdict_of(one, claim) for one in planned]
    owners = {one.state.backend_id: one.store_id for one in all_stores(target.reader)}
    restored = {one.store_id for one, decided in zip(planned, verdicts, strict=True) if decided is not None}
    owners = {backend_id: store_id for backend_id, store_id in owners.items() if store_id not in restored}
    for one, decided in zip(planned, verdicts, strict=True):
        if decided is None or not decided.keeps_identity or one.backend_id is None:
            continue
        owner = owners.setdefault(one.backend_id, one.store_id)
        if owner != one.store_id:
            raise CommandError(
                Kind.ALREADY_THERE,
                f"Store {one.store_id!r} cannot be restored with --complete: {owner!r} has its identity already.",
            )
    return verdicts


def _verdict_of(planned: Planned, claim: Claim) -> Verdict | None:
    # Done before, unless the identity is not the one that is claimed to be right.
    undone_by = {Relation.SAME: Claim.LOST_TAIL, Relation.RENEWED: Claim.COMPLETE}.get(planned.relation)
    if planned.found is not None and undone_by not in {None, claim}:
        return None
    try:
        return verdict(planned.relation, claim)
    except ValueError as error:
        raise CommandError(
            Kind.ALREADY_THERE, f"Store {planned.store_id!r} cannot be restored with --complete: {error}."
        ) from None


def restore(
    target: Target, file: JsonlFile, planned: Planned, decided: Verdict | None, on_events: OnEvents = unheard
) -> Restored:
    """Bring one store of a backup back, as `decide` says.

    Raises:
        CommandError: the store was used meanwhile.
        Broken: the file was changed since it was checked.
        StorageUnavailable: nothing was changed; try again later.
    """
    found = planned.found
    if decided is None:
        assert found is not None
        return _told(planned, found, 0, "nothing to do", planned.relation.value)
    staged = stage(target, planned.store_id, lambda: _entries(file, planned.store_id), on_events)
    backend_id = planned.backend_id if decided.keeps_identity else None
    state = adopt(target, planned.store_id, staged, backend_id, found)
    return _told(planned, state, planned.lost_events, "restored", decided.reason)


def _told(planned: Planned, state: LogState, lost: int, outcome: Outcome, reason: str) -> Restored:
    kept = outcome == "nothing to do" or state.backend_id == planned.backend_id
    return Restored(planned.store_id, state.event_count, state.head, lost, state.backend_id, kept, outcome, reason)


def _entries(file: JsonlFile, store_id: StoreId) -> Iterator[Entry]:
    store = next(one for one in file.stores() if one.store_id == store_id)
    return file.entries(store)


def _relation(
    target: Target, file: JsonlFile, store_id: StoreId, backend_id: BackendId | None, found: LogState | None
) -> Relation:
    if found is None:
        return Relation.ABSENT
    there = compared(log_entries(target.reader, store_id, found), _entries(file, store_id))
    if found.backend_id == backend_id:
        return _UNDER_ITS_IDENTITY[there]
    if there is Comparison.SAME:
        return Relation.RENEWED
    return Relation.OTHER if found.event_count else Relation.RESET


_UNDER_ITS_IDENTITY: Final = {
    Comparison.SAME: Relation.SAME,
    Comparison.BEHIND: Relation.BEHIND,
    Comparison.AHEAD: Relation.AHEAD,
    Comparison.DIFFERENT: Relation.DIVERGED,
}
