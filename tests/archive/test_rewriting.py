"""Rewind and erase: what the new log holds, and that nothing is left of what was erased."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from livesync_trio.archive.entries import Entry
from livesync_trio.archive.reading import log_entries
from livesync_trio.archive.rewriting import Erase, NotInLog, Rewind, adoption, args_text, clear, staged_anew
from livesync_trio.archive.staging import STAGED, Target
from livesync_trio.model import Batch, Event, LogState, StoreId
from livesync_trio.storage.base import Appended, Delete, Freeze, Reset
from livesync_trio.wire.choice import Choice
from tests.storage.conftest import ENGINES
from tests.storage.making import Database, append

SECRET = b"canary-of-a-person-7f3a"
SECRET_ID = "canary-id-of-a-person-91c2"
STORE = StoreId("notes")
EVENTS = 40
ERASED = frozenset({3, 17, 29})
ALL = Choice()


def text(number: int, args: bytes) -> bytes:
    client = b'"ann"' if number % 2 else b'"b\\ud800"'
    return b'{"name":"n\\ud83d","args":%b,"seqNum":%d,"parentSeqNum":%d,"clientId":%b,"sessionId":"s"}' % (
        args,
        number,
        number - 1,
        client,
    )


def filled(db: Database, large: int = 10) -> LogState:
    """A log whose events of `ERASED` hold what must go, one of them in many pages."""
    state = db.open(STORE)
    for number in range(1, EVENTS + 1):
        secret = number in ERASED
        args = b'{"who":"%b","x":"%b"}' % (SECRET, (SECRET + b" ") * (large if number == 17 else 1))
        event = Event(
            number,
            number - 1,
            text(number, args if secret else b'{ "n": %d.0 }' % number),
            f"{SECRET_ID}-{number}" if secret else f"id-{number}",
        )
        batch = Batch((event,), SECRET.decode() if secret else "bob")
        outcome = db.one(append(STORE, state, batch, created_at=f"2026-11-20T12:34:{number:02d}.000Z"))
        assert isinstance(outcome, Appended)
        state = outcome.state
    return state


def target(db: Database) -> Target:
    return Target(db.writer, db.reader)


def entries(db: Database, log: LogState) -> list[Entry]:
    return list(log_entries(db.reader, STORE, log))


def rewritten(db: Database, state: LogState, how: Rewind | Erase) -> LogState:
    staged = staged_anew(target(db), STORE, state, how)
    outcome = db.one(adoption(STORE, staged, state))
    assert isinstance(outcome, Appended)
    assert clear(target(db), state)
    return outcome.state


def erase(*numbers: int, choice: Choice = ALL, args: str = '{"erased": true}') -> Erase:
    return Erase(frozenset(numbers), choice, args_text(args))


def test_a_rewound_log_ends_at_the_event(db: Database) -> None:
    state = filled(db)
    before = entries(db, state)
    after = rewritten(db, state, Rewind(12))
    assert (after.head, after.event_count) == (12, 12)
    assert after.backend_id != state.backend_id
    assert entries(db, after) == before[:12]
    assert db.state(STORE) == after
    assert db.state(STAGED + STORE) is None
    empty = rewritten(db, after, Rewind(0))
    assert (empty.head, empty.event_count) == (0, 0)


def test_erased_events_keep_their_place_and_everything_else(db: Database) -> None:
    state = filled(db)
    before = entries(db, state)
    after = rewritten(db, state, erase(*ERASED))
    assert (after.head, after.event_count) == (state.head, state.event_count)
    assert after.backend_id != state.backend_id
    for old, new in zip(before, entries(db, after), strict=True):
        if old.seq_num in ERASED:
            expected = text(old.seq_num, b'{"erased":true}')
            assert new == old._replace(json=expected, user=None, append_id=None)
        else:
            assert new == old
    ids = [f"{SECRET_ID}-{number}" for number in ERASED]
    assert db.reader.numbers_of(after, [*ids, "id-1"]) == {"id-1": 1}


def test_events_are_chosen_by_who_pushed_them(db: Database) -> None:
    state = filled(db)
    after = rewritten(db, state, erase(choice=Choice(client_id="ann"), args="null"))
    changed = [new.seq_num for new in entries(db, after) if b'"args":null' in new.json]
    assert changed == list(range(1, EVENTS, 2))


@pytest.mark.parametrize(
    "how", [Rewind(41), erase(3, 99), erase(2, choice=Choice(client_id="ann")), erase(choice=Choice(name="other"))]
)
def test_what_is_not_there_changes_nothing(db: Database, how: Rewind | Erase) -> None:
    state = filled(db)
    with pytest.raises(NotInLog, match="Nothing was changed"):
        staged_anew(target(db), STORE, state, how)
    assert db.state(STORE) == state
    assert db.state(STAGED + STORE) is None


def test_a_frozen_store_is_rewritten_and_stays_frozen(db: Database) -> None:
    filled(db)
    state = db.one(Freeze(STORE, frozen=True))
    assert isinstance(state, LogState)
    assert rewritten(db, state, erase(3)).frozen


# --- nothing is left -------------------------------------------------------------------------------------------------


def holding(directory: Path) -> list[str]:
    """Which files of a database hold anything of what was erased."""
    return sorted(
        file.name
        for file in directory.iterdir()
        if any(canary in file.read_bytes() for canary in (SECRET, SECRET_ID.encode()))
    )


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Iterator[tuple[Database, Path]]:
    directory = tmp_path / "data"
    directory.mkdir()
    database = Database(ENGINES["sqlite"](directory))
    yield database, directory
    database.stop()


def test_no_byte_is_left_in_any_file(sqlite_file: tuple[Database, Path]) -> None:
    """Not even of a log that held the same and was replaced before."""
    db, directory = sqlite_file
    filled(db, large=3_000)
    db.one(Reset(STORE))
    state = filled(db, large=3_000)
    other = db.filled("other", Batch((Event(1, 0, text(1, b'"stays"')),)))
    assert holding(directory)
    after = rewritten(db, state, erase(*ERASED))
    assert holding(directory) == []
    assert b"stays" in b"".join(file.read_bytes() for file in directory.iterdir())
    assert [db.numbers(one) for one in (after, other)] == [list(range(1, EVENTS + 1)), [1]]
    assert db.append(STORE, after, Batch((Event(41, 40, text(41, b"1"), "id-41"),))).head == 41
    db.restart()
    assert holding(directory) == []


def test_no_byte_of_what_was_rewound_is_left(sqlite_file: tuple[Database, Path]) -> None:
    db, directory = sqlite_file
    rewritten(db, filled(db), Rewind(2))
    assert holding(directory) == []


def test_a_restart_goes_on_where_it_was(sqlite_file: tuple[Database, Path]) -> None:
    db, directory = sqlite_file
    state = filled(db)
    staged = staged_anew(target(db), STORE, state, erase(*ERASED))
    after = db.one(adoption(STORE, staged, state))
    assert isinstance(after, Appended)
    for _ in range(3):
        assert db.writer.clear_replaced(5) == 5
    db.restart()
    assert not db.reader.is_cleared(state)
    assert clear(target(db), state)
    assert holding(directory) == []
    assert db.state(STORE) == after.state


def test_a_reader_holds_it_up_and_is_told(sqlite_file: tuple[Database, Path]) -> None:
    db, directory = sqlite_file
    state = filled(db)
    staged = staged_anew(target(db), STORE, state, erase(*ERASED))
    snapshot = db.engine.snapshot()
    assert snapshot.state(STORE) == state
    db.one(adoption(STORE, staged, state))
    assert not clear(target(db), state)
    assert not db.reader.is_cleared(state)
    snapshot.close()
    assert clear(target(db), state)
    assert holding(directory) == []


def test_a_log_cleared_after_an_ordinary_reset_is_not_written_anew(sqlite_file: tuple[Database, Path]) -> None:
    db, _ = sqlite_file
    filled(db)
    db.one(Delete(STORE))
    assert db.writer.clear_replaced(1_000) == EVENTS
    assert db.writer.clear_replaced(1_000) == 0
