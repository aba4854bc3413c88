"""One database under two names: links, mounts, other containers. It is served under one of them, or not at all."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from livesync_trio.errors import Kind, StartupError
from livesync_trio.storage.sqlite import mounts
from livesync_trio.storage.sqlite.engine import SqliteEngine
from tests.storage.making import Database, chain, run_of
from tests.storage.test_sqlite_crash import start
from tests.storage.test_sqlite_file import made, unusable

ROOT = Path(__file__).parents[2]

_OPEN = """
import sys
from livesync_trio.errors import LivesyncError
from livesync_trio.storage.sqlite.engine import SqliteEngine
engine = SqliteEngine(sys.argv[1])
try:
    getattr(engine, sys.argv[2])()
except LivesyncError as error:
    print(error.kind, error)
else:
    engine.close()
"""

Mounted = Callable[[str, Path, str], str]


@pytest.fixture
def mounted() -> Mounted:
    """Opens a database in a mount name space of its own, after a command there; what the engine said."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        reason = "MOUNTS NOT TRIED: this user may not make a mount name space (root may)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)

    def opened(command: str, path: Path, how: str = "open") -> str:
        script = f'set -e; {command}; exec "$0" -c "$1" "$2" "$3"'
        line = ["unshare", "--mount", "sh", "-c", script, sys.executable, _OPEN, str(path), how]
        return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    return opened


# --- hard links --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["live.db", "two.db"])
@pytest.mark.parametrize("how", ["open", "open_to_read"])
def test_a_file_with_two_names_is_refused_under_both(tmp_path: Path, name: str, how: str) -> None:
    made(tmp_path / "live.db")
    (tmp_path / "two.db").hardlink_to(tmp_path / "live.db")
    with unusable(r"2 names \(hard links\).*-samefile .*-wal file is.*livesync backup"):
        getattr(SqliteEngine(tmp_path / name), how)()
    (tmp_path / "two.db").unlink()
    engine = SqliteEngine(tmp_path / "live.db")
    engine.open()
    engine.close()


def test_a_name_made_later_leads_to_no_second_server(sqlite: Database, tmp_path: Path) -> None:
    state = sqlite.filled("s", run_of(1))
    (tmp_path / "two.db").hardlink_to(tmp_path / "live.db")
    assert sqlite.append("s", state, chain(2, after=1)).head == 2  # nobody who makes one can stop the server
    (tmp_path / "live.db").rename(tmp_path / "three.db")
    (tmp_path / "three.db").unlink()
    with pytest.raises(StartupError, match="in use by another livesync server, which knows it by another name") as told:
        SqliteEngine(tmp_path / "two.db").open()
    assert told.value.kind is Kind.DATABASE_IN_USE


def test_a_lock_travels_with_the_file_to_other_processes(tmp_path: Path) -> None:
    process = start(tmp_path / "live.db")
    try:
        assert process.stdout is not None
        process.stdout.readline()
        (tmp_path / "live.db").rename(tmp_path / "moved.db")
        with pytest.raises(StartupError, match="another name"):
            SqliteEngine(tmp_path / "moved.db").open()
    finally:
        process.kill()
        process.communicate()


def test_a_lock_file_that_was_removed_lets_nobody_in(sqlite: Database, tmp_path: Path) -> None:
    (tmp_path / "live.db.lock").unlink()
    for _ in range(2):
        with pytest.raises(StartupError, match=r"in use .* or whose \.lock file was removed"):
            SqliteEngine(tmp_path / "live.db").open()
    assert (tmp_path / ".live.db-wal").exists()  # who was refused has taken nothing away
    sqlite.filled("s", run_of(1))


# --- mounts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["open", "open_to_read"])
def test_a_file_that_is_mounted_alone_is_refused(tmp_path: Path, mounted: Mounted, how: str) -> None:
    """`docker run -v ./live.db:/data/livesync.db`: WAL and lock would lie in the container's own layer."""
    path, container = made(tmp_path / "live.db"), tmp_path / "data of container"
    container.mkdir()
    (container / "livesync.db").touch()
    told = mounted(f"mount --bind '{path}' '{container}/livesync.db'", container / "livesync.db", how)
    assert told.startswith("database-unusable")
    assert "mounted as a single file" in told
    assert "mount the directory" in told
    assert {file.name for file in container.iterdir()} == {"livesync.db"}  # nothing was made beside it


def test_a_file_that_is_mounted_over_itself_is_refused(tmp_path: Path, mounted: Mounted) -> None:
    path = made(tmp_path / "live.db")
    assert "mounted as a single file" in mounted(f"mount --bind {path} {path}", path, "open")


def test_a_directory_mounted_elsewhere_is_the_same_database(tmp_path: Path, mounted: Mounted) -> None:
    made(tmp_path / "live.db")
    other = tmp_path / "other"
    other.mkdir()
    command = f"mount --bind {tmp_path} {other}"
    assert mounted(command, other / "live.db", "open") == ""
    database = Database(lambda: SqliteEngine(tmp_path / "live.db"))
    told = mounted(command, other / "live.db", "open")
    database.stop()
    assert told.startswith("database-in-use")
    assert f"process {os.getpid()}" in told


def test_a_directory_of_its_own_file_system_is_the_right_volume(tmp_path: Path, mounted: Mounted) -> None:
    assert mounted(f"mount -t tmpfs none {tmp_path}", tmp_path / "live.db", "open") == ""


def test_mounts_are_read_as_the_kernel_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(
        b"22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n"
        b"30 22 0:40 / /srv/my\\040data rw - tmpfs none rw\n"
        b"31 22 0:41 / /srv/my\\040data rw - 9p host rw\n"
    )
    monkeypatch.setattr(mounts, "_MOUNTS", table)
    assert mounts.mount_of(Path("/srv/my data/live.db")) == mounts.Mount(Path("/srv/my data"), "9p")
    assert mounts.mount_of(Path("/srv/my/live.db")) == mounts.Mount(Path("/"), "ext4")
    table.unlink()
    assert mounts.mount_of(Path("/srv")) is None
    assert not mounts.is_mounted_alone(Path(__file__))
