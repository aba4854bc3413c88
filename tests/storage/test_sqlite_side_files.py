"""The WAL and its index are taken away, replaced, cut off, or tidied up by others while the server runs."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from livesync_trio.errors import StorageUnavailable
from livesync_trio.model import LogState
from livesync_trio.storage.base import Append
from livesync_trio.storage.sqlite.engine import SqliteEngine
from livesync_trio.storage.sqlite.side_files import holds_more_than
from tests.storage.making import Database, append, chain, run_of, stored
from tests.storage.test_sqlite_crash import check, kill, start
from tests.storage.test_sqlite_file import made, unusable


def wal_of(tmp_path: Path) -> Path:
    return tmp_path / "live.db-wal"


def next_of(state: LogState) -> Append:
    return append("s", state, chain(state.head + 1, after=state.head))


def as_after_kill_9(tmp_path: Path) -> Database:
    """A server on a copy of the files as they are now."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in tmp_path.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
    return Database(lambda: SqliteEngine(copy / "live.db"))


def numbers_after_kill_9(tmp_path: Path) -> list[int]:
    database = as_after_kill_9(tmp_path)
    numbers = database.numbers(database.open("s"))
    database.stop()
    return numbers


def another_program(path: Path, statement: str = "SELECT count(*) FROM livesync_7_events") -> None:
    """Opens the database, asks, and closes it: SQLite removes the WAL then, unless it knows of other users."""
    script = f"import sqlite3; c = sqlite3.connect({str(path)!r}); c.execute({statement!r}); c.commit(); c.close()"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


# --- removed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("removed", [["live.db-wal"], ["live.db-shm"], ["live.db-wal", "live.db-shm"]])
def test_what_is_acknowledged_after_a_removal_is_found_next_time(
    sqlite: Database, tmp_path: Path, removed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livesync_trio.storage.sqlite.writer.SQLITE_FILE_CHECK_S", -1)
    state = sqlite.filled("s", run_of(3))
    inodes = {name: (tmp_path / name).stat().st_ino for name in removed}
    for name in removed:
        (tmp_path / name).unlink()
    state = sqlite.append("s", state, chain(4, after=3))
    assert {name: (tmp_path / name).stat().st_ino for name in removed} == inodes
    assert numbers_after_kill_9(tmp_path) == [1, 2, 3, 4]
    sqlite.restart()
    assert sqlite.open("s") == state


def test_while_nobody_pushes_it_is_put_back_as_well(
    sqlite: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sqlite.filled("s", run_of(3))
    wal_of(tmp_path).unlink()
    sqlite.writer.clear_replaced(1)
    sqlite.writer.clear_replaced(1)
    assert numbers_after_kill_9(tmp_path) == [1, 2, 3]
    assert [record.getMessage() for record in caplog.records] == [
        f"{wal_of(tmp_path)} was removed while in use. It has been put back, and nothing was lost."
    ]


def test_a_reader_that_opens_while_it_is_gone_reads_the_right_one(sqlite: Database, tmp_path: Path) -> None:
    state = sqlite.filled("s", run_of(3))
    wal_of(tmp_path).unlink()
    reader = sqlite.engine.reader()
    assert reader.read(state, 0, 3, 10, 10_000) == stored([run_of(3)])
    reader.close()


def test_what_another_program_made_in_its_place_gives_way(sqlite: Database, tmp_path: Path) -> None:
    state = sqlite.filled("s", run_of(3))
    wal_of(tmp_path).unlink()
    with pytest.raises(subprocess.CalledProcessError):  # it cannot read what is not there
        another_program(tmp_path / "live.db")
    assert wal_of(tmp_path).stat().st_size == 0
    sqlite.one(next_of(state))
    assert numbers_after_kill_9(tmp_path) == [1, 2, 3, 4]


def test_moved_away_is_put_back(sqlite: Database, tmp_path: Path) -> None:
    state = sqlite.filled("s", run_of(3))
    wal_of(tmp_path).rename(tmp_path / "elsewhere")
    sqlite.one(next_of(state))
    assert numbers_after_kill_9(tmp_path) == [1, 2, 3, 4]


def test_where_it_cannot_be_put_back_all_goes_into_the_database_and_nothing_more_is_acknowledged(
    sqlite: Database, tmp_path: Path
) -> None:
    state = sqlite.filled("s", run_of(3))
    (tmp_path / ".live.db-wal").unlink()  # or the file system knows no links
    wal_of(tmp_path).unlink()
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match=r"-wal was removed.*is in the database file: restart the server"):
            sqlite.commit(next_of(state))
        with pytest.raises(StorageUnavailable, match="restart the server"):
            sqlite.writer.clear_replaced(1)
        with pytest.raises(StorageUnavailable, match="was removed"):
            sqlite.engine.reader().state(state.backend_id)  # type: ignore[arg-type]  # whatever it asks
    assert numbers_after_kill_9(tmp_path)[:3] == [1, 2, 3]
    sqlite.restart()
    assert sqlite.numbers(sqlite.open("s"))[:3] == [1, 2, 3]


def test_a_file_system_without_links_serves_and_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    database = Database(lambda: SqliteEngine(tmp_path / "live.db"))
    state = database.filled("s", run_of(3))
    wal_of(tmp_path).unlink()
    with pytest.raises(StorageUnavailable, match="restart the server"):
        database.commit(next_of(state))
    assert numbers_after_kill_9(tmp_path)[:3] == [1, 2, 3]
    database.stop()


def test_a_long_reader_delays_the_rescue_and_it_is_tried_again(sqlite: Database, tmp_path: Path) -> None:
    state = sqlite.filled("s", run_of(1))
    snapshot = sqlite.engine.snapshot()
    snapshot.state(state.backend_id)  # type: ignore[arg-type]  # begins it
    state = sqlite.append("s", state, chain(2, after=1))
    (tmp_path / ".live.db-wal").unlink()
    wal_of(tmp_path).unlink()
    with pytest.raises(StorageUnavailable, match="is not in the database file yet"):
        sqlite.commit(next_of(state))
    snapshot.close()
    with pytest.raises(StorageUnavailable, match="is in the database file: restart"):
        sqlite.writer.clear_replaced(1)


# --- killed before anybody noticed -------------------------------------------------------------------------------


def acknowledged_by(lines: list[list[str]]) -> dict[str, tuple[int, int, str]]:
    return {store: (int(log_id), int(head), backend_id) for store, log_id, head, backend_id in lines}


def test_removed_under_load_and_killed_in_the_same_moment(tmp_path: Path) -> None:
    """Nothing acknowledged is missing, or the next start refuses and says where it is."""
    database, refused = tmp_path / "live.db", 0
    for _ in range(4):
        process = start(database)
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        wal_of(tmp_path).unlink()
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().decode().splitlines()
        process.communicate()
        if holds_more_than(tmp_path / ".live.db-wal", database):
            with unusable(r"\.live\.db-wal is the same file and holds what was acknowledged last"):
                SqliteEngine(database).open()
            refused += 1
            (tmp_path / ".live.db-wal").rename(wal_of(tmp_path))
        check(database, acknowledged_by([line.split() for line in lines]))
    assert refused


def test_removed_again_and_again_under_load_and_then_killed(tmp_path: Path) -> None:
    database = tmp_path / "live.db"
    process = start(database)
    assert process.stdout is not None
    lines = [process.stdout.readline().decode().split()]
    for _ in range(20):
        wal_of(tmp_path).unlink(missing_ok=True)
        lines.append(process.stdout.readline().decode().split())
    while not wal_of(tmp_path).exists():
        lines.append(process.stdout.readline().decode().split())
    lines += kill(process, 0)
    check(database, acknowledged_by(lines))


def test_a_spare_name_that_outlived_its_wal_is_taken_away(tmp_path: Path) -> None:
    """Killed, and then another program opened the database: it moved everything into it and removed the WAL."""
    database = tmp_path / "live.db"
    lines = kill(start(database), 0.05)
    assert (tmp_path / ".live.db-wal").samefile(wal_of(tmp_path))
    another_program(database)
    assert not wal_of(tmp_path).exists()
    check(database, acknowledged_by(lines))
    assert not (tmp_path / ".live.db-wal").exists()


def test_what_is_ambiguous_is_left_to_the_operator(tmp_path: Path) -> None:
    database = tmp_path / "live.db"
    kill(start(database), 0.05)
    another_program(database)
    another_program(database, "UPDATE livesync_7_stores SET text_bytes = text_bytes + 1")
    with unusable(r"live\.db-wal was removed or replaced.*Rename that to live\.db-wal; only if.*delete it"):
        SqliteEngine(database).open()
    (tmp_path / ".live.db-wal").unlink()
    check(database, {})


def test_a_copy_of_the_whole_directory_can_be_served(tmp_path: Path) -> None:
    lines = kill(start(tmp_path / "live.db"), 0.05)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in tmp_path.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
    check(copy / "live.db", acknowledged_by(lines))


def test_whoever_removes_the_database_begins_anew(tmp_path: Path) -> None:
    kill(start(tmp_path / "live.db"), 0.05)
    for path in tmp_path.glob("live.db*"):  # the hidden name stays
        path.unlink()
    made(tmp_path / "live.db")
    assert {path.name for path in tmp_path.iterdir()} == {"live.db", "live.db.lock"}


# --- tidied up by others -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("touched", ["live.db", "live.db-wal", "live.db-shm"])
def test_a_stray_close_and_another_program_take_nothing_away(sqlite: Database, tmp_path: Path, touched: str) -> None:
    """A hook that reads the file drops SQLite's own locks; whoever closes the database then thinks it is the last."""
    state = sqlite.filled("s", run_of(3))
    inode = wal_of(tmp_path).stat().st_ino
    for _ in range(2):
        (tmp_path / touched).read_bytes()
        another_program(tmp_path / "live.db")
        assert wal_of(tmp_path).stat().st_ino == inode
        state = sqlite.append("s", state, chain(state.head + 1, after=state.head))
    assert numbers_after_kill_9(tmp_path) == [1, 2, 3, 4, 5]


def test_closing_still_tidies_up(tmp_path: Path) -> None:
    made(tmp_path / "live.db")
    assert {path.name for path in tmp_path.iterdir()} == {"live.db", "live.db.lock"}


# --- not what was written ----------------------------------------------------------------------------------------


def test_a_wal_that_was_cut_off_is_never_moved_into_the_database(sqlite: Database, tmp_path: Path) -> None:
    state = sqlite.filled("s", run_of(3))
    sqlite.restart()  # all of it is in the database now
    state = sqlite.append("s", state, run_of(50, after=3))
    os.truncate(wal_of(tmp_path), 0)
    with pytest.raises(StorageUnavailable, match="overwritten or cut off"):
        sqlite.commit(append("s", state, chain(54, after=53)))
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match="overwritten or cut off"):
            sqlite.commit(append("s", state, chain(54, after=53)))
    sqlite.restart()
    assert sqlite.numbers(sqlite.open("s")) == [1, 2, 3]


def test_a_wal_that_another_program_writes_in_is_not_touched(sqlite: Database, tmp_path: Path) -> None:
    state = sqlite.filled("s", run_of(3))
    wal_of(tmp_path).unlink()
    wal_of(tmp_path).write_bytes(b"somebody else's")
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match="replaced while in use"):
            sqlite.commit(next_of(state))
    sqlite.stop()
    assert wal_of(tmp_path).read_bytes() == b"somebody else's"
    wal_of(tmp_path).unlink()
    sqlite.start()


def test_an_index_that_is_cut_off_ends_the_process_and_loses_nothing(tmp_path: Path) -> None:
    """It is mapped memory: the kernel sends SIGBUS, or SQLite reports an error, as the moment has it."""
    process = start(tmp_path / "live.db")
    assert process.stdout is not None
    process.stdout.readline()
    os.truncate(tmp_path / "live.db-shm", 0)
    lines = process.stdout.read().decode().splitlines()
    process.communicate()
    assert process.returncode
    check(tmp_path / "live.db", acknowledged_by([line.split() for line in lines]))
