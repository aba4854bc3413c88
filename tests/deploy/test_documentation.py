"""docs/deployment.md: its commands are carried out, with the machine's own folders replaced by scratch ones."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from livesync_trio.errors import RULES, Kind
from tests.deploy.caddy import CADDYFILE
from tests.deploy.test_systemd import SETTINGS_FILE, UNIT, Unit

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "deployment.md").read_text()
STUB = '#!/bin/sh\necho "$(basename "$0") $*" >> "$CALLS"\n'


def blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """The server after the commands: what they copied, and in `calls` what they asked of the system's programs."""
    for folder in ("etc/systemd/system", "etc/caddy", "usr/local/bin", "stubs", "here"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("apt-get", "systemctl"):
        (tmp_path / "stubs" / name).write_text(STUB)
        (tmp_path / "stubs" / name).chmod(0o755)
    shutil.copy(UNIT, tmp_path / "here")
    shutil.copy(SETTINGS_FILE, tmp_path / "here")
    shutil.copy(CADDYFILE, tmp_path / "here")
    (tmp_path / "here" / "livesync").write_text("#!/bin/sh\n")
    (commands,) = [block for block in blocks() if "install -m 0755 livesync" in block]
    commands = re.sub(r"(?<=[ ])/(etc|usr)/", rf"{tmp_path}/\1/", commands)
    environment = {"PATH": f"{tmp_path / 'stubs'}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}
    subprocess.run(["sh", "-eu", "-c", commands], cwd=tmp_path / "here", env=environment, check=True)
    return tmp_path


def test_the_commands_for_a_machine_of_ones_own_set_everything_up(server: Path) -> None:
    unit = Unit()
    assert (server / "etc/systemd/system/livesync.service").read_text() == UNIT.read_text()
    program = shlex.split(unit["Service"]["ExecStart"])[0]
    assert os.access(server / program.lstrip("/"), os.X_OK)
    secrets = [server / credential.partition(":")[2].lstrip("/") for credential in unit.all("LoadCredential")]
    assert len({secret.read_text() for secret in secrets}) == 2
    for secret in secrets:
        assert re.fullmatch("[0-9a-f]{64}", secret.read_text())
        assert secret.stat().st_mode & 0o777 == 0o600
    assert (server / "etc/livesync/livesync.toml").read_text() == SETTINGS_FILE.read_text()
    calls = (server / "calls").read_text().splitlines()
    assert calls.index("systemctl daemon-reload") < calls.index("systemctl enable --now livesync")
    assert calls[-1] == "systemctl restart caddy"
    assert "apt-get install --yes caddy" in calls


def test_caddy_gets_the_site_and_the_servers(server: Path) -> None:
    caddy = shutil.which("caddy")
    if caddy is None:
        pytest.skip("caddy is not installed here")
    drop_in = (server / "etc/systemd/system/caddy.service.d/livesync.conf").read_text()
    section, line = drop_in.splitlines()
    assert section == "[Service]"
    variables = dict(word.split("=", 1) for word in line.removeprefix("Environment=").split())
    command = [caddy, "adapt", "--adapter", "caddyfile", "--config", str(server / "etc/caddy/Caddyfile")]
    adapted = subprocess.run(
        command, env={"PATH": os.environ["PATH"], **variables}, check=True, capture_output=True, text=True
    )
    assert '"host":["sync.example.org"]' in adapted.stdout
    assert '"dial":"127.0.0.1:8000"' in adapted.stdout
    assert '"listen":[":443"]' in adapted.stdout  # with TLS
    assert "Caddyfile input is not formatted" not in adapted.stderr


def test_files_and_scripts_named_in_commands_exist() -> None:
    named = set(re.findall(r"(?<![\w/.-])((?:scripts|deploy)/[\w.-]+)", "".join(blocks())))
    assert named >= {"scripts/build-binary", "deploy/make-secrets", "deploy/livesync.service", "deploy/Caddyfile"}
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_exit_codes_are_those_of_the_table() -> None:
    (row,) = re.findall(r"^\| exit code \| (.*?) \|$", PAGE, re.MULTILINE)
    codes = [int(code) for code in re.findall(r"(?:^|, )(\d)", row)]
    kinds = (Kind.BAD_CONFIG, Kind.DATABASE_IN_USE, Kind.DATABASE_UNUSABLE, Kind.CANNOT_LISTEN)
    assert codes == [0, *(RULES[kind].exit_code for kind in kinds)]
