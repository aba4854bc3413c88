"""The server, and a watch on its event loop: for how long are others kept waiting by what it does?

Run as a program with the arguments of `livesync`. On SIGUSR1 it writes what it saw into the file named by
LIVESYNC_TEST_WATCH, and begins anew. Time is the loop's own processor time, so that what else the machine does is not
counted.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
from pathlib import Path
from unittest import mock

import trio

from livesync_trio.cli.main import main

WATCH_VARIABLE = "LIVESYNC_TEST_WATCH"


class LoopWatch(trio.abc.Instrument):
    """Times every step of every task, and every turn: from one look at the sockets to the next.

    Whoever sends something while a turn is under way is not seen before its end.
    """

    def __init__(self) -> None:
        self._began_s = self._turn_s = 0.0
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget what was seen."""
        self._since_s = time.monotonic()
        self._turns_s: list[float] = []
        self._longest: tuple[float, str] = (0.0, "")

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began_s = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        took_s = time.thread_time() - self._began_s
        self._turn_s += took_s
        if took_s > self._longest[0]:
            self._longest = (took_s, task.name)

    def before_io_wait(self, timeout: float) -> None:
        if self._turn_s:
            self._turns_s.append(self._turn_s)
            self._turn_s = 0.0

    def seen(self) -> dict[str, object]:
        """What was seen.

        `turn_p99_s` is the length of turn that 99 of 100 messages, arriving at any moment of the time, do not meet:
        long turns count for their length, times without anything to do count as well.
        """
        left_s = (time.monotonic() - self._since_s) / 100
        turn_p99_s = 0.0
        for turn_s in sorted(self._turns_s, reverse=True):
            left_s -= turn_s
            if left_s < 0:
                turn_p99_s = turn_s
                break
        return {"longest_step_s": self._longest[0], "longest_task": self._longest[1], "turn_p99_s": turn_p99_s}


def run() -> int:
    """Run the command line with the watch in its loop."""
    watch = LoopWatch()
    file = Path(os.environ.pop(WATCH_VARIABLE))

    def write(*_: object) -> None:
        new = file.with_suffix(".new")
        new.write_text(json.dumps(watch.seen()))
        new.rename(file)
        watch.begin_anew()

    signal.signal(signal.SIGUSR1, write)
    with mock.patch.object(trio, "run", functools.partial(trio.run, instruments=[watch])):
        return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run())
