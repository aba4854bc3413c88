"""Which numbers events get that came without: the ones behind the head, each continuing the one before it."""

from collections.abc import Mapping, Sequence

from livesync_trio.errors import Kind, Refusal
from livesync_trio.limits import SEQ_NUM_MAX
from livesync_trio.model import Draft, Event

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
