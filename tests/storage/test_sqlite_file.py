"""What the SQLite engine demands of its file, and how it says what is wrong with it."""

import errno
import fcntl
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from livesync_trio.errors import Kind, StartupError, StorageUnavailable
from livesync_trio.limits import PERSISTENCE_FORMAT_VERSION
from livesync_trio.storage.sqlite import schema as sqlite_schema
from livesync_trio.storage.sqlite.engine import SqliteEngine
from tests.storage.making import Database, run_of
from tests.storage.watched import Watched, error

ROOT = Path(__file__).parents[2]
NOBODY = 65534
DESCRIPTORS = Path("/proc/self/fd")


@contextmanager
def unusable(reason: str) -> Iterator[None]:
    with pytest.raises(StartupError, match=reason) as refused:
        yield
    assert refused.value.kind is Kind.DATABASE_UNUSABLE
    message = str(refused.value)
    assert message.endswith(".")
    assert "\n" not in message


def raw(path: Path) -> "closing[sqlite3.Connection]":
    """The database as an operator would open it."""
    return closing(sqlite3.connect(path, isolation_level=None))


def made(path: Path) -> Path:
    """A database with a store in it, closed."""
    database = Database(lambda: SqliteEngine(path))
    database.filled("s", run_of(3))
    database.stop()
    return path


def test_the_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        database = Database(lambda: SqliteEngine(tmp_path / "live.db"))
        database.filled("s", run_of(1))
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        database.stop()
    finally:
        os.umask(old)
    names = ["live.db", "live.db-shm", "live.db-wal", "live.db.lock", ".live.db-shm", ".live.db-wal"]
    assert modes == dict.fromkeys(names, 0o600)


def test_closing_leaves_one_file_and_the_lock(tmp_path: Path) -> None:
    made(tmp_path / "live.db")
    assert {path.name for path in tmp_path.iterdir()} == {"live.db", "live.db.lock"}


def test_it_runs_durably(sqlite: Database, tmp_path: Path) -> None:
    sqlite.open("s")
    connection = sqlite.writer._connection  # type: ignore[attr-defined]
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA fullfsync").fetchone() == (1,)


def test_all_tables_carry_the_format(sqlite: Database, tmp_path: Path) -> None:
    with raw(tmp_path / "live.db") as connection:
        names = {
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite%'")
            if name != "livesync_migrations"
        }
    assert names == sqlite_schema.REQUIRED
    assert all(name.startswith(f"livesync_{PERSISTENCE_FORMAT_VERSION}_") for name in names)


def test_an_operator_can_query_events_as_json(sqlite: Database, tmp_path: Path) -> None:
    sqlite.filled("s", run_of(2, args=b'{"title":"milk"}'))
    with raw(tmp_path / "live.db") as connection:
        query = "SELECT json_extract(event, '$.args.title'), typeof(event) FROM livesync_7_events"
        assert connection.execute(query).fetchall() == [("milk", "text")] * 2


# --- one process -------------------------------------------------------------------------------------------------


def test_a_second_engine_in_the_same_process_is_refused(sqlite: Database, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="in use") as refused:
        SqliteEngine(tmp_path / "live.db").open()
    assert refused.value.kind is Kind.DATABASE_IN_USE
    sqlite.filled("s", run_of(1))  # and the first one goes on


def test_who_comes_while_the_first_one_stops_is_told_to_wait(sqlite: Database, tmp_path: Path) -> None:
    sqlite.engine.stopping()
    successor = SqliteEngine(tmp_path / "live.db")
    with pytest.raises(StorageUnavailable, match=rf"process {os.getpid()} still finishes its work"):
        successor.open()
    sqlite.stop()
    successor.open()
    with pytest.raises(StartupError, match="in use"):  # it does not stop, so nobody waits for it
        SqliteEngine(tmp_path / "live.db").open()
    successor.close()


def test_another_name_of_the_same_file_is_refused(sqlite: Database, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "live.db")
    with pytest.raises(StartupError, match="in use"):
        SqliteEngine(tmp_path / "link.db").open()


def test_a_refused_engine_leaves_sqlites_own_locks_alone(sqlite: Database, tmp_path: Path) -> None:
    """Closing any descriptor of the database would drop the POSIX locks that SQLite holds in this process."""
    writer = sqlite.writer._connection  # type: ignore[attr-defined]
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(StartupError):
        SqliteEngine(tmp_path / "live.db").open()
    script = f"""
import sqlite3
connection = sqlite3.connect({str(tmp_path / "live.db")!r}, isolation_level=None, timeout=0)
try:
    connection.execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    writer.execute("ROLLBACK")
    assert told == "database is locked\n"


def test_a_lock_file_left_behind_means_nothing(tmp_path: Path) -> None:
    (tmp_path / "live.db.lock").write_text("1\n")
    made(tmp_path / "live.db")
    (tmp_path / "live.db.lock").write_text("1\n")
    engine = SqliteEngine(tmp_path / "live.db")
    engine.open()
    engine.close()


def test_a_closed_engine_lets_the_next_one_in(sqlite: Database, tmp_path: Path) -> None:
    for _ in range(3):
        sqlite.restart()


def test_a_failed_start_lets_the_next_one_in(tmp_path: Path) -> None:
    path = tmp_path / "live.db"
    path.write_bytes(b"not a database" * 100)
    for _ in range(2):
        with unusable("not an SQLite database"):
            SqliteEngine(path).open()
    path.unlink()
    made(path)


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="counts with Linux's /proc")
def test_engines_leave_no_descriptors(tmp_path: Path) -> None:
    made(tmp_path / "live.db")
    before = len(list(DESCRIPTORS.iterdir()))
    for _ in range(3):
        made_again = Database(lambda: SqliteEngine(tmp_path / "live.db"))
        made_again.read(made_again.open("s"))
        made_again.stop()
    (tmp_path / "bad.db").write_bytes(b"?" * 5_000)
    with pytest.raises(StartupError):
        SqliteEngine(tmp_path / "bad.db").open()
    assert len(list(DESCRIPTORS.iterdir())) == before


# --- files that cannot be used -----------------------------------------------------------------------------------


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with unusable("it is a directory"):
        SqliteEngine(tmp_path).open()


def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with unusable(re.escape(str(tmp_path / "missing" / "live.db")) + ".*directory does not exist"):
        SqliteEngine(tmp_path / "missing" / "live.db").open()


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + b"\xff" * 5_000, b"# notes\n" * 1_000, b"x"])
def test_a_file_that_is_not_a_database_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "live.db"
    path.write_bytes(content)
    with unusable("not an SQLite database|damaged"):
        SqliteEngine(path).open()
    assert path.read_bytes() == content


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    (tmp_path / "live.db").touch()
    made(tmp_path / "live.db")


def test_a_database_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "live.db"
    with raw(path) as connection:
        connection.execute("CREATE TABLE eventlog_7_app (seqNum INTEGER)")
    with unusable("another program"):
        SqliteEngine(path).open()
    with raw(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("eventlog_7_app",)]


def test_a_wal_without_its_database_is_not_thrown_away(tmp_path: Path) -> None:
    """SQLite deletes the WAL of an empty database: what was acknowledged last would be gone for good."""
    path, wal = tmp_path / "live.db", tmp_path / "live.db-wal"
    wal.write_bytes(b"acknowledged events")
    for exists in (False, True):
        if exists:
            path.touch()
        with unusable(r"missing or empty, but live\.db-wal is there"):
            SqliteEngine(path).open()
        assert wal.read_bytes() == b"acknowledged events"


def test_a_truncated_database_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "live.db")
    os.truncate(path, 4_096 + 100)
    with unusable("damaged|not an SQLite database"):
        Database(lambda: SqliteEngine(path))


def as_nobody(prepare: Callable[[Path], object]) -> str:
    """Open a database that was prepared in a directory, as a user without rights; what the engine said."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o777)
        path = made(directory / "live.db")
        prepare(directory)
        script = f"""
import os, sys
from livesync_trio.errors import StartupError
from livesync_trio.storage.sqlite.engine import SqliteEngine
if os.geteuid() == 0:
    os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})
try:
    SqliteEngine({str(path)!r}).open()
except StartupError as error:
    print(error.kind, error)
"""
        return subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout


def test_a_file_that_may_not_be_read_is_refused() -> None:
    def prepare(directory: Path) -> None:
        for path in directory.glob("live.db*"):
            path.chmod(0o000)

    told = as_nobody(prepare)
    assert told.startswith("database-unusable")
    assert "Permission denied" in told


def test_a_file_that_may_not_be_written_is_refused() -> None:
    def prepare(directory: Path) -> None:
        (directory / "live.db").chmod(0o444)
        (directory / "live.db.lock").chmod(0o666)

    told = as_nobody(prepare)
    assert told.startswith("database-unusable")
    assert "Permission denied: the server must be able to read and write it" in told


def test_a_directory_that_may_not_be_written_is_refused() -> None:
    def prepare(directory: Path) -> None:
        (directory / "live.db").chmod(0o666)
        (directory / "live.db.lock").unlink()
        directory.chmod(0o555)

    told = as_nobody(prepare)
    assert told.startswith("database-unusable")
    assert "live.db.lock cannot be written" in told


def test_a_sqlite_that_is_too_old_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 33, 0))
    with unusable("use one with 3.34.0 or newer"):
        SqliteEngine(tmp_path / "live.db").open()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            sqlite3.SQLITE_IOERR_SHMMAP,
            r"its file system \(\w+ at /.*\) cannot share memory.*keep the database on a local",
        ),
        (sqlite3.SQLITE_IOERR_SHMOPEN, "cannot share memory"),
        (sqlite3.SQLITE_IOERR_LOCK, r"its file system \(.*\) failed \(disk I/O error, SQLITE_IOERR_LOCK\).*local disk"),
    ],
)
def test_a_file_system_that_cannot_do_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, reason: str
) -> None:
    """Folders shared with a virtual machine, network file systems: SQLite itself says "disk I/O error" only."""

    def hook(statement: str, _: object) -> None:
        if "journal_mode" in statement:
            failure = error(code, "disk I/O error")
            failure.sqlite_errorname = next(name for name in dir(sqlite3) if getattr(sqlite3, name) == code)
            raise failure

    monkeypatch.setattr(Watched, "before", hook)
    with unusable(reason):
        SqliteEngine(tmp_path / "live.db", Watched).open()


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "fcntl", no_locks)
    with unusable(r"its file system \(.*\) has no locks \(No locks available\): keep the database on a local disk"):
        SqliteEngine(tmp_path / "live.db").open()


def test_a_kernel_without_locks_of_open_files_serves_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", unknown)
    made(tmp_path / "live.db")
