"""What every engine promises about ids of events that came without a number: one event each, for ever, in their log."""

import threading

import attrs
import pytest

from livesync_trio.errors import StoreDamaged
from livesync_trio.model import Batch, Event, LogState, StoredEvent, StoreId
from livesync_trio.storage.base import Adopt, Appended, HeadMoved, Outcome
from tests.storage.making import CREATED_AT, Database, append, event_json, run_of
from tests.storage.test_sqlite_file import raw

ODD_IDS = ["a", "A", "a ", "ä,ö", "\U0001f600", "x" * 255, "'; DROP TABLE events; --", '{"a":[1]}', "%s", "\u2028"]


def named(*ids: str | None, after: int = 0) -> Batch:
    """A batch of events with these ids behind `after`."""
    return Batch(
        tuple(
            Event(number, number - 1, event_json(number, number - 1), one) for number, one in enumerate(ids, after + 1)
        )
    )


def test_ids_come_back_with_their_events(db: Database) -> None:
    state = db.filled("s", named("one", None, "three"), Batch(named("four", after=3).events, "ann"))
    assert db.read(state) == [
        StoredEvent(1, 1, event_json(1, 0), CREATED_AT, None, "one"),
        StoredEvent(2, 2, event_json(2, 1), CREATED_AT, None, None),
        StoredEvent(3, 3, event_json(3, 2), CREATED_AT, None, "three"),
        StoredEvent(4, 4, event_json(4, 3), CREATED_AT, "ann", "four"),
    ]


def test_the_number_of_an_id_is_known_for_ever(db: Database) -> None:
    state = db.filled("s", named(*ODD_IDS))
    state = db.append("s", state, run_of(2, after=state.head))
    db.restart()
    numbers = {one: number for number, one in enumerate(ODD_IDS, 1)}
    assert db.reader.numbers_of(state, [*ODD_IDS, "never seen"]) == numbers
    assert db.reader.numbers_of(state, ["a "]) == {"a ": 3}
    assert db.reader.numbers_of(state, []) == {}


def test_an_id_belongs_to_its_log(db: Database) -> None:
    mine, other = db.filled("mine", named("one", "two")), db.filled("other", named("two"))
    assert db.reader.numbers_of(mine, ["two"]) == {"two": 2}
    assert db.reader.numbers_of(other, ["one", "two"]) == {"two": 1}


@pytest.mark.parametrize("batch", [named("new", "one", after=1), named("twice", "twice", after=1)])
def test_an_id_is_never_given_twice(db: Database, batch: Batch) -> None:
    """It is a fault of the caller, who asks first; neighbours are not affected."""
    state, other = db.filled("s", named("one")), db.open("other")
    failed, fine = db.commit(append("s", state, batch), append("other", other, run_of(1)))
    assert isinstance(failed, ValueError)
    assert isinstance(fine, Appended)
    assert db.state("s") == state
    assert db.reader.numbers_of(state, ["new", "twice", "one"]) == {"one": 1}
    assert db.append("s", state, named("new", after=1)).head == 2


def test_of_two_writers_with_one_id_one_wins(db: Database) -> None:
    """The other finds the head moved, asks again and knows it."""
    state = db.open("s")
    first = db.engine.writer()
    outcomes: list[Outcome | Exception] = []
    start = threading.Barrier(2)

    def write(writer: object) -> None:
        start.wait()
        outcomes.extend(writer.commit([append("s", state, named("one"))]))  # type: ignore[attr-defined]

    if db.engine.name == "postgresql":
        threads = [threading.Thread(target=write, args=[writer]) for writer in (first, db.writer)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:  # one writer by contract
        outcomes = db.commit(append("s", state, named("one")), append("s", state, named("one")))
    first.close()
    after = attrs.evolve(state, head=1, event_count=1)
    assert sorted(map(str, outcomes)) == sorted([str(Appended(after)), str(HeadMoved(after))])
    assert db.reader.numbers_of(after, ["one"]) == {"one": 1}


def test_a_reset_forgets_the_ids(db: Database) -> None:
    old = db.filled("s", named("one", "two"))
    new = db.reset("s")
    assert db.reader.numbers_of(old, ["one"]) == {}
    assert db.reader.numbers_of(new, ["one"]) == {}
    again = db.append("s", new, named("two"))
    while db.writer.clear_replaced(1):
        pass
    assert db.reader.numbers_of(again, ["one", "two"]) == {"two": 1}


def test_ids_go_with_an_adopted_log(db: Database) -> None:
    staged = db.filled("staged", named("one", "two"))
    adopted = db.one(Adopt(StoreId("s"), StoreId("staged"), staged, staged.backend_id, None))
    assert isinstance(adopted, Appended)
    assert db.reader.numbers_of(adopted.state, ["two"]) == {"two": 2}


def test_many_appends_of_an_import_keep_their_ids(db: Database) -> None:
    state = db.open("s")
    writes = []
    for number in range(1, 6):
        writes.append(append("s", state, named(f"id {number}", after=number - 1)))
        state = LogState(state.log_id, state.backend_id, number, number)
    assert all(isinstance(outcome, Appended) for outcome in db.commit(*writes))
    assert [event.append_id for event in db.read(state)] == [f"id {number}" for number in range(1, 6)]
    doubled = [append("s", state, named("new", after=5))]
    state = LogState(state.log_id, state.backend_id, 6, 6)
    doubled.append(append("s", state, named("id 3", after=6)))
    outcomes = db.commit(*doubled)
    assert isinstance(outcomes[0], Appended)
    assert isinstance(outcomes[1], ValueError)


def test_a_changed_id_is_noticed(sqlite: Database, tmp_path: object) -> None:
    state = sqlite.filled("s", named("one", "two"))
    with raw(tmp_path / "live.db") as connection:  # type: ignore[operator]
        connection.execute("UPDATE livesync_7_events SET append_id = 'twp' WHERE seq_num = 2")
    with pytest.raises(StoreDamaged, match="e2 is not what was written"):
        sqlite.read(state)
