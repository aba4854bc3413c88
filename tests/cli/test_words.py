"""What is said to an operator at a bad moment: which slip it was, and what helps. No numbers of errors."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from livesync_trio.errors import StartupError
from livesync_trio.listening import check_name
from livesync_trio.storage.sqlite.locks import FileLock
from livesync_trio.transport import own_pages
from tests.cli.conftest import Livesync

ROOT = Path(__file__).parents[2]


def test_a_mistyped_host_is_no_matter_of_exposure(livesync: Livesync) -> None:
    told = livesync("serve", "--host", "no-such-host.invalid")
    assert told.returncode == 5
    assert "No address has this name" in told.stderr
    assert "would let anyone" not in told.stderr


def test_a_name_that_stands_for_an_address_is_no_slip() -> None:
    check_name("localhost", "localhost")


def test_a_control_plane_that_is_not_there_is_told_without_numbers(livesync: Livesync) -> None:
    told = livesync("stores", "--url", "http://127.0.0.1:1", ADMIN_SECRET="secret")
    assert told.stderr == "livesync: http://127.0.0.1:1 cannot be asked: Connection refused.\n"


def test_a_database_that_stays_away_is_told_in_whole_sentences(livesync: Livesync) -> None:
    told = livesync("serve", "--database-url", "postgresql://127.0.0.1:1/none", "--database-wait-s", "0.01")
    assert told.returncode == 4
    assert told.stderr.endswith("TCP/IP connections. Gave up after 0.01 s.\n")


@pytest.mark.parametrize(
    ("owner", "words"), [(12345, "belongs to user 12345"), (os.geteuid(), "its mode")], ids=["another", "own"]
)
def test_a_lock_file_that_cannot_be_opened_says_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, words: str
) -> None:
    database = tmp_path / "a.db"
    lock = tmp_path / "a.db.lock"
    lock.touch()

    def refused(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    found = os.stat_result((stat.S_IFREG | 0o600, 1, 1, 1, owner, owner, 0, 0, 0, 0))
    monkeypatch.setattr(os, "open", refused)
    monkeypatch.setattr(Path, "stat", lambda *_, **__: found)
    with pytest.raises(StartupError, match=words) as caught:
        FileLock(database).take()
    assert str(lock) in str(caught.value)


def test_a_python_that_is_named_and_too_old_is_told_and_no_other_taken(tmp_path: Path) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "venv").write_text((ROOT / "scripts" / "venv").read_text())
    for name in ("runtime", "backend"):
        (tmp_path / f"requirements-{name}.txt").touch()
    told = subprocess.run(
        ["bash", str(scripts / "venv"), "runtime"],
        env={"PATH": os.environ["PATH"], "PYTHON": "/bin/false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode != 0
    assert "PYTHON=/bin/false" in told.stderr
    assert "is no Python 3.11 or newer" in told.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_page_at_the_root_asks_for_no_icon() -> None:
    assert b'<link rel="icon" href="data:,">' in own_pages.page({}, well=True, tls=False)
    assert "img-src data:" in own_pages.POLICY
