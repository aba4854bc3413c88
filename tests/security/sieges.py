"""Processes for a siege: the watched server on one core, the healthy client and the attacker on another.

What the healthy client then waits for is the server, not the attacker's share of a core they would have in common.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.conformance.servers import REPOSITORY, ServerProcess

from .watched_server import WATCH_VARIABLE

DEADLINE_S = 90.0


class Window(NamedTuple):
    """A stretch of time on the monotonic clock."""

    began_s: float
    ended_s: float

    def holds(self, moment_s: float) -> bool:
        return self.began_s <= moment_s <= self.ended_s


class Seen(NamedTuple):
    """What `watched_server` saw."""

    longest_step_s: float
    longest_task: str
    turn_p99_s: float


@contextmanager
def on_core(number: int) -> Iterator[None]:
    """Start processes on one core; the second core is the first where there is only one."""
    ours = os.sched_getaffinity(0)
    cores = sorted(ours)
    os.sched_setaffinity(0, {cores[min(number, len(cores) - 1)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


class WatchedServer(ServerProcess):
    """A server process that tells how long its loop was blocked."""

    def __init__(self, directory: Path, settings: dict[str, str]) -> None:
        self._watch_file = directory / "watch"
        super().__init__(directory, f"sqlite:///{directory}/livesync.db", settings)
        self._command[self._command.index("livesync_trio")] = "tests.security.watched_server"
        self._environment[WATCH_VARIABLE] = str(self._watch_file)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def seen(self) -> Seen:
        """What the watch on its loop saw since this was asked last."""
        self._watch_file.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR1)
        deadline_s = time.monotonic() + DEADLINE_S
        while not self._watch_file.exists():
            assert time.monotonic() < deadline_s, "the server does not react to signals"
            time.sleep(0.01)
        return Seen(**json.loads(self._watch_file.read_text()))


class Helper:
    """A process of this folder that says when it is ready, and ends when its input does."""

    def __init__(self, module: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.security.{module}", *map(str, arguments)],
            cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._ready()

    def _ready(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", "ended by itself"

    def tell(self, line: str) -> None:
        """Give it a line, and wait until it is ready for the next."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        self._ready()

    def end(self) -> None:
        """End it, which must be in order."""
        self._process.communicate(timeout=DEADLINE_S)
        assert self._process.returncode == 0


class Measured:
    """What the healthy client has measured so far."""

    def __init__(self, file: Path) -> None:
        lines = [line.split() for line in file.read_text().splitlines()]
        self._times = [(kind, float(at_s), float(took_s)) for kind, at_s, took_s in lines]

    def p99_s(self, kind: str, window: Window) -> float:
        """The 99th percentile of what was asked within a window.

        Args:
            kind: `ping` or `push`.
            window: when it was asked.
        """
        found = sorted(took_s for was, at_s, took_s in self._times if was == kind and window.holds(at_s))
        assert found, "the healthy client was not answered at all"
        return found[int(len(found) * 0.99)]
