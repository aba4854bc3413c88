"""Which batch a log takes (SPEC section 1, admission rule, and section 7: what the reference fails to check)."""

from collections.abc import Mapping, Sequence

import attrs

from livesync_trio.errors import BackendIdMismatch, HeadMismatch, Kind, Refusal, ServerAhead
from livesync_trio.limits import SEQ_NUM_MAX
from livesync_trio.model import Batch, Cursor, Draft, Event, LogState


@attrs.frozen
class Quota:
    """How much a store may hold.

    Attributes:
        max_events: 0 for no limit.
        max_bytes: of the events' texts; 0 for no limit.
    """

    max_events: int = 0
    max_bytes: int = 0

    @property
    def set(self) -> bool:
        """Whether there is any limit."""
        return bool(self.max_events or self.max_bytes)

    def refusal(self, events: int, size_bytes: int, batch: Batch) -> Refusal | None:
        """Whether a store has no room for a batch.

        Args:
            events: held by the store, those admitted just before this batch included.
            size_bytes: of their texts; only looked at where there is a limit.
            batch: a batch that continues the head.
        """
        if self.max_events and events + len(batch.events) > self.max_events:
            return Refusal(Kind.QUOTA_EXCEEDED, f"This store may hold {self.max_events} events and is full.")
        if self.max_bytes and size_bytes + batch.size_bytes > self.max_bytes:
            return Refusal(Kind.QUOTA_EXCEEDED, f"This store may hold {self.max_bytes} bytes and is full.")
        return None


FROZEN = Refusal(
    Kind.STORE_FROZEN,
    "The operator has frozen this store: it takes no events for now. Yours are kept; try again later.",
)


def check_batch(events: Sequence[Event]) -> Refusal | None:
    """Whether the events can be a batch at all, whatever the log: strictly ascending and chained.

    One stored batch that is not would kill the pull of every subscriber (SPEC section 2).

    Args:
        events: one or more events.

    Returns:
        None when they can, else the refusal.
    """
    parent = events[0].parent_seq_num
    for index, event in enumerate(events):
        if event.parent_seq_num != parent:
            return Refusal(
                Kind.INVALID_BATCH,
                f"Event {index} of the batch (e{event.seq_num}) continues e{event.parent_seq_num}, "
                f"but the event before it is e{parent}.",
            )
        if event.seq_num <= parent:
            return Refusal(
                Kind.INVALID_BATCH,
                f"Event {index} of the batch (e{event.seq_num}) is not above its parent e{parent}.",
            )
        parent = event.seq_num
    return None


def decide(state: LogState, head: int, batch: Batch, backend_id: str | None) -> Refusal | None:
    """Whether a log takes a batch now.

    Args:
        state: the log; only its identity is looked at, and whether it is frozen.
        head: the head the batch must continue: that of `state`, or of batches admitted just before this one.
        batch: a batch that passed `check_batch`.
        backend_id: the identity the client remembers, None if none.

    Returns:
        None to admit it. The identity is checked before the parent (SPEC 3.4).
    """
    if backend_id is not None and backend_id != state.backend_id:
        return BackendIdMismatch.of(state.backend_id, backend_id)
    if state.frozen:
        return FROZEN
    if batch.parent_seq_num != head:
        return ServerAhead.of(head, batch.parent_seq_num)
    return None


def decide_expected(state: LogState, head: int, expected: Cursor | None) -> Refusal | None:
    """Whether a log takes an append, and is where that expects it. `head`: as in `decide`."""
    if state.frozen:
        return FROZEN
    if expected is None or (expected.seq_num == head and expected.backend_id in (None, state.backend_id)):
        return None
    return HeadMismatch.of(head, state.backend_id)


def is_doubtful(verdict: Refusal | None) -> bool:
    """Whether a verdict may only mean that this server has not heard of what another one stored."""
    return (
        isinstance(verdict, BackendIdMismatch | HeadMismatch)
        or (isinstance(verdict, ServerAhead) and verdict.provided > verdict.head)
        or verdict is FROZEN
    )


def quotes_head(verdict: Refusal | None) -> bool:
    """Whether a verdict speaks of a head, which must not be quoted while it is not known to be durable."""
    return verdict is None or isinstance(verdict, ServerAhead | HeadMismatch)


FULL = Refusal(Kind.QUOTA_EXCEEDED, "This store has used up its numbers: reset it, or use another one.")


def number(drafts: Sequence[Draft], head: int, known: Mapping[str, int]) -> tuple[Event, ...] | Refusal:
    """Number those events that the log does not have yet.

    Args:
        drafts: events in their order.
        head: number of the event that the first of them continues.
        known: numbers of the ids that the log has, or that come before these in the same transaction.

    Returns:
        The events, none where all are known. An id that comes twice is one event.
    """
    events: dict[str, Event] = {}
    for draft in drafts:
        if draft.append_id not in known and draft.append_id not in events:
            if head >= SEQ_NUM_MAX:
                return FULL
            events[draft.append_id] = draft.numbered(head + 1, head)
            head += 1
    return tuple(events.values())
