"""The server under test: by default our own, as a real process; by environment any other.

* nothing set: ``python -m livesync_trio serve`` of this checkout, started, stopped and killed by the tests;
* ``LIVESYNC_CONFORMANCE_URL``: a server that runs already; what needs a restart, hooks or a token is skipped;
* ``LIVESYNC_CONFORMANCE_COMMAND``: a command with ``{port}`` and ``{directory}`` in it that runs another server in the
  foreground (the reference server, say); what needs our hooks or token is skipped.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
URL_VARIABLE = "LIVESYNC_CONFORMANCE_URL"
COMMAND_VARIABLE = "LIVESYNC_CONFORMANCE_COMMAND"

START_DEADLINE_S = 120.0
STOP_DEADLINE_S = 60.0

# What would reach the server from the developer's own environment.
_PLAIN_NAMES = ("HOST", "PORT", "DATABASE_URL", "AUTH_TOKEN", "ADMIN_SECRET", "LOG_LEVEL", "LOG_FORMAT")
_PREFIX = "LIVESYNC_"


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on right now.

    Below those that the kernel gives to outgoing connections (from 32,768 on): one of them might take it any moment.
    """
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a hundred ports in a row are taken")


def _status(port: int, path: str) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class RunningServer:
    """A server somebody else started: it has a URL and that is all."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.name = f"server {self.url}"

    def stop_if_ours(self) -> None:
        """Nothing to stop."""

    def log_tail(self) -> str:
        """Nothing to show."""
        return "(a running server: its log is not here)"


class ServerProcess(RunningServer):
    """A server process on a port and a database of its own, both kept across restarts."""

    def __init__(self, directory: Path, database_url: str, settings: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        super().__init__(f"http://127.0.0.1:{self.port}")
        self._directory = directory
        self._log = directory / "server.log"
        other = os.environ.get(COMMAND_VARIABLE)
        if other is None:
            self._ready_path = "/health"
            serve = [sys.executable, "-m", "livesync_trio", "serve", "--host", "127.0.0.1"]
            self._command = [*serve, "--port", str(self.port), "--database-url", database_url]
        else:
            self._ready_path = "/"
            self._command = shlex.split(other.format(port=self.port, directory=directory))
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if name not in _PLAIN_NAMES and not name.startswith(_PREFIX)
        }
        search_path = [str(REPOSITORY), self._environment.get("PYTHONPATH", "")]
        self._environment["PYTHONPATH"] = os.pathsep.join(filter(None, search_path))
        self._environment.update(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and return when it answers; raises with its log when it does not."""
        assert self._process is None, "already running"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_DEADLINE_S
        while _status(self.port, self._ready_path) != 200:
            if self._process.poll() is not None or time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                self._process.wait()
                self._process = None
                raise RuntimeError(f"the server did not start: {shlex.join(self._command)}\n{self.log_tail()}")
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None, "not running"
        return self._process.pid

    def stop(self) -> int:
        """Ask it to stop (SIGTERM); returns its exit code."""
        return self.end(signal.SIGTERM)

    def kill(self) -> int:
        """Take it away without warning (SIGKILL)."""
        return self.end(signal.SIGKILL)

    def tell(self, what: signal.Signals) -> None:
        """Send it a signal that does not end it."""
        assert self._process is not None, "not running"
        self._process.send_signal(what)

    def end(self, how: signal.Signals) -> int:
        """Send it a signal and wait for its end; returns its exit code."""
        assert self._process is not None, "not running"
        process, self._process = self._process, None
        process.send_signal(how)
        try:
            return process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"not ended {STOP_DEADLINE_S} s after {how.name}\n{self.log_tail()}") from None

    def stop_if_ours(self) -> None:
        """Stop it if it still runs."""
        if self._process is not None:
            exit_code = self.stop()
            assert exit_code == 0, f"ended with {exit_code}\n{self.log_tail()}"

    def log_tail(self, lines: int = 120) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])
