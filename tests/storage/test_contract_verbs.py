"""What an operator does to a store as a whole: delete it, freeze it, rename it."""

import attrs
import pytest

from livesync_trio.errors import LogReplaced
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import Adopt, Append, Appended, Delete, Freeze, HeadMoved, NoStore
from tests.storage.making import Database, append, run_of


def delete(store: str) -> Delete:
    return Delete(StoreId(store))


def freeze(store: str, frozen: bool = True) -> Freeze:
    return Freeze(StoreId(store), frozen)


def frozen(db: Database, store: str) -> LogState:
    state = db.one(freeze(store))
    assert isinstance(state, LogState)
    assert state.frozen
    return state


def append_to(store: str, state: LogState) -> Append:
    return append(store, state, run_of(1, after=state.head))


def rename(store: str, state: LogState, to: str, replacing: LogState | None = None) -> Adopt:
    return Adopt(StoreId(to), StoreId(store), state, state.backend_id, replacing)


# --- delete ------------------------------------------------------------------------------------------------------


def test_a_deleted_store_is_gone_for_good(db: Database) -> None:
    state, other = db.filled("s", run_of(3)), db.filled("other", run_of(2))
    assert db.one(delete("s")) == NoStore()
    assert db.state("s") is None
    assert [summary.store_id for summary in db.reader.stores(None, 9)] == ["other"]
    with pytest.raises(LogReplaced):
        db.read(state)
    assert db.state("other") == other
    db.restart()
    assert db.state("s") is None


def test_whoever_opens_a_deleted_store_makes_a_new_one(db: Database) -> None:
    before = db.filled("s", run_of(3))
    db.one(delete("s"))
    after = db.open("s")
    assert (after.head, after.event_count, after.frozen) == (0, 0, False)
    assert after.backend_id != before.backend_id
    assert after.log_id > before.log_id
    assert db.append("s", after, run_of(1)).head == 1


def test_an_append_to_a_deleted_store_meets_a_new_one(db: Database) -> None:
    before = db.filled("s", run_of(3))
    db.one(delete("s"))
    found = db.refused("s", before, run_of(1, after=3))
    assert (found.head, found.backend_id == before.backend_id) == (0, False)


def test_there_is_nothing_to_delete_twice(db: Database) -> None:
    db.filled("s", run_of(3))
    assert db.commit(delete("s"), delete("s"), delete("never")) == [NoStore()] * 3
    assert db.writer.clear_replaced(10) == 3
    assert db.writer.clear_replaced(10) == 0


def test_a_deleted_log_is_cleared_later(db: Database) -> None:
    db.filled("s", run_of(5))
    db.one(delete("s"))
    assert [db.writer.clear_replaced(3), db.writer.clear_replaced(3), db.writer.clear_replaced(3)] == [3, 2, 0]


def test_a_group_of_deletions_and_appends_is_decided_in_order(db: Database) -> None:
    state, other = db.filled("s", run_of(1)), db.filled("other", run_of(1))
    gone, refused, taken = db.commit(
        delete("s"),
        append_to("s", state),
        append_to("other", other),
    )
    assert gone == NoStore()
    assert isinstance(refused, HeadMoved)
    assert refused.state.head == 0
    assert isinstance(taken, Appended)


# --- freeze ------------------------------------------------------------------------------------------------------


def test_a_frozen_store_takes_nothing_until_it_is_thawed(db: Database) -> None:
    state = db.filled("s", run_of(2))
    found = frozen(db, "s")
    assert attrs.evolve(found, frozen=False) == state
    for expected in (state, found):
        assert db.refused("s", expected, run_of(1, after=2)) == found
    db.restart()
    assert db.state("s") == found == db.open("s")
    assert db.numbers(found) == [1, 2]
    assert [summary.state for summary in db.reader.stores(None, 9)] == [found]
    assert db.one(freeze("s", frozen=False)) == state
    assert db.append("s", state, run_of(1, after=2)).head == 3


def test_a_frozen_store_is_no_trouble_to_its_neighbours(db: Database) -> None:
    state, other = db.filled("s", run_of(2)), db.filled("other", run_of(2))
    found = frozen(db, "s")
    refused, taken = db.commit(append_to("s", state), append_to("other", other))
    assert refused == HeadMoved(found)
    assert taken == Appended(attrs.evolve(other, head=3, event_count=3))


def test_a_chain_of_appends_to_a_frozen_store_is_refused(db: Database) -> None:
    state = db.filled("s", run_of(2))
    found = frozen(db, "s")
    first = append_to("s", state)
    second = append_to("s", attrs.evolve(state, head=3, event_count=3))
    assert db.commit(first, second) == [HeadMoved(found)] * 2


def test_no_store_is_made_by_freezing_it(db: Database) -> None:
    assert db.one(freeze("s")) == NoStore()
    assert db.state("s") is None


def test_a_frozen_store_stays_frozen_when_it_is_reset(db: Database) -> None:
    db.filled("s", run_of(2))
    before = frozen(db, "s")
    after = db.reset("s")
    assert (after.frozen, after.event_count) == (True, 0)
    assert after.backend_id != before.backend_id
    assert db.refused("s", after, run_of(1)) == after == db.state("s")


def test_what_takes_the_place_of_a_frozen_log_is_frozen(db: Database) -> None:
    db.filled("s", run_of(2))
    before, staged = frozen(db, "s"), db.filled("staged", run_of(3))
    outcome = db.one(rename("staged", staged, "s", replacing=before))
    assert outcome == Appended(attrs.evolve(staged, frozen=True))
    assert db.state("s") == attrs.evolve(staged, frozen=True)


# --- rename ------------------------------------------------------------------------------------------------------


def test_a_renamed_store_keeps_everything_but_its_name(db: Database) -> None:
    state = db.filled("s", run_of(3))
    events = db.read(state)
    found = frozen(db, "s")
    assert db.one(rename("s", found, "t")) == Appended(found)
    assert (db.state("s"), db.state("t")) == (None, found)
    assert db.read(found) == events
    db.one(freeze("t", frozen=False))
    assert db.append("t", state, run_of(1, after=3)).head == 4
    fresh = db.open("s")
    assert fresh.event_count == 0
    assert fresh.backend_id != state.backend_id
    assert fresh.log_id > state.log_id


def test_a_renamed_store_may_take_the_place_of_an_empty_one(db: Database) -> None:
    state, empty = db.filled("s", run_of(3)), db.open("t")
    assert db.one(rename("s", state, "t", replacing=empty)) == Appended(state)
    assert (db.state("s"), db.state("t")) == (None, state)
