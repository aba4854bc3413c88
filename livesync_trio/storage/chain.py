"""What makes a log whole: the rules that every engine holds to, whatever database is below.

Owns the numbering of stored events, the identity of a new log, the form of its times, and the check on opening. Pure
but for the randomness of an identity and the clock; no database here.
"""

import functools
import secrets
import time
from collections.abc import Container, Iterable

import attrs

from livesync_trio.errors import StoreDamaged
from livesync_trio.limits import BACKEND_ID_RANDOM_BYTES
from livesync_trio.model import ROOT_SEQ_NUM, BackendId, Event, LogState, StoreId
from livesync_trio.storage.base import Adopt, Append


def new_backend_id() -> BackendId:
    """A fresh identity: opaque, never empty, never used before (SPEC 3.4)."""
    return BackendId(secrets.token_urlsafe(BACKEND_ID_RANDOM_BYTES))


def server_time() -> str:
    """The time now as logs and events carry it: `YYYY-MM-DDTHH:MM:SS.mmmZ` (SPEC section 1, createdAt)."""
    second, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{_second(second)}.{milliseconds:03d}Z"


@functools.lru_cache(maxsize=1)
def _second(second: int) -> str:
    """Kept until the next one: a busy server asks thousands of times a second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def check_chain(append: Append) -> None:
    """Check that each event of an append continues the one before it.

    Admission has checked this already (`rules.admission`). It is checked again where it becomes durable, because one
    stored event that continues nothing would kill the pull of every subscriber for ever (SPEC section 2).

    Raises:
        ValueError: an event does not, or there is none at all: a fault of the caller.
    """
    previous = append.expected.head
    for batch in append.batches:
        for event in batch.events:
            if event.parent_seq_num != previous or event.seq_num <= previous:
                raise ValueError(f"e{event.seq_num} with parent e{event.parent_seq_num} does not continue e{previous}")
            previous = event.seq_num
    if not append.batches:
        raise ValueError("an append of nothing")


def chained_events(append: Append) -> list[Event]:
    """The events of an append in order. Raises as `check_chain`."""
    check_chain(append)
    return [event for batch in append.batches for event in batch.events]


def check_new_ids(added: Iterable[Event], known: Container[str]) -> None:
    """Check that no id of an append is there already, or comes twice. Raises ValueError."""
    seen: set[str] = set()
    for event in added:
        if event.append_id is not None:
            if event.append_id in known or event.append_id in seen:
                raise double_id(event.append_id)
            seen.add(event.append_id)


def double_id(append_id: str) -> ValueError:
    """What an append is refused with that would give a second event an id."""
    return ValueError(f"the log has an event of the id {append_id!r} already")


def state_after(append: Append) -> LogState:
    """The log once the append is durable."""
    before = append.expected
    added = 0
    for batch in append.batches:
        added += len(batch.events)
    return LogState(before.log_id, before.backend_id, append.batches[-1].last_seq_num, before.event_count + added)


def adopted(adopt: Adopt) -> LogState:
    """The log once it has been adopted."""
    replaced_frozen = adopt.replacing is not None and adopt.replacing.frozen
    return attrs.evolve(adopt.staged, backend_id=adopt.backend_id, frozen=adopt.staged.frozen or replaced_frozen)


def is_expected(found: LogState, expected: LogState) -> bool:
    """Whether the log in the database takes an append: it is the one, and just as long, as the caller believes."""
    same = (found.log_id, found.head, found.event_count) == (expected.log_id, expected.head, expected.event_count)
    return same and not found.frozen


@attrs.frozen
class Ends:
    """The two ends of a stored log, as far as they tell whether it is whole.

    Attributes:
        first_parent_seq_num: parent of its first event.
        first_ordinal: ordinal of its first event.
        last_seq_num: number of its last event.
        last_ordinal: ordinal of its last event.
    """

    first_parent_seq_num: int
    first_ordinal: int
    last_seq_num: int
    last_ordinal: int


def check_whole(store_id: StoreId, state: LogState, ends: Ends | None) -> None:
    """Check what must be true of a log when its store is opened, at a cost that does not depend on its length.

    Args:
        store_id: the store, for the message.
        state: what is recorded of the log.
        ends: both ends of the events that are there, None when there are none.

    Raises:
        StoreDamaged: identity, head, count and events do not belong together.
    """
    if ends is None:
        ends = Ends(ROOT_SEQ_NUM, 1, ROOT_SEQ_NUM, 0)
    if not state.backend_id:
        what = "its identity is missing"
    elif (ends.first_parent_seq_num, ends.first_ordinal) != (ROOT_SEQ_NUM, 1):
        what = f"its first event has ordinal {ends.first_ordinal} and parent e{ends.first_parent_seq_num}"
    elif (ends.last_seq_num, ends.last_ordinal) != (state.head, state.event_count):
        what = (
            f"its head is recorded as e{state.head} after {state.event_count} events, "
            f"the last event stored is e{ends.last_seq_num} with ordinal {ends.last_ordinal}"
        )
    else:
        return
    raise StoreDamaged(f"Store {store_id!r} is damaged: {what}. Restore a backup, or reset the store.")


def check_continues(log: LogState, after: int, first_parent: int) -> None:
    """Check that nothing is missing between a cursor, which need not be an event, and the first event read behind it.

    Raises:
        StoreDamaged: something is.
    """
    if first_parent > max(after, ROOT_SEQ_NUM):
        raise StoreDamaged(
            f"Log {log.log_id} is damaged: what should stand behind e{after} begins after e{first_parent}. "
            "Restore a backup, or reset the store."
        )


def check_no_hole(log: LogState, events: int, first_ordinal: int, last_ordinal: int) -> None:
    """Check that a run of events read from a log has no hole, by the ordinals at its ends.

    Raises:
        StoreDamaged: it has.
    """
    if last_ordinal - first_ordinal + 1 != events:
        raise StoreDamaged(
            f"Log {log.log_id} is damaged: {events} events are stored from ordinal {first_ordinal} to {last_ordinal}. "
            "Restore a backup, or reset the store."
        )


def check_ends(log: LogState, last: int, head: int, next_parent: int | None) -> None:
    """Check that nothing is missing behind the last event that was read, or behind a cursor where none was.

    Args:
        log: for the message.
        last: number of that event, or the cursor, which need not be an event.
        head: number of the log's last event, as it is recorded.
        next_parent: parent of the next event that is there; None when there is none.

    Raises:
        StoreDamaged: something is.
    """
    if next_parent is not None:
        check_continues(log, last, next_parent)
    elif max(last, ROOT_SEQ_NUM) < head:  # a cursor may lie below the root
        raise StoreDamaged(
            f"Log {log.log_id} is damaged: nothing is stored behind e{last}, its head is recorded as e{head}. "
            "Restore a backup, or reset the store."
        )
