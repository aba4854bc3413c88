"""One server process for all transcripts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.conformance.servers import free_port

from .peers import Target

ADMIN_SECRET = "test-admin-secret"
START_S = 120.0
STOP_S = 60.0
LOG = pytest.StashKey[Path]()
LOG_LINES = 15


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Target]:
    """The server under test: a real process on a fresh database, or the one that LIVESYNC_REPLAY_URL names."""
    url = os.environ.get("LIVESYNC_REPLAY_URL")
    if url:
        yield Target(url)
        return
    directory = tmp_path_factory.mktemp("replay")
    port = free_port()
    log_path = directory / "server.log"
    pytestconfig.stash[LOG] = log_path
    command = [sys.executable, "-m", "livesync_trio", "serve", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--database-url", f"sqlite:///{directory / 'replay.db'}"]
    hooks = str(Path(__file__).with_name("hooks.py"))
    environment = {
        **os.environ,
        "LIVESYNC_HOOKS": hooks,
        "ADMIN_SECRET": ADMIN_SECRET,
        "LOG_LEVEL": "info",
        "LOG_FORMAT": "json",
    }
    with log_path.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, env=environment) as process:
        try:
            _wait_until_healthy(process, f"http://127.0.0.1:{port}", log_path)
            yield Target(f"http://127.0.0.1:{port}")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
    log_lines = log_path.read_text("utf-8", "replace").splitlines()
    assert process.returncode == 0, f"the server ended with {process.returncode}: {log_lines[-10:]}"
    errors = [line for line in log_lines if re.search(r'"level": ?"(error|critical)"', line)]
    assert not errors, f"the server met {len(errors)} things it did not expect, the first: {errors[0]}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the server logged last."""
    report = yield
    log_path = item.config.stash.get(LOG, None)
    if report.failed and log_path is not None:
        lines = log_path.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
        report.sections.append(("the server's log", "\n".join(lines)))
    return report


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log_path: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=1).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    pytest.fail(f"the server did not come up:\n{log_path.read_text('utf-8', 'replace')[-4000:]}")
