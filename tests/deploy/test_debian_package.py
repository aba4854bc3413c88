"""The Debian package: what is in it, and what installing, upgrading and purging it leaves, by the real dpkg.

It is made here from a stand-in for the executable, which `scripts/release` builds and test_binary.py tests.
"""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")


def run(*command: str | Path) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def package(folder: Path, version: str) -> Path:
    folder.mkdir(exist_ok=True)
    executable = folder / "livesync"
    executable.write_text(f"#!/bin/sh\necho livesync {version}\n")
    run(ROOT / "deploy/debian/build", executable, version, folder)
    (made,) = folder.glob("*.deb")
    return made


class Machine:
    """A folder that dpkg takes for a machine; scripts of packages run in it by `DPKG_ROOT`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("info", "updates", "triggers"):
            (root / "var/lib/dpkg" / name).mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()

    def dpkg(self, *arguments: str | Path) -> None:
        options = ("--force-script-chrootless", "--force-depends", "--force-not-root", "--force-confold")
        run("dpkg", f"--root={self.root}", *options, *arguments)

    def read(self, name: str) -> str:
        return (self.root / name).read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def test_what_is_in_it(tmp_path: Path) -> None:
    made = package(tmp_path / "made", "1.2.0.dev3")
    listed = [line.split() for line in run("dpkg-deb", "--contents", made).splitlines()]
    files = {line[5].removeprefix("."): line[0] for line in listed if not line[0].startswith("d")}
    assert {line[1] for line in listed} == {"root/root"}
    assert files["/usr/bin/livesync"] == "-rwxr-xr-x"
    assert set(files) == {
        "/usr/bin/livesync",
        *(f"/usr/lib/systemd/system/livesync{name}" for name in (".service", "-backup.service", "-backup.timer")),
        "/etc/livesync/livesync.toml",
        "/etc/logrotate.d/livesync",
        "/usr/share/doc/livesync/copyright",
        "/usr/share/doc/livesync/changelog.md",
    }
    assert run("dpkg-deb", "--field", made, "Version").strip() == "1.2.0~dev3"  # sorts before 1.2.0
    run("dpkg-deb", "--extract", made, tmp_path / "out")
    for unit in (tmp_path / "out/usr/lib/systemd/system").iterdir():
        assert "/usr/local" not in unit.read_text()
    assert "ExecStart=/usr/bin/livesync serve" in (tmp_path / "out/usr/lib/systemd/system/livesync.service").read_text()


def test_secrets_are_made_once_and_settings_stay_through_an_upgrade(machine: Machine, tmp_path: Path) -> None:
    machine.dpkg("--install", package(tmp_path / "old", "1.0.0"))
    assert run(machine.root / "usr/bin/livesync") == "livesync 1.0.0\n"
    secrets = [machine.root / "etc/livesync" / name for name in ("auth-token", "admin-secret")]
    before = [path.read_text() for path in secrets]
    assert [len(text) for text in before] == [64, 64]
    assert before[0] != before[1]
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}
    (machine.root / "etc/livesync/livesync.toml").write_text("port = 8001\n")

    machine.dpkg("--install", package(tmp_path / "new", "1.1.0"))
    assert run(machine.root / "usr/bin/livesync") == "livesync 1.1.0\n"
    assert [path.read_text() for path in secrets] == before
    assert machine.read("etc/livesync/livesync.toml") == "port = 8001\n"


def test_purging_takes_the_secrets_and_leaves_the_data(machine: Machine, tmp_path: Path) -> None:
    machine.dpkg("--install", package(tmp_path / "made", "1.0.0"))
    data = machine.root / "var/lib/livesync/livesync.db"
    data.parent.mkdir(parents=True)
    data.write_text("everything")
    machine.dpkg("--remove", "livesync")
    assert (machine.root / "etc/livesync/auth-token").exists()
    machine.dpkg("--purge", "livesync")
    assert not (machine.root / "etc/livesync").exists()
    assert data.read_text() == "everything"
    assert not (machine.root / "usr/bin").exists()
