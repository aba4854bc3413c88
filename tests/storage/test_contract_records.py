"""What every engine promises about records: replaced by who knows their version, never half, in the order of keys."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from livesync_trio.limits import RECORD_KEY_MAX_BYTES, RECORD_MAX_BYTES
from livesync_trio.storage.base import NO_RECORD, Appended, PutRecord, Record, RecordMoved, RecordStored
from tests.storage.conftest import ENGINES
from tests.storage.making import Database, append, open_store, reset, run_of

KIND = "note"
ALIKE = ("a", "A", "a ", " a", "ä", "a\u0308", "a\0", "a\0b", "a/b", "a,b", "", "NULL", "'; --", "%s", "😀", "\uffff")


def put(key: str, value: bytes | None = b"{}", expected: int = NO_RECORD, kind: str = KIND) -> PutRecord:
    return PutRecord(kind, key, value, expected)


def stored(db: Database, write: PutRecord) -> int:
    """A write that must succeed; the version after it."""
    outcome = db.one(write)
    assert isinstance(outcome, RecordStored), outcome
    return outcome.version


def refused(db: Database, write: PutRecord) -> Record | None:
    """A write that must be refused; what it was told is there."""
    outcome = db.one(write)
    assert isinstance(outcome, RecordMoved), outcome
    return outcome.found


def test_what_is_written_is_read_after_a_restart(db: Database) -> None:
    value = '{"ä": "\\u0000😀,\' \\\\"}'.encode()
    version = stored(db, put("k", value))
    assert version != NO_RECORD
    db.restart()
    assert db.reader.record(KIND, "k") == Record("k", value, version)
    assert db.reader.record("other", "k") is None


def test_only_who_knows_the_version_replaces_or_deletes(db: Database) -> None:
    first = stored(db, put("k", b"1"))
    second = stored(db, put("k", b"2", first))
    found = Record("k", b"2", second)
    assert second != first
    for wrong in (put("k", b"3"), put("k", b"3", first), put("k", b"3", second + 7), put("k", None, first)):
        assert refused(db, wrong) == found
    assert refused(db, put("other", b"3", second)) is None
    assert db.reader.record(KIND, "k") == found
    assert stored(db, put("k", None, second)) == NO_RECORD
    assert db.reader.record(KIND, "k") is None
    assert refused(db, put("k", None, second)) is None


def test_the_version_of_a_deleted_record_is_never_given_out_again(db: Database) -> None:
    seen = [stored(db, put("k", b"1"))]
    for _ in range(3):
        stored(db, put("k", None, seen[-1]))
        db.restart()
        seen.append(stored(db, put("k", b"1")))
    assert len(set(seen)) == len(seen)


def test_keys_are_compared_and_ordered_byte_for_byte(db: Database) -> None:
    versions = {key: stored(db, put(key, b'"%d"' % i)) for i, key in enumerate(ALIKE)}
    stored(db, put("a", b"0", kind="another"))
    expected = [Record(key, b'"%d"' % ALIKE.index(key), versions[key]) for key in sorted(ALIKE, key=str.encode)]
    assert db.reader.records(KIND, None, 99) == expected
    found: list[Record] = []
    while page := db.reader.records(KIND, found[-1].key if found else None, 3):
        found += page
        assert len(page) == 3 or len(found) == len(ALIKE)
    assert found == expected


def test_records_and_stores_share_a_transaction_and_do_not_meet(db: Database) -> None:
    state = db.open("s")
    outcomes = db.commit(put("s", b"1"), append("s", state, run_of(2)), put("t", b"2"), open_store("new"), reset("old"))
    assert isinstance(outcomes[0], RecordStored)
    assert isinstance(outcomes[1], Appended)
    assert isinstance(outcomes[2], RecordStored)
    assert [record.key for record in db.reader.records(KIND, None, 9)] == ["s", "t"]
    assert db.numbers(state) == [1, 2]
    db.reset("s")
    assert db.reader.record(KIND, "s") == Record("s", b"1", outcomes[0].version)


def test_one_that_is_refused_takes_no_neighbour_with_it(db: Database) -> None:
    state = db.filled("s", run_of(1))
    version = stored(db, put("k", b"1"))
    bad = append("s", db.open("s"), run_of(1, after=5))
    outcomes = db.commit(put("k", b"no"), bad, put("k", b"2", version), put("new"))
    assert outcomes[0] == RecordMoved(Record("k", b"1", version))
    assert isinstance(outcomes[1], ValueError)
    assert isinstance(outcomes[2], RecordStored)
    assert isinstance(outcomes[3], RecordStored)
    assert db.open("s") == state
    assert db.reader.record(KIND, "k") == Record("k", b"2", outcomes[2].version)


def test_the_writes_of_one_record_are_carried_out_in_order(db: Database) -> None:
    first, second = db.commit(put("k", b"1"), put("k", b"2"))
    assert isinstance(first, RecordStored)
    assert second == RecordMoved(Record("k", b"1", first.version))


def test_what_some_database_could_not_keep_is_a_fault_of_the_caller(db: Database) -> None:
    wrong: tuple[Callable[[], PutRecord], ...] = (
        lambda: put("k", kind=""),
        lambda: put("k", kind="ä"),
        lambda: put("k", kind="a\0"),
        lambda: put("\ud800"),
        lambda: put("k" * RECORD_KEY_MAX_BYTES),
        lambda: put("k", b"\xff"),
        lambda: put("k", b'"\0"'),
        lambda: put("k", b"x" * (RECORD_MAX_BYTES + 1)),
        lambda: put("k", None),
    )
    for bad in wrong:
        with pytest.raises(ValueError):
            bad()
    longest = put("k" * (RECORD_KEY_MAX_BYTES - len(KIND)), b"x" * RECORD_MAX_BYTES)
    assert stored(db, longest)
    with pytest.raises(ValueError):
        db.reader.record(KIND, "\ud800")


def test_a_snapshot_shows_records_of_one_moment(db: Database) -> None:
    version = stored(db, put("k", b"1"))
    snapshot = db.engine.snapshot()
    assert snapshot.record(KIND, "k") == Record("k", b"1", version)
    stored(db, put("k", b"2", version))
    stored(db, put("l", b"1"))
    assert snapshot.records(KIND, None, 9) == [Record("k", b"1", version)]
    snapshot.close()


@pytest.mark.parametrize("name", ["memory", "postgresql"])
def test_of_several_who_replace_at_once_one_wins(tmp_path: Path, name: str) -> None:
    db = Database(ENGINES[name](tmp_path))
    try:
        version = stored(db, put("k", b"0"))
        writers = [db.engine.writer() for _ in range(3)]
        outcomes: list[object] = []

        def race(number: int) -> None:
            outcomes.extend(writers[number].commit([put("k", b"%d" % number, version), put(f"own {number}")]))

        threads = [threading.Thread(target=race, args=(number,)) for number in range(len(writers))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for writer in writers:
            writer.close()
        found = db.reader.record(KIND, "k")
        assert [type(outcome) for outcome in outcomes].count(RecordStored) == 1 + len(writers)
        assert found is not None
        assert outcomes.count(RecordMoved(found)) == len(writers) - 1
    finally:
        db.stop()
