"""The SQLite engine when the disk, the file or another program fails it.

Every outcome it gives is true: acknowledged is durable, refused has had no effect, and afterwards it works again.
"""

import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from livesync_trio.errors import StorageFull, StorageUnavailable, StoreDamaged
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import NO_RECORD, Appended, PutRecord, Record, RecordMoved, RecordStored
from livesync_trio.storage.sqlite.connection import translated
from livesync_trio.storage.sqlite.engine import SqliteEngine
from livesync_trio.storage.sqlite.writer import SQLITE_FILE_CHECK_S
from tests.storage.making import Database, append, chain, open_store, reset, run_of, stored
from tests.storage.watched import Watched, error


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database whose statements fail as the test likes."""
    database = Database(lambda: SqliteEngine(tmp_path / "live.db", Watched))
    yield database
    monkeypatch.undo()
    database.stop()


def fail(monkeypatch: pytest.MonkeyPatch, when: str, where: str, code: int, times: int = 1) -> None:
    """Let statements that contain `where` fail, `before` or `after` they had their effect."""
    left = times

    def hook(statement: str, parameters: Any) -> None:
        nonlocal left
        if where in statement and left:
            left -= 1
            raise error(code)

    monkeypatch.setattr(Watched, when, hook)


# --- a commit that fails -----------------------------------------------------------------------------------------

CODES = {
    "I/O": sqlite3.SQLITE_IOERR_FSYNC,
    "locked": sqlite3.SQLITE_BUSY,
    "read-only": sqlite3.SQLITE_READONLY,
    "out of memory": sqlite3.SQLITE_NOMEM,
    "gone": sqlite3.SQLITE_CANTOPEN,
    "damaged as a whole": sqlite3.SQLITE_NOTADB,
}


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
def test_a_group_that_fails_has_had_no_effect_and_the_next_one_works(
    faulty: Database, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    a, b = faulty.filled("a", run_of(2)), faulty.open("b")
    fail(monkeypatch, "before", "INSERT INTO livesync_7_events", code)
    with pytest.raises(StorageUnavailable):
        faulty.commit(append("a", a, chain(3, after=2)), append("b", b, run_of(1)))
    assert (faulty.open("a"), faulty.open("b")) == (a, b)
    assert faulty.append("a", a, chain(3, after=2)).head == 3


@pytest.mark.parametrize("where", ["BEGIN IMMEDIATE", "SAVEPOINT write", "COMMIT"])
def test_a_mixed_group_that_fails_has_had_no_effect(
    faulty: Database, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    a = faulty.filled("a", run_of(2))
    fail(monkeypatch, "before", where, sqlite3.SQLITE_IOERR_WRITE)
    with pytest.raises(StorageUnavailable):
        faulty.commit(append("a", a, chain(3, after=2)), open_store("new"), reset("a"))
    assert faulty.open("a") == a
    assert faulty.state("new") is None
    assert faulty.read(a) == stored([run_of(2)])


@pytest.mark.parametrize("where", ["INSERT INTO livesync_7_events", "COMMIT"])
def test_a_group_that_is_durable_although_its_end_failed_is_acknowledged(
    faulty: Database, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    a = faulty.open("a")
    writes = [append("a", a, run_of(3))]
    if where == "COMMIT":
        writes.append(append("a", LogState(a.log_id, a.backend_id, 3, 3), run_of(3_000, after=3)))
    fail(monkeypatch, "after", where, sqlite3.SQLITE_IOERR)
    outcomes = faulty.commit(*writes)
    assert outcomes[-1] == Appended(faulty.open("a"))
    assert all(isinstance(outcome, Appended) for outcome in outcomes)


@pytest.mark.parametrize("write", [open_store("new"), reset("new"), reset("a")])
def test_an_identity_that_is_durable_although_its_commit_failed_is_the_one_told(
    faulty: Database, monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    faulty.filled("a", run_of(1))
    fail(monkeypatch, "after", "COMMIT", sqlite3.SQLITE_IOERR)
    assert faulty.one(write) == faulty.open(write.store_id)


def test_a_record_that_is_durable_although_its_commit_failed_is_told_as_written(
    faulty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = faulty.one(PutRecord("kind", "a", b"1", NO_RECORD))
    assert isinstance(first, RecordStored)
    fail(monkeypatch, "after", "COMMIT", sqlite3.SQLITE_IOERR)
    replaced, refused = faulty.commit(
        PutRecord("kind", "a", b"2", first.version), PutRecord("kind", "b", b"2", first.version)
    )
    assert isinstance(replaced, RecordStored)
    assert faulty.reader.record("kind", "a") == Record("a", b"2", replaced.version)
    assert refused == RecordMoved(None)


def test_a_record_whose_commit_failed_is_not_told_as_written(faulty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    first = faulty.one(PutRecord("kind", "a", b"1", NO_RECORD))
    assert isinstance(first, RecordStored)
    for write in (PutRecord("kind", "a", b"2", first.version), PutRecord("kind", "a", None, first.version)):
        fail(monkeypatch, "before", "COMMIT", sqlite3.SQLITE_IOERR)
        with pytest.raises(StorageUnavailable):
            faulty.one(write)
        assert faulty.reader.record("kind", "a") == Record("a", b"1", first.version)


def test_an_unclear_commit_is_not_acknowledged_before_it_is_synced(
    faulty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = faulty.open("a")

    def hook(statement: str, parameters: Any) -> None:
        if "INSERT INTO livesync_7_events" in statement or "wal_checkpoint" in statement:
            raise error(sqlite3.SQLITE_IOERR_FSYNC)

    monkeypatch.setattr(Watched, "after", hook)
    with pytest.raises(StorageUnavailable):
        faulty.commit(append("a", a, run_of(1)))
    monkeypatch.undo()
    assert faulty.open("a").head == 1  # the caller reads the state again, as the contract says


def test_when_the_outcome_cannot_be_read_nothing_is_acknowledged(
    faulty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = faulty.open("a")
    fail(monkeypatch, "before", "", sqlite3.SQLITE_IOERR, times=1_000)
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            faulty.commit(append("a", a, run_of(1)))
        with pytest.raises(StorageUnavailable):
            faulty.writer.clear_replaced(10)
    monkeypatch.undo()
    assert faulty.append("a", a, run_of(1)).head == 1


def test_damage_that_one_write_meets_refuses_that_store_only(faulty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, c = faulty.open("a"), faulty.open("b"), faulty.open("c")

    def hook(statement: str, parameters: Any) -> None:
        if "INSERT INTO livesync_7_events" in statement and any('"b"' in str(value) for value in parameters):
            raise error(sqlite3.SQLITE_CORRUPT, "database disk image is malformed")

    monkeypatch.setattr(Watched, "before", hook)
    runs = (("a", a), ("b", b), ("c", c))
    first, second, third = faulty.commit(*(append(s, state, run_of(2, args=b'"%b"' % s.encode())) for s, state in runs))
    assert isinstance(first, Appended)
    assert isinstance(second, StoreDamaged)
    assert isinstance(third, Appended)


def test_a_fault_of_ours_is_not_called_unavailable(faulty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    a = faulty.open("a")
    fail(monkeypatch, "before", "", sqlite3.SQLITE_ERROR, times=9)
    with pytest.raises(sqlite3.OperationalError):
        faulty.commit(append("a", a, run_of(1)))
    with pytest.raises(sqlite3.OperationalError):
        faulty.state("a")


def test_a_reader_that_fails_reads_again_later(faulty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    state = faulty.filled("a", run_of(3))
    fail(monkeypatch, "before", "group_concat", sqlite3.SQLITE_IOERR_READ)
    with pytest.raises(StorageUnavailable):
        faulty.read(state)
    assert faulty.read(state) == stored([run_of(3)])


def test_every_message_names_the_file_and_what_to_do() -> None:
    full = translated(error(sqlite3.SQLITE_FULL), Path("/srv/live.db"))
    assert isinstance(full, StorageFull)
    assert str(full) == "There is no room left for /srv/live.db: free some space; nothing was lost."
    assert isinstance(translated(error(sqlite3.SQLITE_CORRUPT_INDEX), Path("x")), StoreDamaged)
    assert translated(sqlite3.ProgrammingError("ours"), Path("x")) is None


# --- real trouble ------------------------------------------------------------------------------------------------


def test_a_full_disk_refuses_and_takes_nothing_with_it(sqlite: Database) -> None:
    state = sqlite.filled("s", run_of(3))
    connection = sqlite.writer._connection  # type: ignore[attr-defined]
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StorageFull, match="no room left"):
        sqlite.commit(append("s", state, run_of(500, after=3, args=b'"%b"' % (b"x" * 1_000))))
    assert sqlite.open("s") == state
    assert sqlite.numbers(sqlite.append("s", state, chain(4, after=3))) == [1, 2, 3, 4]


@contextmanager
def _no_file_grows_beyond(size_bytes: int) -> Iterator[None]:
    """The kernel refuses to write beyond a size, in this process: a disk that fails in the middle of a transaction."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_disk_that_fails_in_the_middle_refuses_and_takes_nothing_with_it(sqlite: Database, tmp_path: Path) -> None:
    state = sqlite.filled("s", run_of(3))
    wal_bytes = (tmp_path / "live.db-wal").stat().st_size
    batch = run_of(300, after=3, args=b'"%b"' % (b"x" * 1_000))
    with _no_file_grows_beyond(wal_bytes + 50_000):
        for _ in range(3):
            with pytest.raises(StorageUnavailable):
                sqlite.commit(append("s", state, batch))
        assert sqlite.read(state) == stored([run_of(3)])
    assert sqlite.read(sqlite.append("s", state, batch)) == stored([run_of(3), batch])
    sqlite.restart()
    assert sqlite.open("s").head == 303


def test_reading_goes_on_while_the_disk_takes_nothing(sqlite: Database) -> None:
    """Without a connection that stays, a reader would be the first and need room for a new index of the WAL."""
    state = sqlite.filled("s", run_of(3))
    with _no_file_grows_beyond(1):
        with pytest.raises(StorageUnavailable):
            sqlite.commit(append("s", state, chain(4, after=3)))
        assert sqlite.read(state) == stored([run_of(3)])


def test_another_program_that_holds_the_write_lock_makes_it_unavailable(
    sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livesync_trio.storage.sqlite.connection.SQLITE_BUSY_TIMEOUT_MS", 20)
    state = sqlite.filled("s", run_of(1))
    sqlite.restart()
    with closing(sqlite3.connect(tmp_path / "live.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailable, match="locked"):
            sqlite.commit(append("s", state, chain(2, after=1)))
        assert sqlite.read(state) == stored([run_of(1)])  # reading goes on
        other.execute("ROLLBACK")
    assert sqlite.append("s", state, chain(2, after=1)).head == 2


def test_a_reader_of_another_program_holds_nobody_up(sqlite: Database, tmp_path: Path) -> None:
    state = sqlite.filled("s", run_of(1))
    with closing(sqlite3.connect(tmp_path / "live.db", isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM livesync_7_events").fetchone()
        for number in range(2, 50):
            state = sqlite.append("s", state, chain(number, after=number - 1))
        sqlite.restart()
    assert sqlite.open("s") == state


@pytest.fixture
def pass_a_second(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets as much time pass as the writer may go without a look at its file."""
    passed_s = 0.0

    def wait() -> None:
        nonlocal passed_s
        passed_s += SQLITE_FILE_CHECK_S

    monotonic = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + passed_s)
    return wait


def test_a_file_that_was_moved_away_gets_no_more_events(
    sqlite: Database, tmp_path: Path, pass_a_second: Callable[[], None]
) -> None:
    state = sqlite.filled("s", run_of(1))
    pass_a_second()
    path, away = tmp_path / "live.db", tmp_path / "away.db"
    path.rename(away)
    with pytest.raises(StorageUnavailable, match=r"live\.db has vanished"):
        sqlite.commit(append("s", state, chain(2, after=1)))
    path.write_bytes(away.read_bytes())
    with pytest.raises(StorageUnavailable, match=r"live\.db was replaced while in use: restart"):
        sqlite.commit(append("s", state, chain(2, after=1)))
    with pytest.raises(StorageUnavailable, match="replaced"):
        sqlite.writer.clear_replaced(1)
    with pytest.raises(StorageUnavailable, match="replaced"):
        sqlite.engine.reader().state(StoreId("s"))
    away.rename(path)
    state = sqlite.open("s")  # what was under way when it vanished may be in the file: its outcome was not known
    assert state.head in {1, 2}
    assert sqlite.append("s", state, chain(3, after=state.head)).head == 3
