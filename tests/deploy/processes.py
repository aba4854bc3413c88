"""A server started from whatever is under test: a binary, a platform's command, a container's entry point."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

START_LIMIT_S = 120.0
STOP_LIMIT_S = 60.0


def answers(port: int, path: str, **headers: str) -> bytes | None:
    """The body of a GET that is answered with 200; None while it is not."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        return body if response.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def health(port: int) -> dict[str, Any] | None:
    """What `/health` says when all is well."""
    body = answers(port, "/health")
    return None if body is None else dict(json.loads(body))


class Served:
    """A running server and its log."""

    def __init__(
        self,
        command: Sequence[str | Path],
        port: int,
        directory: Path,
        environment: Mapping[str, str],
        *,
        wait: bool = True,
        **how: Any,
    ) -> None:
        """Start `command` in `directory` with no variables but `environment`; `wait` until `/health` says yes.

        `how` is passed on to `Popen` (user, group). Raises RuntimeError, with the log, when it ends or takes too long.
        """
        self._command = [str(part) for part in command]
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log = directory / "server.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=directory,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **how,
            )
        if wait:
            self.becomes_ready()

    def becomes_ready(self) -> None:
        """Wait until `/health` says yes. Raises RuntimeError, with the log, when it ends or takes too long."""
        deadline = time.monotonic() + START_LIMIT_S
        while health(self.port) is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"did not start: {shlex.join(self._command)}\n{self.log.read_text()}")
            time.sleep(0.05)

    def stop(self) -> int:
        """Ask it to stop as service managers do; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_LIMIT_S)

    def kill(self) -> None:
        """End it and everything it started, at once; does nothing when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
