"""What every engine promises about stores: names byte for byte, an identity for life, a reset that costs nothing."""

from pathlib import Path

import pytest

from livesync_trio.errors import StorageUnavailable
from livesync_trio.limits import STORE_ID_MAX_BYTES
from livesync_trio.storage.base import Engine
from tests.storage.conftest import ENGINES
from tests.storage.making import Database, chain, open_store, reset, run_of, stored

ALIKE = {
    "signs that sync-cf folds": ("a-b", "a_b", "a.b", "a b", "a/b", "a%2Db"),
    "case": ("Store", "store", "STORE", "ſtore"),
    "white space at the ends": ("a", "a ", " a", "a\n", "a\u00a0"),
    "NFC and NFD": ("caf\u00e9", "cafe\u0301"),
    "lookalikes": ("a", "а", "ａ"),
    "numbers": ("1", "01", "1.0", "1e0", "１"),
    "U+0000 inside": ("a", "a\0", "a\0b", "a\0c"),
    "NULL and its like": ("NULL", "null", "None", "undefined", "0"),
    "long ones that differ at the end": ("x" * 63 + "a", "x" * 63 + "b", "x" * 63),
    "of a kilobyte": ("y" * (STORE_ID_MAX_BYTES - 1) + "1", "y" * (STORE_ID_MAX_BYTES - 1) + "2"),
    "a kilobyte of emoji": ("😀" * 255 + "a", "😀" * 255 + "b"),
}


@pytest.mark.parametrize("names", ALIKE.values(), ids=ALIKE)
def test_names_that_differ_at_all_are_different_stores(db: Database, names: tuple[str, ...]) -> None:
    states = {name: db.filled(name, run_of(i + 1)) for i, name in enumerate(names)}
    assert len({state.log_id for state in states.values()}) == len(names)
    db.restart()
    for i, name in enumerate(names):
        assert db.open(name) == db.state(name) == states[name]
        assert db.read(states[name]) == stored([run_of(i + 1)])


@pytest.mark.parametrize(
    "name",
    [
        "'; DROP TABLE livesync_7_stores; --",
        "x' OR '1'='1",
        '"; DELETE FROM livesync_7_events; --',
        "$1",
        ":log_id",
        "?1",
        "%s",
        "{rows}",
        "../../etc/passwd",
        "\\'",
        "",
    ],
)
def test_a_name_is_never_anything_but_a_name(db: Database, name: str) -> None:
    other = db.filled("other", run_of(1))
    state = db.append(name, db.open(name), run_of(2))
    assert db.read(state) == stored([run_of(2)])
    assert db.reset(name).log_id != state.log_id
    assert db.open("other") == other
    assert db.read(other) == stored([run_of(1)])


# --- identity ----------------------------------------------------------------------------------------------------


def test_a_new_store_is_empty_and_has_an_identity(db: Database) -> None:
    state = db.open("s")
    assert (state.head, state.event_count) == (0, 0)
    assert len(state.backend_id) >= 21


def test_opening_again_changes_nothing(db: Database) -> None:
    state = db.filled("s", run_of(3))
    assert [db.open("s") for _ in range(3)] == [state] * 3


def test_two_stores_never_share_an_identity(db: Database) -> None:
    states = [db.open(f"s{i}") for i in range(20)]
    assert len({state.backend_id for state in states}) == 20
    assert len({state.log_id for state in states}) == 20


def test_a_store_is_opened_once_however_often_a_group_asks(db: Database) -> None:
    first, second, third = db.commit(*[open_store("s")] * 3)
    assert first == second == third == db.state("s")


# --- reset -------------------------------------------------------------------------------------------------------


def test_a_reset_gives_a_new_identity_a_new_log_and_no_events(db: Database) -> None:
    old = db.filled("s", run_of(7))
    new = db.reset("s")
    assert (new.head, new.event_count) == (0, 0)
    assert new.backend_id != old.backend_id
    assert new.log_id != old.log_id
    assert db.open("s") == db.state("s") == new
    assert db.read(new) == []


def test_a_log_starts_again_from_the_root_after_a_reset(db: Database) -> None:
    db.filled("s", run_of(7, args=b'"old"'))
    state = db.append("s", db.reset("s"), run_of(3, args=b'"new"'))
    assert db.read(state) == stored([run_of(3, args=b'"new"')])
    while db.writer.clear_replaced(2):
        pass
    assert db.read(state) == stored([run_of(3, args=b'"new"')])


def test_a_reset_of_an_unknown_store_creates_it(db: Database) -> None:
    state = db.reset("s")
    assert (state.head, state.event_count) == (0, 0)
    assert db.open("s") == state


def test_the_number_of_a_log_is_never_given_out_again(db: Database) -> None:
    seen = {db.filled("s", run_of(1)).log_id}
    for i in range(6):
        log_id = db.reset("s").log_id
        assert log_id not in seen
        seen.add(log_id)
        if i % 2:
            while db.writer.clear_replaced(100):
                pass
        db.restart()
        other = db.open(f"other{i}").log_id
        assert other not in seen
        seen.add(other)


def test_resets_of_one_group_each_give_an_identity_of_their_own(db: Database) -> None:
    outcomes = db.commit(reset("s"), reset("s"), reset("t"), reset("s"))
    assert len({repr(outcome) for outcome in outcomes}) == 4
    assert db.state("s") == outcomes[-1]


# --- clearing ----------------------------------------------------------------------------------------------------


def test_old_rows_go_step_by_step(db: Database) -> None:
    db.filled("s", run_of(10))
    db.filled("t", run_of(4))
    db.reset("s")
    db.reset("t")
    assert [db.writer.clear_replaced(3) for _ in range(7)] == [3, 3, 3, 3, 2, 0, 0]


def test_a_step_that_ends_with_a_log_leaves_nothing_behind(db: Database) -> None:
    db.filled("s", run_of(4))
    db.reset("s")
    assert [db.writer.clear_replaced(2) for _ in range(4)] == [2, 2, 0, 0]


def test_replaced_logs_without_events_do_not_hold_up_the_others(db: Database) -> None:
    for _ in range(5):
        db.reset("s")
    state = db.append("s", db.reset("s"), run_of(3))
    db.reset("s")
    db.reset("s")
    assert state.event_count == 3
    assert [db.writer.clear_replaced(10) for _ in range(2)] == [3, 0]


def test_clearing_touches_no_log_that_is_in_use(db: Database) -> None:
    kept = db.filled("kept", run_of(20))
    db.filled("s", run_of(5))
    new = db.append("s", db.reset("s"), run_of(6))
    assert db.writer.clear_replaced(1_000) == 5
    assert db.read(kept) == stored([run_of(20)])
    assert db.read(new) == stored([run_of(6)])
    assert (db.open("kept"), db.open("s")) == (kept, new)


def test_with_nothing_to_clear_nothing_is_cleared(db: Database) -> None:
    db.filled("s", run_of(5))
    assert db.writer.clear_replaced(100) == 0


# --- restarts ----------------------------------------------------------------------------------------------------


def test_a_restart_keeps_everything(db: Database) -> None:
    states = {f"s{i}": db.filled(f"s{i}", run_of(i), chain(i + 100, after=i)) for i in range(1, 6)}
    states["reset"] = db.reset("s1")
    states["s1"] = states.pop("reset")
    db.restart()
    for store, state in states.items():
        assert db.state(store) == db.open(store) == state
    assert db.numbers(states["s3"]) == [1, 2, 3, 103]


def test_a_restart_keeps_what_is_still_to_be_cleared(db: Database) -> None:
    db.filled("s", run_of(10))
    db.reset("s")
    assert db.writer.clear_replaced(4) == 4
    db.restart()
    assert db.writer.clear_replaced(100) == 6


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_says_what_and_where_it_is(name: str, tmp_path: Path) -> None:
    engine: Engine = ENGINES[name](tmp_path)()
    assert engine.name == name
    assert engine.describe()


def test_a_closed_memory_handle_answers_nothing() -> None:
    database = Database(ENGINES["memory"](Path()))
    database.writer.close()
    database.reader.close()
    with pytest.raises(StorageUnavailable):
        database.commit(open_store("s"))
    with pytest.raises(StorageUnavailable):
        database.state("s")
