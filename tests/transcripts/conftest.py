"""One server process for all transcripts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from .peers import Target

ADMIN_SECRET = "test-admin-secret"
START_S = 20.0
STOP_S = 15.0


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The server under test: a real process on a fresh database, or the one that LIVESYNC_REPLAY_URL names."""
    url = os.environ.get("LIVESYNC_REPLAY_URL")
    if url:
        yield Target(url)
        return
    directory = tmp_path_factory.mktemp("replay")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log_path = directory / "server.log"
    command = [sys.executable, "-m", "livesync_trio", "serve", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--database-url", f"sqlite:///{directory / 'replay.db'}"]
    hooks = str(Path(__file__).with_name("hooks.py"))
    environment = {**os.environ, "LIVESYNC_HOOKS": hooks, "ADMIN_SECRET": ADMIN_SECRET, "LOG_LEVEL": "info"}
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
    log_text = log_path.read_text("utf-8", "replace")
    assert process.returncode == 0, f"the server ended with {process.returncode}:\n{log_text[-4000:]}"
    assert "Traceback" not in log_text, f"the server met something it did not expect:\n{log_text[-8000:]}"


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log_path: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=1).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    pytest.fail(f"the server did not come up:\n{log_path.read_text('utf-8', 'replace')[-4000:]}")
