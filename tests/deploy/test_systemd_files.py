"""The service in a file system as its unit makes it: what it may write, what it sees of /proc, whom files belong to."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from livesync_trio.cli.main import main
from livesync_trio.config import load
from tests.conformance.clients import Generation
from tests.conformance.conftest import MakeClient
from tests.conformance.events import chain
from tests.conformance.servers import free_port
from tests.deploy.conftest import Serve
from tests.deploy.processes import answers
from tests.deploy.test_systemd import LIVESYNC, ROOT, SETTINGS_FILE, TOKEN, UNIT, Unit, configured, hand_over
from tests.telemetry.promql import PROCESS_SERIES

DEPLOY = UNIT.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), *sorted(DEPLOY.glob("livesync*"))]

WRITTEN = re.compile(r"""(?:audit_log\s*=\s*"|AUDIT_LOG=|sqlite:///)(/[^\s"'`*?]+)""")
"""Settings that name a file which the server writes."""

ELSEWHERE = {
    "/absolute/path.db": "the form of a URL",
    "/path/on/a/disk/that/stays/livesync.db": "a platform",
}


@pytest.fixture
def unit() -> Unit:
    return Unit()


def confined(unit: Unit, *command: str) -> list[str]:
    """A command in a mount namespace as the unit describes it: `ProtectSystem=strict`, its folders, its /proc."""
    assert "strict" in unit.all("ProtectSystem")
    subset = "".join(f",subset={value}" for value in unit.all("ProcSubset"))
    steps = [
        "mount --make-rprivate /",
        "mount -t tmpfs none /var/lib",
        "mount -t tmpfs none /var/log",
        f"mkdir -p {shlex.join(unit.writable())}",
        *(f"mount --bind {path} {path}" for path in unit.writable()),
        *(f"mount -o remount,bind,ro {path}" for path in ("/var/lib", "/var/log", "/")),
        f"mount -t proc -o hidepid=invisible{subset} none /proc",
        f"exec {shlex.join(command)}",
    ]
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", "\n".join(steps)]


def needs_namespaces() -> None:
    probe = ["unshare", "--mount", "--pid", "--fork", "mount", "-t", "proc", "none", "/proc"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("mount namespaces cannot be made here: this asks for root")


def written() -> set[str]:
    """Every file that the documentation or a shipped file lets the server write."""
    return {path for page in DOCUMENTS for path in WRITTEN.findall(page.read_text(encoding="utf-8"))}


def test_every_file_that_the_documentation_names_may_be_written_by_the_service(unit: Unit) -> None:
    named = written()
    assert named >= {"/var/log/livesync/audit.jsonl", "/var/lib/livesync/livesync.db", *ELSEWHERE}
    outside = {path for path in named if not path.startswith(tuple(f"{folder}/" for folder in unit.writable()))}
    assert outside == set(ELSEWHERE)


def test_it_writes_and_is_seen_in_a_file_system_as_the_unit_makes_it(
    unit: Unit, serve: Serve, make_client: MakeClient, store_id: str, tmp_path: Path
) -> None:
    needs_namespaces()
    hand_over(unit, tmp_path / "credentials")
    port = free_port()
    (audit,) = (path for path in written() if path.endswith("audit.jsonl"))
    etc = configured(tmp_path, more=f'\naudit_log = "{audit}"\nport = {port}\nadmin_port = {free_port()}\n')
    environment = {
        **unit.environment(Path("/var/lib"), tmp_path / "credentials"),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "LIVESYNC_METRICS_TOKEN": TOKEN,
    }
    server = serve(confined(unit, *unit.command(etc)), port, tmp_path, environment)
    make_client(Generation.V04_WS, server.url, store_id, payload={"authToken": TOKEN}).push(chain(1, 1))
    scraped = answers(port, "/metrics", Authorization=f"Bearer {TOKEN}")
    assert scraped is not None
    names = set(re.findall(r"^(\w+)[ {]", scraped.decode(), re.MULTILINE))
    assert names >= PROCESS_SERIES
    (inside,) = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    assert '"act":"connect"' in Path(f"/proc/{inside}/root{audit}").read_text()
    assert Path(f"/proc/{inside}/root/var/lib/livesync/livesync.db").stat().st_size > 0


def test_a_file_system_without_the_folder_for_logs_is_noticed(unit: Unit, tmp_path: Path) -> None:
    """What the test above would see if the unit did not have it."""
    needs_namespaces()
    unit.service = [(key, value) for key, value in unit.service if key != "LogsDirectory"]
    command = confined(unit, "touch", "/var/log/livesync/audit.jsonl")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


# --- settings and secrets that service and commands share ------------------------------------------------------------


def test_service_and_commands_read_one_file_and_the_same_secrets(unit: Unit, tmp_path: Path) -> None:
    etc = configured(tmp_path)
    for name in ("auth-token", "admin-secret"):
        (etc / name).write_text(f"{name} of root\n")
    text = (etc / "livesync.toml").read_text().replace("/etc/livesync", str(etc))
    (etc / "livesync.toml").write_text(text)
    commands = load({"config": str(etc / "livesync.toml")}, {})
    hand_over(unit, tmp_path / "credentials")
    service = load({"config": str(etc / "livesync.toml")}, unit.environment(Path("/var/lib"), tmp_path / "credentials"))
    assert commands.auth_token is not None
    assert commands.auth_token.reveal() == "auth-token of root"
    assert service.auth_token is not None
    assert service.auth_token.reveal() == TOKEN
    assert (service.database_url, service.log_format) == (commands.database_url, commands.log_format)
    assert f'"{SETTINGS_FILE.name}"' not in text


def test_what_root_restores_belongs_to_the_service_when_it_starts(unit: Unit, serve: Serve, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("files of other users are made by root only")
    owner = 61_234
    state = tmp_path / "lib"
    (state / "livesync").mkdir(parents=True)
    os.chown(state / "livesync", owner, owner)
    database = f"sqlite:///{state}/livesync/livesync.db"
    source, backup = f"sqlite:///{tmp_path}/source.db", str(tmp_path / "backup.jsonl")
    (tmp_path / "log.jsonl").write_text("")
    port = free_port()
    serve([*LIVESYNC, "serve"], port, tmp_path, {"PYTHONPATH": str(ROOT), "PORT": str(port), "DATABASE_URL": source})
    assert main(["backup", backup, "--database-url", source]) == 0
    assert main(["restore", backup, "--database-url", database]) == 0
    assert {path.stat().st_uid for path in (state / "livesync").iterdir()} == {0}
    (before,) = unit.all("ExecStartPre")
    assert before.startswith("+"), "outside the sandbox, as root"
    subprocess.run(shlex.split(before.removeprefix("+").replace("%S", str(state))), check=True)
    assert {path.stat().st_uid for path in (state / "livesync").iterdir()} == {owner}


# --- backups and logs ------------------------------------------------------------------------------------------------


def test_systemd_understands_the_backup() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed here")
    files = [str(DEPLOY / name) for name in ("livesync-backup.service", "livesync-backup.timer")]
    run = subprocess.run(["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_the_backup_runs_as_the_service_and_keeps_what_is_new(tmp_path: Path) -> None:
    unit = configparser.RawConfigParser(strict=False, interpolation=None, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((DEPLOY / "livesync-backup.service").read_text())
    service = unit["Service"]
    assert (service["DynamicUser"], service["User"]) == ("yes", "livesync")
    assert service["StateDirectory"].split() == ["livesync", "livesync/backups"]
    (tmp_path / "backups").mkdir()
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "livesync"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m livesync_trio "$@"\n')
    program.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": f"sqlite:///{tmp_path}/livesync.db",
    }
    shell, flags, script = shlex.split(service["ExecStart"].replace("%%", "%").replace("$$", "$"))
    old, young = tmp_path / "backups" / "old.jsonl", tmp_path / "backups" / "young.jsonl"
    for path in (old, young):
        path.write_text("")
    os.utime(old, (0, 0))

    def run() -> int:
        return subprocess.run(
            [shell, flags, script], cwd=tmp_path, env=environment, capture_output=True, check=False
        ).returncode

    assert run() != 0  # there is no database: nothing is removed
    assert old.exists()
    shutil.copy(_database(tmp_path), tmp_path / "livesync.db")
    assert run() == 0
    names = sorted(path.name for path in (tmp_path / "backups").iterdir())
    assert len(names) == 2
    assert re.fullmatch(r"\d{8}T\d{6}Z\.jsonl", names[0])
    assert names[1] == "young.jsonl"


def _database(folder: Path) -> Path:
    """An SQLite file that a server has left."""
    from livesync_trio.app import engines
    from livesync_trio.config import Config

    engine = engines.engine_of(Config(database_url=f"sqlite:///{folder}/made.db"))
    engine.open()
    engine.close()
    return folder / "made.db"


def test_logs_are_rotated_where_they_are_written() -> None:
    text = (DEPLOY / "livesync.logrotate").read_text()
    (path,) = re.findall(r"^(/\S+) \{$", text, re.MULTILINE)
    assert path in written()
    assert "systemctl reload livesync" in text
