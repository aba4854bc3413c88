"""`livesync serve` as a process of its own, with the real server behind it."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from livesync_trio.config import CONFIG_ENV, SETTINGS
from livesync_trio.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 90

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `livesync serve` in an empty directory, without settings of the developer's own."""
    ours = {CONFIG_ENV, *(env for setting in SETTINGS for env in (setting.env, setting.file_env))}
    environment = {name: value for name, value in os.environ.items() if name not in ours} | {"PYTHONPATH": str(ROOT)}
    with ExitStack() as stack:

        def run(*flags: str, port: int = 0) -> "subprocess.Popen[str]":
            command = [sys.executable, "-m", "livesync_trio", "serve", "--port", str(port), *flags]
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield run


def banner_of(process: "subprocess.Popen[str]") -> str:
    """Wait until the server says that it is ready; what it said."""
    assert process.stdout is not None
    assert process.stderr is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "in the app" in line:
            return "".join(lines)
    raise AssertionError(process.stderr.read())


def url_in(banner: str) -> str:
    found = re.search(r"listening on (\S+)", banner)
    assert found
    return found[1]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_told_to_stop(start: Start, tmp_path: Path, how: signal.Signals) -> None:
    server = start()
    banner = banner_of(server)
    with urllib.request.urlopen(f"{url_in(banner)}/health", timeout=LIMIT_S) as answer:
        health = json.load(answer)
    assert health["status"] == "ok"
    assert health["version"] == VERSION
    server.send_signal(how)
    _, error = server.communicate(timeout=LIMIT_S)
    assert server.returncode == 0
    assert str(tmp_path / "livesync.db") in banner
    assert "anyone on this machine" in banner
    assert "makeWsSync" in banner
    assert "Traceback" not in error


def test_a_second_process_on_the_same_file_refuses(start: Start) -> None:
    banner_of(start())
    second = start()
    _, error = second.communicate(timeout=LIMIT_S)
    assert second.returncode == 3
    assert len(error.splitlines()) == 1
    assert error.startswith("livesync: ")


def test_a_taken_port_is_told_in_a_line(start: Start) -> None:
    port = int(url_in(banner_of(start())).rpartition(":")[2])
    second = start("--database-url", "sqlite:///other.db", port=port)
    _, error = second.communicate(timeout=LIMIT_S)
    assert second.returncode == 5
    assert len(error.splitlines()) == 1
    assert str(port) in error


def test_a_database_that_is_none_is_told_in_a_line(start: Start, tmp_path: Path) -> None:
    (tmp_path / "livesync.db").write_text("this is not a database " * 100)
    server = start()
    _, error = server.communicate(timeout=LIMIT_S)
    assert server.returncode == 4
    assert "Traceback" not in error
    assert len(error.splitlines()) == 1
