"""Which batch a log takes (SPEC section 1, admission rule, and section 7: what the reference fails to check)."""

from collections.abc import Sequence

from livesync_trio.errors import BackendIdMismatch, Kind, Refusal, ServerAhead
from livesync_trio.model import Batch, Event, LogState


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
        state: the log; only its identity is looked at.
        head: the head the batch must continue: that of `state`, or of batches admitted just before this one.
        batch: a batch that passed `check_batch`.
        backend_id: the identity the client remembers, None if none.

    Returns:
        None to admit it. The identity is checked before the parent (SPEC 3.4).
    """
    if backend_id is not None and backend_id != state.backend_id:
        return BackendIdMismatch.of(state.backend_id, backend_id)
    if batch.parent_seq_num != head:
        return ServerAhead.of(head, batch.parent_seq_num)
    return None


def is_doubtful(verdict: Refusal | None) -> bool:
    """Whether a verdict may only mean that this server has not heard of what another one stored."""
    return isinstance(verdict, BackendIdMismatch) or (
        isinstance(verdict, ServerAhead) and verdict.provided > verdict.head
    )


def quotes_head(verdict: Refusal | None) -> bool:
    """Whether a verdict speaks of a head, which must not be quoted while it is not known to be durable."""
    return verdict is None or isinstance(verdict, ServerAhead)
