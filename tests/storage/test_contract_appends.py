"""What every engine promises about appends: compare and append as one, durable or nothing, many at a time."""

import threading
from collections.abc import Callable

import attrs
import pytest

from livesync_trio.errors import LivesyncError
from livesync_trio.model import Batch, Event, LogState
from livesync_trio.storage.base import Appended, HeadMoved, Outcome
from tests.storage.making import CREATED_AT, Database, append, chain, event_json, open_store, reset, run_of, stored


def test_an_append_advances_head_and_count(db: Database) -> None:
    before = db.open("s")
    after = db.append("s", before, run_of(3))
    assert after == LogState(before.log_id, before.backend_id, 3, 3)
    assert db.state("s") == after


def test_an_append_continues_the_one_before(db: Database) -> None:
    first, second = run_of(2), run_of(3, after=2)
    state = db.append("s", db.filled("s", first), second)
    assert (state.head, state.event_count) == (5, 5)
    assert db.read(state) == stored([first, second])


def test_several_batches_in_one_append_are_one(db: Database) -> None:
    batches = run_of(2), run_of(1, after=2), run_of(4, after=3)
    state = db.filled("s", *batches)
    assert (state.head, state.event_count) == (7, 7)
    assert db.read(state) == stored(batches)


def test_numbers_may_have_gaps_and_ordinals_have_none(db: Database) -> None:
    state = db.filled("s", chain(100, 20_000), chain(20_001, 2**53 - 1, after=20_000))
    assert (state.head, state.event_count) == (2**53 - 1, 4)
    assert [(event.seq_num, event.ordinal) for event in db.read(state)] == [
        (100, 1),
        (20_000, 2),
        (20_001, 3),
        (2**53 - 1, 4),
    ]


def test_the_time_of_the_push_is_kept_with_each_event(db: Database) -> None:
    first = db.append("s", db.open("s"), run_of(1), created_at="2026-01-01T00:00:00.000Z")
    second = db.append("s", first, run_of(2, after=1), created_at="2026-01-01T00:00:00.001Z")
    assert [event.created_at[-4:] for event in db.read(second)] == ["000Z", "001Z", "001Z"]


def test_an_append_behind_the_head_is_told_the_durable_state(db: Database) -> None:
    empty = db.open("s")
    state = db.append("s", empty, run_of(5))
    assert db.refused("s", empty, run_of(1)) == state
    assert db.read(state) == stored([run_of(5)])


def test_an_append_ahead_of_the_head_is_told_the_durable_state(db: Database) -> None:
    state = db.filled("s", run_of(2))
    ahead = attrs.evolve(state, head=7, event_count=7)
    assert db.refused("s", ahead, chain(8, after=7)) == state


def test_an_append_with_another_count_of_events_is_refused(db: Database) -> None:
    state = db.filled("s", run_of(2))
    assert db.refused("s", attrs.evolve(state, event_count=1), chain(3, after=2)) == state
    assert db.refused("s", attrs.evolve(state, event_count=3), chain(3, after=2)) == state


def test_an_append_to_the_log_before_a_reset_is_refused(db: Database) -> None:
    old = db.open("s")
    new = db.reset("s")
    assert db.refused("s", old, run_of(1)) == new
    assert db.read(new) == []


def test_an_append_that_expects_the_log_of_another_store_is_refused(db: Database) -> None:
    mine, other = db.open("mine"), db.open("other")
    assert db.refused("mine", other, run_of(1)) == mine
    assert db.read(other) == []
    assert db.read(mine) == []


def test_an_append_to_an_unknown_store_is_refused_with_its_empty_log(db: Database) -> None:
    other = db.open("other")
    state = db.refused("unknown", other, run_of(1))
    assert (state.head, state.event_count) == (0, 0)
    assert state.log_id != other.log_id
    assert db.open("unknown") == state


@pytest.mark.parametrize(
    "batches",
    [
        (),
        (chain(2, after=1),),  # does not continue the head
        (chain(-1),),  # SPEC section 1: ascending from the root, so that a stored number is never negative
        (chain(1), chain(3, after=2)),  # the second batch does not continue the first
        (chain(1, 2), chain(2, after=1)),
        (Batch((Event(1, 0, event_json(1, 0)), Event(3, 2, event_json(3, 2)))),),  # a hole inside a batch
        (Batch((Event(1, 0, event_json(1, 0)), Event(1, 1, event_json(1, 1)))),),  # not ascending
        (Batch((Event(2, 0, event_json(2, 0)), Event(1, 2, event_json(1, 2)))),),
    ],
)
def test_what_is_not_a_chain_is_a_fault_of_the_caller_and_changes_nothing(
    db: Database, batches: tuple[Batch, ...]
) -> None:
    state = db.open("s")
    (outcome,) = db.commit(append("s", state, *batches))
    assert isinstance(outcome, ValueError)
    assert db.open("s") == state
    assert db.read(state) == []


def test_a_long_batch_is_one(db: Database) -> None:
    batch = run_of(5_000)
    state = db.filled("s", batch)
    assert db.read(state, limit_events=6_000, limit_bytes=10_000_000) == stored([batch])


# --- group commit ------------------------------------------------------------------------------------------------


def test_writes_of_many_stores_share_a_commit(db: Database) -> None:
    stores = [f"s{i}" for i in range(40)]
    states = {}
    for store, opened in zip(stores, db.commit(*map(open_store, stores)), strict=True):
        assert isinstance(opened, LogState)
        states[store] = opened
    outcomes = db.commit(*(append(store, states[store], run_of(i + 1)) for i, store in enumerate(stores)))
    for i, (store, outcome) in enumerate(zip(stores, outcomes, strict=True)):
        assert isinstance(outcome, Appended)
        assert outcome.state == db.state(store)
        assert db.read(outcome.state) == stored([run_of(i + 1)])


def test_who_lost_the_race_in_a_group_takes_nothing_from_its_neighbours(db: Database) -> None:
    before = {store: db.open(store) for store in ("a", "b", "c")}
    b = db.append("b", before["b"], run_of(1))
    outcomes = db.commit(*(append(store, state, chain(7)) for store, state in before.items()))  # no number clashes
    assert [type(outcome) for outcome in outcomes] == [Appended, HeadMoved, Appended]
    assert outcomes[1] == HeadMoved(b)
    assert [db.state(store).head for store in before] == [7, 1, 7]  # type: ignore[union-attr]
    assert db.read(b) == stored([run_of(1)])


def test_later_appends_of_a_group_see_earlier_ones(db: Database) -> None:
    state = db.open("s")
    middle = LogState(state.log_id, state.backend_id, 2, 2)
    end = LogState(state.log_id, state.backend_id, 5, 5)
    outcomes = db.commit(append("s", state, run_of(2)), append("s", middle, run_of(3, after=2)))
    assert outcomes == [Appended(middle), Appended(end)]
    assert db.numbers(end) == [1, 2, 3, 4, 5]


def test_of_two_appends_of_a_group_to_one_head_the_first_wins(db: Database) -> None:
    state = db.open("s")
    outcomes = db.commit(append("s", state, run_of(2)), append("s", state, run_of(7)))
    won = LogState(state.log_id, state.backend_id, 2, 2)
    assert outcomes == [Appended(won), HeadMoved(won)]
    assert db.numbers(won) == [1, 2]


def test_opening_resetting_and_appending_in_one_group_happen_in_order(db: Database) -> None:
    state = db.filled("s", run_of(1))
    outcomes = db.commit(
        append("s", state, chain(2, after=1)),
        open_store("s"),
        reset("s"),
        append("s", state, chain(2, after=1)),
        open_store("s"),
    )
    grown = LogState(state.log_id, state.backend_id, 2, 2)
    new = outcomes[2]
    assert isinstance(new, LogState)
    assert new.log_id != state.log_id
    assert outcomes == [Appended(grown), grown, new, HeadMoved(new), new]


def test_a_new_store_and_appends_of_others_share_a_commit(db: Database) -> None:
    state = db.open("old")
    appended, opened, replaced = db.commit(append("old", state, run_of(2)), open_store("new"), reset("other"))
    assert appended == Appended(LogState(state.log_id, state.backend_id, 2, 2))
    assert opened == db.state("new")
    assert replaced == db.state("other")


def _broken(db: Database, state: LogState) -> list[Exception | Outcome]:
    """A group in which the second write fails on its own account and the third is refused."""
    return db.commit(
        append("a", db.open("a"), run_of(2)),
        append("b", state, run_of(1), chain(9, after=8)),
        append("c", state, run_of(1)),
        append("d", db.open("d"), run_of(3)),
    )


def test_one_bad_write_never_takes_its_neighbours_with_it(db: Database) -> None:
    bad, good = db.open("b"), db.open("c")
    first, second, third, fourth = _broken(db, bad)
    assert isinstance(first, Appended)
    assert isinstance(second, ValueError)
    assert third == HeadMoved(good)
    assert isinstance(fourth, Appended)
    assert db.state("b") == bad
    assert db.numbers(first.state) == [1, 2]
    assert db.numbers(bad) == []
    assert db.numbers(fourth.state) == [1, 2, 3]


def test_after_a_bad_group_the_next_one_works(db: Database) -> None:
    bad = db.open("b")
    _broken(db, bad)
    assert db.append("b", bad, run_of(1)).head == 1


def test_a_store_id_that_is_not_unicode_fails_alone(db: Database) -> None:
    bad, good = db.commit(open_store("\ud800"), open_store("good"))
    assert isinstance(bad, ValueError)
    assert good == db.state("good")


# --- several threads ---------------------------------------------------------------------------------------------


def _in_threads(*functions: Callable[[], None]) -> None:
    """Run them at the same time; the first exception of any is raised here."""
    failures: list[BaseException] = []

    def guarded(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_of_two_writers_racing_for_a_head_exactly_one_wins(db: Database) -> None:
    rounds, start = 30, threading.Barrier(2, timeout=10)
    expected = [db.open(f"s{i}") for i in range(rounds)]
    results: dict[str, list[Outcome | Exception]] = {"left": [], "right": []}

    def race(name: str) -> None:
        writer = db.engine.writer()
        batch = run_of(2, args=b'"%b"' % name.encode())
        for i, state in enumerate(expected):
            start.wait()
            results[name] += writer.commit([append(f"s{i}", state, batch)])
        writer.close()

    _in_threads(lambda: race("left"), lambda: race("right"))
    for i, outcomes in enumerate(zip(results["left"], results["right"], strict=True)):
        state = db.state(f"s{i}")
        assert state is not None
        assert sorted(map(repr, outcomes)) == sorted(map(repr, (Appended(state), HeadMoved(state))))
        winner = b'"left"' if isinstance(outcomes[0], Appended) else b'"right"'
        assert [winner in event.json for event in db.read(state)] == [True, True]


def test_a_reader_never_sees_half_an_append(db: Database) -> None:
    state = db.open("s")
    done = threading.Event()

    def write() -> None:
        nonlocal state
        try:
            for _ in range(40):
                state = db.append("s", state, run_of(4, after=state.head), run_of(3, after=state.head + 4))
        finally:
            done.set()

    def read() -> None:
        reader = db.engine.reader()
        seen = 0
        while not done.is_set():
            events = reader.read(state, 0, 2**53 - 1, 1_000, 1_000_000)
            assert len(events) % 7 == 0
            assert len(events) >= seen
            assert [event.seq_num for event in events] == list(range(1, len(events) + 1))
            seen = len(events)
        reader.close()

    _in_threads(write, read)
    assert state.event_count == 280


def test_every_failure_of_a_write_is_one_the_actor_can_name(db: Database) -> None:
    """Nothing of a database's own exceptions gets out."""
    outcomes = db.commit(open_store("\ud800"), append("s", db.open("s"), run_of(1), chain(9, after=8)))
    assert all(isinstance(outcome, LivesyncError | ValueError) for outcome in outcomes)
    assert db.commit(append("s", db.open("s"), run_of(1), created_at=CREATED_AT))
