"""What becomes of a run of writes, by what is known of the log: decided before anything is written.

Pure: knows neither tasks nor storage. The actor decides when, and carries it out.
"""

import attrs

from livesync_trio.errors import Refusal
from livesync_trio.model import Batch, LogState
from livesync_trio.rules import admission, numbering
from livesync_trio.store.commands import UNAVAILABLE, Append, Write


@attrs.frozen
class Basis:
    """What a decision rests on.

    Attributes:
        state: the durable log.
        held_bytes: of its events' texts; only looked at for a quota of bytes.
        quota: how much it may hold; None for any amount.
        known: numbers of the ids of appends, as far as the log has them; those that get a number join them.
    """

    state: LogState
    held_bytes: int
    quota: admission.Quota | None
    known: dict[str, int]


@attrs.define
class Decided:
    """What was decided of a write: it is refused, or its batch goes to the disk, or (neither) the log has all of it."""

    write: Write
    batch: Batch | None
    refusal: Refusal | None


def admit(writes: list[Write], basis: Basis) -> list[Decided]:
    """Decide each write as if those admitted before it were already in the log, and number what has no numbers."""
    state, quota, known = basis.state, basis.quota, basis.known
    head, events, size_bytes = state.head, state.event_count, basis.held_bytes
    decided: list[Decided] = []
    for write in writes:
        if isinstance(write, Append):
            refusal, batch = _numbered(write, head, basis)
        else:
            batch = write.batch
            refusal = admission.decide(state, head, batch, write.backend_id)
        if refusal is None and batch is not None and quota is not None:
            refusal = quota.refusal(events, size_bytes, batch)
            if refusal is None:
                events, size_bytes = events + len(batch.events), size_bytes + batch.size_bytes
        if refusal is not None:
            batch = None
        elif batch is not None:
            head = batch.last_seq_num
            if isinstance(write, Append):
                known.update({event.append_id or "": event.seq_num for event in batch.events})
        decided.append(Decided(write, batch, refusal))
    return decided


def _numbered(append: Append, head: int, basis: Basis) -> tuple[Refusal | None, Batch | None]:
    """What of an append the log does not have, numbered behind a head; no batch: it has all of it.

    What is there already is answered whatever the append expects of the log, which it moved itself.
    """
    events = numbering.number(append.drafts, head, basis.known)
    if isinstance(events, Refusal):
        return events, None
    if not events:
        return None, None
    return admission.decide_expected(basis.state, head, append.expected), Batch(events, append.user)


def give_up(decided: list[Decided]) -> None:
    """It is not known what became of those that were admitted, nor what the head is that others would be told.

    An id may have been known by one that went to the disk just now.
    """
    for one in decided:
        if admission.quotes_head(one.refusal):
            one.refusal = UNAVAILABLE
