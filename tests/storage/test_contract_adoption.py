"""What every engine promises of logs that come in from elsewhere, and of readers that keep to one moment."""

import attrs

from livesync_trio.model import BackendId, LogState, StoreId
from livesync_trio.storage.base import Adopt, Appended, HeadMoved
from livesync_trio.storage.chain import state_after
from tests.storage.making import Database, append, chain, run_of, stored

OLD = BackendId("identity-from-elsewhere")


def adopt(store: str, staged: LogState, replacing: LogState | None = None, backend_id: BackendId = OLD) -> Adopt:
    return Adopt(StoreId(store), StoreId("staged"), staged, backend_id, replacing)


def test_a_staged_log_takes_its_place(db: Database) -> None:
    staged = db.filled("staged", run_of(3))
    outcome = db.one(adopt("s", staged))
    assert outcome == Appended(attrs.evolve(staged, backend_id=OLD))
    db.restart()
    assert db.state("s") == attrs.evolve(staged, backend_id=OLD)
    assert db.state("staged") is None
    state = db.open("s")
    assert db.read(state) == stored([run_of(3)])
    summary = db.reader.summary(StoreId("s"))
    assert summary is not None
    assert summary.text_bytes == run_of(3).size_bytes
    assert db.append("s", state, run_of(1, after=3)).head == 4


def test_it_overwrites_nothing_that_is_not_named(db: Database) -> None:
    there, staged = db.filled("s", run_of(1)), db.filled("staged", run_of(3))
    assert db.one(adopt("s", staged)) == HeadMoved(there)
    assert (db.state("s"), db.state("staged")) == (there, staged)


def test_a_log_that_is_named_is_replaced_as_by_a_reset(db: Database) -> None:
    there, staged = db.filled("s", run_of(2)), db.filled("staged", run_of(3))
    outcome = db.one(adopt("s", staged, there))
    assert isinstance(outcome, Appended)
    assert db.numbers(outcome.state) == [1, 2, 3]
    assert db.writer.clear_replaced(100) == 2
    assert db.writer.clear_replaced(100) == 0
    assert db.numbers(outcome.state) == [1, 2, 3]


def test_a_log_that_has_gone_on_is_not_replaced(db: Database) -> None:
    before, staged = db.filled("s", run_of(2)), db.filled("staged", run_of(3))
    after = db.append("s", before, run_of(1, after=2))
    assert db.one(adopt("s", staged, before)) == HeadMoved(after)
    assert db.state("s") == after


def test_a_log_that_is_gone_is_not_replaced(db: Database) -> None:
    there, staged = db.filled("s", run_of(2)), db.filled("staged", run_of(3))
    outcome = db.one(adopt("other", staged, there))
    assert outcome == HeadMoved(staged)
    assert db.state("other") is None


def test_a_staged_log_that_has_gone_on_is_not_adopted(db: Database) -> None:
    staged = db.filled("staged", run_of(3))
    longer = db.append("staged", staged, run_of(1, after=3))
    assert db.one(adopt("s", staged)) == HeadMoved(staged)
    assert (db.state("s"), db.state("staged")) == (None, longer)


def test_an_adoption_that_is_refused_takes_no_neighbour_with_it(db: Database) -> None:
    staged = db.filled("staged", run_of(3))
    db.filled("taken", run_of(1))
    outcomes = db.commit(adopt("taken", staged), adopt("\ud800", staged), adopt("free", staged))
    assert isinstance(outcomes[0], HeadMoved)
    assert isinstance(outcomes[1], ValueError)
    assert isinstance(outcomes[2], Appended)


def test_a_snapshot_answers_as_of_its_first_question(db: Database) -> None:
    one, other = db.filled("one", run_of(2)), db.filled("other", run_of(2))
    snapshot = db.engine.snapshot()
    try:
        assert snapshot.state(StoreId("one")) == one
        db.append("one", one, run_of(1, after=2))
        db.reset("other")
        db.filled("new", run_of(1))
        assert snapshot.state(StoreId("one")) == one
        assert snapshot.state(StoreId("other")) == other
        assert [event.seq_num for event in snapshot.read(other, 0, 9, 9, 10_000)] == [1, 2]
        assert [summary.store_id for summary in snapshot.stores(None, 9)] == ["one", "other"]
    finally:
        snapshot.close()


def test_what_is_opened_to_read_sees_what_others_write(db: Database) -> None:
    state = db.filled("s", run_of(2))
    other = db.another_engine()
    other.open_to_read()
    reader = other.reader()
    try:
        assert reader.state(StoreId("s")) == state
        longer = db.append("s", state, run_of(1, after=2))
        assert reader.state(StoreId("s")) == longer
    finally:
        reader.close()
        other.close()
    assert db.append("s", longer, run_of(1, after=3)).head == 4


def test_appends_go_where_the_log_is_by_now(db: Database) -> None:
    """Whoever remembers whose a log is must hear of its move."""
    staged = db.filled("staged", run_of(3))
    db.one(adopt("s", staged))
    moved = attrs.evolve(staged, backend_id=OLD)
    refused = db.refused("staged", moved, chain(4, after=3))
    assert (refused.head, refused.event_count) == (0, 0)
    assert db.append("s", moved, chain(4, after=3)).head == 4
    assert db.numbers(moved) == [1, 2, 3, 4]


def test_an_append_behind_the_adoption_of_its_log_finds_it_gone(db: Database) -> None:
    staged = db.filled("staged", run_of(3))
    adopted, refused = db.commit(adopt("s", staged), append("staged", staged, chain(4, after=3)))
    assert isinstance(adopted, Appended)
    assert isinstance(refused, HeadMoved)
    assert db.numbers(staged) == [1, 2, 3]


def test_a_log_keeps_its_summary_when_it_is_adopted(db: Database) -> None:
    staged = db.filled("staged", run_of(3))
    before = db.reader.summary(StoreId("staged"))
    assert before is not None
    db.one(adopt("s", staged))
    found = attrs.evolve(before, store_id=StoreId("s"), state=attrs.evolve(staged, backend_id=OLD))
    assert db.reader.stores(None, 9) == [found]


def test_a_chain_of_appends_is_one_commit(db: Database) -> None:
    state = db.open("s")
    links, expected = [], state
    for number in range(1, 6):
        batches = (attrs.evolve(run_of(2, after=expected.head), user="ann" if number == 3 else None),)
        links.append(append("s", expected, *batches, created_at=f"2026-11-20T12:00:00.00{number}Z"))
        expected = state_after(links[-1])
    assert db.commit(*links) == [Appended(state_after(one)) for one in links]
    events = db.read(expected)
    assert [event.created_at[-4:] for event in events] == [f"00{n}Z" for n in (1, 1, 2, 2, 3, 3, 4, 4, 5, 5)]
    assert [event.user for event in events] == [None] * 4 + ["ann"] * 2 + [None] * 4
    assert [event.ordinal for event in events] == list(range(1, 11))
    summary = db.reader.summary(StoreId("s"))
    assert summary is not None
    assert (summary.text_bytes, summary.last_push_at) == (run_of(10).size_bytes, "2026-11-20T12:00:00.005Z")
    assert db.commit(*links) == [HeadMoved(expected)] * 5
    db.restart()
    assert db.open("s") == expected


def test_a_bad_link_of_a_chain_is_judged_by_itself(db: Database) -> None:
    first = append("s", db.open("s"), run_of(1))
    broken = append("s", state_after(first), run_of(2, after=7))
    outcomes = db.commit(first, broken)
    assert outcomes[0] == Appended(state_after(first))
    assert isinstance(outcomes[1], ValueError)
    assert db.state("s") == state_after(first)
