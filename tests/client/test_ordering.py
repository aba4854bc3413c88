"""Order out of disorder, whatever arrives in whatever order, against the log itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync_trio.client import LogBroken, LogGone, Position
from livesync_trio.client.limits import CLIENT_RECENT_EVENTS, CLIENT_STASH_EVENTS
from livesync_trio.client.ordering import Order
from livesync_trio.wire.answers import Event, PulledPage


def chain(numbers: list[int], client_id: str = "c") -> list[Event]:
    parents = [0, *numbers]
    return [Event(n, p, "n", b"null", client_id, "s") for p, n in zip(parents, numbers, strict=False)]


def page(events: list[Event], remaining: int = 0, identity: str | None = "id", **options: bool) -> PulledPage:
    return PulledPage(events, remaining, identity, **options)


LOGS = st.lists(st.integers(1, 5), min_size=1, max_size=30).map(
    lambda steps: chain([sum(steps[: n + 1]) for n in range(len(steps))])
)


@given(data=st.data(), log=LOGS, old=st.booleans())
def test_whatever_is_cut_repeated_or_early_comes_once_and_in_order(
    data: st.DataObject, log: list[Event], *, old: bool
) -> None:
    """Several connections; on each the history in pages, with pushes between them that the history may hold again."""
    identity = None if old else "id"
    order = Order()
    got: list[Event] = []
    while [event.seq_num for event in got] != [event.seq_num for event in log]:
        after = order.begin()
        known = data.draw(st.integers(len(got), len(log)))  # what is stored when the history is read
        history = [event for event in log[:known] if event.seq_num > after]
        while True:
            size = data.draw(st.integers(1, 8))
            sent, history = history[:size], history[size:]
            for _ in range(data.draw(st.integers(0, 2))):  # pushes, of which the rest of the history may speak again
                begin = data.draw(st.integers(0, len(log)))
                early = [event for event in log[begin : begin + 3] if event.seq_num > order.head]
                if early and history:
                    got += order.take(page(early, 0, identity, asked_for=not old))
            got += order.take(page(sent, len(history), identity))
            if not history or data.draw(st.booleans()):  # the end of the answer, or of the connection
                break
        if order.answered and not order.hole:
            begin = data.draw(st.integers(max(0, len(got) - 2), len(got)))
            got += order.take(page(log[begin : begin + 4], 0, identity, asked_for=not old))
    assert got == log


def test_what_is_too_early_is_bounded_and_asked_for_again() -> None:
    log = chain(list(range(1, 3 * CLIENT_STASH_EVENTS)))
    order = Order()
    order.begin()
    for begin in range(10, len(log), 50):
        assert order.take(page(log[begin : begin + 50])) == []
    assert len(order._stash) <= CLIENT_STASH_EVENTS
    got = order.take(page(log[:10]))
    assert order.hole
    while order.begin() < log[-1].seq_num:
        got += order.take(page([event for event in log if event.seq_num > order.head][:100]))
    assert got == log


def test_what_is_remembered_of_a_log_without_identity_is_bounded() -> None:
    order = Order()
    order.begin()
    order.take(page(chain(list(range(1, 2 * CLIENT_RECENT_EVENTS))), 0, None))
    assert len(order._recent) == CLIENT_RECENT_EVENTS


@pytest.mark.parametrize("late", [[], chain([1, 2, 3], "other"), chain([1, 2, 3, 4, 5], "other")[2:]])
def test_a_log_without_identity_is_known_again_by_its_last_event(late: list[Event]) -> None:
    order = Order()
    order.begin()
    order.take(page(chain([1, 2, 3]), 0, None))
    assert order.begin() == 2, "the last one is asked for again"
    with pytest.raises(LogGone):
        order.take(page(late, 0, None))


def test_a_position_between_two_events_is_none_of_the_log() -> None:
    order = Order(Position(4, "id"))
    order.begin()
    with pytest.raises(LogBroken):
        order.take(page(chain([3, 5])[1:]))
