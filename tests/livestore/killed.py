"""Processes that are killed with -9 when they begin their n-th SQL statement, while a store does something.

They are forked from one process (`python -m tests.livestore.killed`) that has imported everything already.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import apsw

from livesync_trio.livestore.datafile import DataFile
from livesync_trio.livestore.events import LogEvent
from livesync_trio.livestore.replica import Replica
from livesync_trio.livestore.tables import Tables, no_progress

from . import notebook

ROOT = Path(__file__).resolve().parents[2]
END_LIMIT_S = 30.0
BACKEND = "identity"


def news(after: int, count: int) -> list[LogEvent]:
    """What others have committed behind a number."""
    return [
        LogEvent(number, number - 1, "v1.NoteWritten", f'{{"title":"theirs {number}"}}', "other", "static")
        for number in range(after + 1, after + count + 1)
    ]


def _commit(replica: Replica) -> None:
    replica.commit([notebook.NoteWritten("new"), notebook.NoteStarred("new"), notebook.AllDropped()])


def _pull(replica: Replica) -> None:
    """The first pending event comes back, the others are rebased."""
    [first] = replica.pending_events(1)
    replica.receive([first, *news(first.seq_num, 3)], BACKEND)


def _acknowledge(replica: Replica) -> None:
    replica.acknowledge(replica.pending_events(2), replica.rebases)


def _start_over(replica: Replica) -> None:
    replica.start_over(no_progress)


def _rebuild(replica: Replica) -> None:
    replica.open_tables(no_progress, rebuild=True)


def _nothing(_: Replica) -> None:
    """Opening is all."""


ACTS: dict[str, Callable[[Replica], None]] = {
    "commit": _commit,
    "pull and rebase": _pull,
    "acknowledge": _acknowledge,
    "start over": _start_over,
    "rebuild": _rebuild,
    "make": _nothing,
}


def make(path: Path) -> None:
    """A store with confirmed events, and pending ones with effects of every kind."""
    with DataFile(path, "store", "me", "process") as file:
        replica = open_replica(file)
        replica.receive(news(0, 3), BACKEND)
        replica.commit([notebook.NoteWritten("mine"), notebook.NoteTagged("mine", "x")])
        replica.commit([notebook.NoteDropped("theirs 2"), notebook.SettingSet("k", 1)])


def open_replica(file: DataFile) -> Replica:
    schema = notebook.make_schema()
    replica = Replica(file, schema, Tables(file, schema, "fail"))
    replica.open_tables(no_progress, rebuild=False)
    return replica


class Killer:
    """Starts processes that die; a context."""

    def __enter__(self) -> Killer:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.livestore.killed"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._parent.communicate(timeout=END_LIMIT_S)

    def killed_at(self, number: int, act: str, path: Path) -> bool:
        """Do it in a process that dies at its `number`-th statement. False: it has fewer, and was done to its end."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(f"{number}\t{act}\t{path}\n")
        self._parent.stdin.flush()
        ended = self._parent.stdout.readline().strip()
        if ended not in ("0", f"-{signal.SIGKILL:d}"):
            raise AssertionError(f"{act} ended with {ended!r}; what it said stands in the output of the test")
        return ended != "0"


def _die_at(number: int, act: str, path: Path) -> None:
    left = number

    def step(_: object) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def trace(connection: apsw.Connection) -> None:
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, step)

    if act == "make":
        apsw.connection_hooks.append(trace)
    with DataFile(path, "store", "me", "process") as file:
        replica = open_replica(file)
        if act != "make":
            trace(file.connection)
        ACTS[act](replica)


def main() -> None:
    """Fork for each line, and tell how the child ended."""
    for line in sys.stdin:
        number, act, path = line.rstrip("\n").split("\t")
        child = os.fork()
        if not child:
            code = 1
            try:
                _die_at(int(number), act, Path(path))
                code = 0
            except BaseException:
                traceback.print_exc()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
