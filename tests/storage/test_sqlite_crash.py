"""What is left of an SQLite database whose process was killed at any moment."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest

from livesync_trio.errors import Kind, StartupError
from livesync_trio.storage.sqlite.engine import SqliteEngine
from tests.storage.making import Database, run_of

ROOT = Path(__file__).parents[2]
STORES = 5


def start(database: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.storage.committing", str(database), str(STORES)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )


def kill(process: "subprocess.Popen[bytes]", after_s: float) -> list[list[str]]:
    """Let it work, kill it, and give what it was told is durable."""
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    return [line.split() for line in (first + rest).decode().splitlines()]


def check(database: Path, acknowledged: dict[str, tuple[int, int, str]]) -> None:
    """Every acknowledged event is there, and every log is whole."""
    db = Database(lambda: SqliteEngine(database))
    try:
        for i in range(STORES):
            state = db.open(f"s{i}")  # StoreDamaged, were it not whole
            log_id, head, backend_id = acknowledged.get(f"s{i}", (0, 0, ""))
            assert state.log_id >= log_id
            if state.log_id == log_id:
                assert state.backend_id == backend_id
                assert state.head >= head
            numbers = db.numbers(state, limit_events=1_000_000, limit_bytes=10**9)
            assert numbers == list(range(1, state.head + 1))
            db.append(f"s{i}", state, run_of(1, after=state.head))
    finally:
        db.stop()


def test_after_kill_9_at_any_moment_all_that_was_acknowledged_is_there(tmp_path: Path) -> None:
    database = tmp_path / "live.db"
    for _ in range(5):
        acknowledged: dict[str, tuple[int, int, str]] = {}
        for store, log_id, head, backend_id in kill(start(database), random.uniform(0, 0.25)):
            acknowledged[store] = int(log_id), int(head), backend_id
        assert acknowledged
        check(database, acknowledged)


def test_kill_9_while_the_database_is_made_leaves_a_usable_one(tmp_path: Path) -> None:
    for i in range(6):
        process = start(tmp_path / f"{i % 2}.db")
        deadline = time.monotonic() + 5
        while not (tmp_path / f"{i % 2}.db").exists() and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(random.uniform(0, 0.01))
        process.kill()
        process.communicate()
        check(tmp_path / f"{i % 2}.db", {})


def test_a_second_process_is_refused_and_told_who_has_the_file(tmp_path: Path) -> None:
    database = tmp_path / "live.db"
    process = start(database)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StartupError, match=rf"live\.db is in use .*\(process {process.pid}\)") as refused:
            SqliteEngine(database).open()
        assert refused.value.kind is Kind.DATABASE_IN_USE
    finally:
        process.kill()
        process.communicate()
    engine = SqliteEngine(database)
    engine.open()  # the lock went with the process
    engine.close()


def test_a_torn_write_at_the_end_of_the_wal_takes_nothing_with_it(tmp_path: Path) -> None:
    """As after a power cut in the middle of a write: the last transaction is not whole, hence never was."""
    database = tmp_path / "live.db"
    kill(start(database), 0.05)
    wal = database.with_name("live.db-wal")
    os.truncate(wal, wal.stat().st_size - 700)
    check(database, {})


def test_what_a_crash_left_in_the_wal_is_synced_before_it_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between write and fsync: the events are there, and from now on they count as durable."""
    database = tmp_path / "live.db"
    kill(start(database), 0.05)
    synced: list[int] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    wal = database.with_name("live.db-wal").stat().st_ino
    check(database, {})
    assert wal in synced


def test_an_acknowledged_event_is_in_the_file_without_any_closing(sqlite: Database, tmp_path: Path) -> None:
    """A copy of the files at this moment, as a power cut would leave them."""
    state = sqlite.filled("s", run_of(50))
    copy = tmp_path / "copy.db"
    for suffix in ("", "-wal"):
        copy.with_name(copy.name + suffix).write_bytes((tmp_path / f"live.db{suffix}").read_bytes())
    other = Database(lambda: SqliteEngine(copy))
    assert other.open("s") == attrs.evolve(state)
    assert len(other.read(state)) == 50
    other.stop()
