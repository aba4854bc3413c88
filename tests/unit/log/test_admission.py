"""Which batch a log takes (SPEC section 1, admission rule)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync_trio.errors import BackendIdMismatch, Kind, ServerAhead
from livesync_trio.model import BackendId, Batch, Event, LogState
from livesync_trio.rules.admission import check_batch, decide

numbers = st.integers(-(2**53 - 1), 2**53 - 1)


def events(*links: tuple[int, int]) -> list[Event]:
    return [Event(seq_num, parent, b"{}") for seq_num, parent in links]


@st.composite
def chains(draw: st.DrawFn) -> list[Event]:
    """A chain of ascending events from any parent, with any gaps."""
    ascending = sorted(draw(st.sets(numbers, min_size=2, max_size=12)))
    return events(*zip(ascending[1:], ascending, strict=False))


@given(chains())
def test_every_ascending_chain_is_a_batch(chain: list[Event]) -> None:
    assert check_batch(chain) is None


@given(chains(), st.data())
def test_a_chain_with_one_number_changed_is_none(chain: list[Event], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(chain) - 1))
    event = chain[at]
    changed = data.draw(numbers)
    if data.draw(st.booleans()):
        chain[at] = Event(changed, event.parent_seq_num, event.json)
        still_one = changed == event.seq_num or (at == len(chain) - 1 and changed > event.parent_seq_num)
    else:
        chain[at] = Event(event.seq_num, changed, event.json)
        still_one = changed == event.parent_seq_num or (at == 0 and changed < event.seq_num)
    refusal = check_batch(chain)
    assert (refusal is None) == still_one
    if refusal is not None:
        assert refusal.kind is Kind.INVALID_BATCH


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5))
def test_what_passes_is_ascending_and_chained(links: list[tuple[int, int]]) -> None:
    if check_batch(events(*links)) is None:
        for (seq_num, parent), before in zip(links, [None, *links], strict=False):
            assert parent < seq_num
            assert before is None or parent == before[0]


@pytest.mark.parametrize(
    ("links", "words"),
    [
        ([(0, 0)], "not above its parent e0"),
        ([(-1, 0)], "not above"),
        ([(1, 0), (1, 0)], "continues e0, but the event before it is e1"),
        ([(1, 0), (1, 1)], "not above"),
        ([(2, 0), (1, 2)], "not above"),
        ([(1, 0), (3, 2)], "Event 1 of the batch"),
    ],
)
def test_the_refusal_says_which_event_and_why(links: list[tuple[int, int]], words: str) -> None:
    refusal = check_batch(events(*links))
    assert refusal is not None
    assert words in refusal.message


def state(head: int, backend_id: str = "mine") -> LogState:
    return LogState(1, BackendId(backend_id), head, 3)


@given(chains(), numbers)
def test_a_batch_is_taken_exactly_when_its_parent_is_the_head(chain: list[Event], head: int) -> None:
    batch = Batch(tuple(chain))
    assert decide(state(0), batch.parent_seq_num, batch, None) is None
    assert decide(state(0), batch.parent_seq_num, batch, "mine") is None
    refusal = decide(state(0), head, batch, "mine")
    if head == batch.parent_seq_num:
        assert refusal is None
    else:
        assert refusal == ServerAhead.of(head, batch.parent_seq_num)


def test_the_head_that_counts_is_the_one_given_and_not_that_of_the_state() -> None:
    batch = Batch(tuple(events((6, 5))))
    assert decide(state(0), 5, batch, None) is None
    assert isinstance(decide(state(5), 0, batch, None), ServerAhead)


def test_the_identity_is_looked_at_before_the_parent() -> None:
    batch = Batch(tuple(events((6, 5))))
    for head in (5, 0):
        assert decide(state(0), head, batch, "other") == BackendIdMismatch.of("mine", "other")
        assert decide(state(0), head, batch, "") == BackendIdMismatch.of("mine", "")


def test_a_refusal_quotes_head_and_parent() -> None:
    refusal = decide(state(0), 9, Batch(tuple(events((6, 5)))), None)
    assert isinstance(refusal, ServerAhead)
    assert (refusal.head, refusal.provided, refusal.kind) == (9, 5, Kind.SERVER_AHEAD)
