"""What a push or a delivery is made of, counted instead of timed: `scripts/bench --count`.

CPU time moves by a fifth from minute to minute on a shared machine; a count repeats, most of them within one per cent.
A load runs warm, rests, and then does a known number of units while somebody counts: the server itself its Python
calls, `strace` its system calls, callgrind its instructions. The load rests before the count begins and before it ends,
so that nothing under way is counted on one side only.
"""

import abc
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
from rich.console import Console
from rich.table import Table
from scripts.benchmark import ROOT
from scripts.benchmark.clients import Follower, Pusher, Racer
from scripts.benchmark.scenarios.pushing import stop
from scripts.benchmark.servers import counted, ours
from scripts.benchmark.sockets import PATIENCE_S, Address, BenchError, Loop, Socket

FOLLOWERS: Final = 50
AHEAD: Final = 16
"""Events that are on their way to the followers at the same time."""
ANSWER_LIMIT_S: Final = 30.0
"""For a server, or a tool beside it, to do what a signal asks for."""


class Load(abc.ABC):
    """Clients of one server that do some work and rest."""

    def __init__(self, address: Address) -> None:
        """Connects."""
        self.loop = Loop()
        self._members: list[Socket] = []

    def _add(self, *members: Socket) -> None:
        for member in members:
            self.loop.add(member)
        self._members += members

    def close(self) -> None:
        """Disconnect."""
        for member in self._members:
            self.loop.drop(member)

    @abc.abstractmethod
    def done(self) -> int:
        """Units done so far."""

    @abc.abstractmethod
    def go_on(self) -> None:
        """Begin whatever may be begun now."""

    @abc.abstractmethod
    def rest(self) -> None:
        """Wait until nothing is under way."""

    def work(self, units: int) -> int:
        """Do so many units or a few more, then rest; gives how many."""
        before = self.done()
        self.go_on()
        quiet_since_s = time.monotonic()
        while self.done() - before < units:
            if self.loop.once(0.05):
                quiet_since_s = time.monotonic()
            elif time.monotonic() - quiet_since_s > PATIENCE_S:
                raise BenchError(f"nothing came for {PATIENCE_S:g} s after {self.done() - before} of {units} units")
            self.go_on()
        self.rest()
        return self.done() - before


class Pushing(Load):
    """Clients that push to a store each, the next event when the last is acknowledged. Unit: an event."""

    def __init__(self, address: Address, stores: int, batch: int) -> None:
        super().__init__(address)
        self._pushers = [Pusher(address, f"count-{stores}-{batch}-{number}", batch) for number in range(stores)]
        self._add(*self._pushers)

    def done(self) -> int:
        """See `Load`."""
        return sum(pusher.acknowledged for pusher in self._pushers)

    def go_on(self) -> None:
        """See `Load`."""
        for pusher in self._pushers:
            pusher.may_go_on = True
            if not pusher.waiting:
                pusher.push()

    def rest(self) -> None:
        """See `Load`."""
        stop(self.loop, self._pushers)


class FanOut(Load):
    """One client pushes, others follow the store and acknowledge each chunk. Unit: a delivery."""

    def __init__(self, address: Address, followers: int) -> None:
        super().__init__(address)
        self._pusher = Pusher(address, "fanned", 1)
        self._pusher.may_go_on = False
        self._followers = [Follower(address, "fanned", None) for _ in range(followers)]
        self._add(self._pusher, *self._followers)
        self.loop.run_for(1)  # until all of them follow

    def done(self) -> int:
        """See `Load`."""
        return sum(follower.events for follower in self._followers)

    def go_on(self) -> None:
        """See `Load`."""
        if not self._pusher.waiting and self.done() >= (self._pusher.acknowledged - AHEAD) * len(self._followers):
            self._pusher.push()

    def rest(self) -> None:
        """See `Load`. A moment more than the last delivery, for its Ack."""
        pusher, followers = self._pusher, len(self._followers)
        self.loop.run_until(
            lambda: not pusher.waiting and self.done() == pusher.acknowledged * followers, "the last deliveries"
        )
        self.loop.run_for(0.2)


class Contending(Load):
    """Clients who all want to write the next event of one store. Unit: an accepted event."""

    def __init__(self, address: Address, racers: int) -> None:
        super().__init__(address)
        self._racers = [Racer(address, "contended") for _ in range(racers)]
        self._add(*self._racers)
        self.loop.run_for(1)

    def done(self) -> int:
        """See `Load`."""
        return sum(racer.accepted for racer in self._racers)

    def go_on(self) -> None:
        """See `Load`. They go on by themselves, once begun."""
        for racer in self._racers:
            if not racer.may_go_on or not racer.started:
                racer.may_go_on = True
                racer.push()

    def rest(self) -> None:
        """See `Load`."""
        for racer in self._racers:
            racer.may_go_on = False
        self.loop.run_until(
            lambda: all(not racer.waiting and racer.head == self.done() for racer in self._racers), "the last race"
        )
        self.loop.run_for(0.2)


@attrs.frozen
class Counted:
    """A scenario that is counted.

    Attributes:
        load: makes its clients.
        unit: what is counted per.
        units: how many; a third of it goes before, to run warm.
    """

    load: Callable[[Address], Load]
    unit: str
    units: int


COUNTED: Final = {
    "push1": Counted(lambda address: Pushing(address, 1, 1), "event", 150),
    "push100": Counted(lambda address: Pushing(address, 1, 100), "event", 4_000),
    "stores50x1": Counted(lambda address: Pushing(address, 50, 1), "event", 1_000),
    "fanout50": Counted(lambda address: FanOut(address, FOLLOWERS), "delivery", 4_000),
    "contend8": Counted(lambda address: Contending(address, 8), "event", 60),
}
"""Scenarios of the benchmark, small enough for a server that runs fifty times slower under callgrind."""


@attrs.define
class Counts:
    """Per unit. What cannot be counted here, because a tool is missing, is None.

    Attributes:
        server: which.
        instructions: of the program, without the kernel's.
        calls: Python functions called or resumed.
        turns: of Trio's loop.
        asked: system calls that Python code makes, by name.
        system_calls: all of them.
        where: Python calls by package.
        by_name: the system calls by name.
    """

    server: str
    instructions: float | None = None
    calls: float = 0.0
    turns: float = 0.0
    asked: dict[str, float] = attrs.field(factory=dict)
    system_calls: float | None = None
    where: dict[str, float] = attrs.field(factory=dict)
    by_name: dict[str, float] = attrs.field(factory=dict)


def count(scenario: str, tree: Path, name: str) -> Counts:
    """Everything that can be counted of a scenario on the server of a source tree."""
    (result,) = count_calls([scenario], tree, name)
    what = COUNTED[scenario]
    if shutil.which("strace"):
        result.by_name = _system_calls(what, tree)
        result.system_calls = sum(result.by_name.values()) or None
    if shutil.which("valgrind"):
        result.instructions = _instructions(what, tree)
    return result


def count_calls(scenarios: Sequence[str], tree: Path, name: str) -> list[Counts]:
    """Python calls, turns and what Python asks of the kernel, on one server: needs no tool beside Python."""
    results = []
    with tempfile.TemporaryDirectory(prefix="count-") as directory:
        path = Path(directory) / "counts.json"
        with counted(tree, path).running() as running:
            for scenario in scenarios:
                with _warm(COUNTED[scenario], running.address) as load, _kept_by(running.pids[0], path):
                    units = load.work(COUNTED[scenario].units)
                results.append(_counts(name, json.loads(path.read_text()), units))
                path.unlink()
    return results


def _counts(name: str, found: dict[str, Any], units: int) -> Counts:
    asked = {key: number / units for key, number in found["asked"].items()}
    where = {key: number / units for key, number in found["where"].items()}
    return Counts(name, calls=found["calls"] / units, turns=found["turns"] / units, asked=asked, where=where)


MOST: Final = {
    "push1": (222.0, 2.3, 10.0),
    "stores50x1": (102.0, 0.3, 2.5),
    "fanout50": (21.2, 0.25, 2.5),
}
"""Python calls, turns of Trio's loop, and system calls that Python code makes, that a unit may take.

A tenth above what was counted last, for what moments make of it; who saves some lowers these.
"""


def complaints(say: Callable[[str], None]) -> list[str]:
    """Count what has a limit; one sentence for each that is above it."""
    found = []
    for (scenario, most), counts in zip(MOST.items(), count_calls(list(MOST), ROOT, "ours"), strict=True):
        there = (counts.calls, counts.turns, sum(counts.asked.values()))
        say(f"{scenario}: {there[0]:.1f} Python calls, {there[1]:.2f} turns, {there[2]:.2f} system calls of Python's")
        for what, number, limit in zip(("Python calls", "turns", "system calls"), there, most, strict=True):
            if number > limit:
                unit = COUNTED[scenario].unit
                found.append(f"{scenario}: {number:.2f} {what} per {unit}, more than {limit:g} (scripts/bench --count)")
    return found


@contextmanager
def _kept_by(pid: int, path: Path) -> Iterator[None]:
    """Have the server itself count; see `counted`."""
    os.kill(pid, signal.SIGUSR2)
    time.sleep(0.2)  # it is asleep, and takes the signal at once
    yield
    os.kill(pid, signal.SIGUSR2)
    _wait_for(path.exists, "the server's counts")


@contextmanager
def _warm(what: Counted, address: Address) -> Iterator[Load]:
    """Clients that have done some work and rest."""
    load = what.load(address)
    try:
        load.work(max(1, what.units // 3))
        yield load
    finally:
        load.close()


def _system_calls(what: Counted, tree: Path) -> dict[str, float]:
    with (
        tempfile.TemporaryDirectory(prefix="count-") as directory,
        ours(tree).running() as running,
        _warm(what, running.address) as load,
    ):
        path = Path(directory) / "strace"
        command = ["strace", "-c", "-f", "-o", str(path), "-p", str(running.pids[0])]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            if "attached" not in strace.stderr.readline():
                return {}  # not allowed here
            units = load.work(what.units)
            strace.send_signal(signal.SIGINT)
        return {name: calls / units for name, calls in table_of_strace(path.read_text())}


def table_of_strace(text: str) -> Iterator[tuple[str, int]]:
    """Name and number of calls of each row: `% time, seconds, usecs/call, calls, errors or nothing, name`."""
    for row in re.finditer(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", text, re.MULTILINE):
        if row[2] != "total":
            yield row[2], int(row[1])


def _instructions(what: Counted, tree: Path) -> float:
    with tempfile.TemporaryDirectory(prefix="count-") as directory:
        callgrind = [
            "valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out", "--instr-atstart=no",
            "--dump-instr=no", "--fair-sched=yes",
        ]  # fmt: skip
        with ours(tree, under=callgrind).running() as running, _warm(what, running.address) as load:
            pid = str(running.pids[0])
            _control("-i", "on", pid)
            units = load.work(what.units)
            _control("-i", "off", pid)
            _control("-d", pid)
            found: list[int] = []

            def dumped() -> bool:
                texts = [path.read_text() for path in Path(directory).glob("out*")]
                found[:] = [int(number) for text in texts for number in _TOTALS.findall(text)]
                return any(found)

            _wait_for(dumped, "callgrind's counts")
        return max(found) / units


_TOTALS: Final = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)


def _control(*arguments: str) -> None:
    subprocess.run(["callgrind_control", *arguments], capture_output=True, timeout=ANSWER_LIMIT_S, check=True)


def _wait_for(there: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + ANSWER_LIMIT_S
    while not there():
        if time.monotonic() > end_s:
            raise BenchError(f"nothing came for {ANSWER_LIMIT_S:g} s while waiting for {what}")
        time.sleep(0.02)


def show(results: Sequence[tuple[str, Counts]]) -> None:
    """Print the table; of each scenario the first server is compared with the others."""
    made = Table(caption="per unit; system calls of the whole process, and those that Python code makes")
    for heading in ("scenario", "unit", "server"):
        made.add_column(heading)
    for heading in ("instructions", "Python calls", "of Trio's", "turns", "system calls", "of Python's"):
        made.add_column(heading, justify="right")
    made.add_column("most of them")
    last = ""
    for scenario, counts in results:
        most = sorted(counts.by_name.items(), key=lambda item: -item[1])[:5]
        made.add_row(
            scenario if scenario != last else "",
            COUNTED[scenario].unit if scenario != last else "",
            counts.server,
            "–" if counts.instructions is None else f"{counts.instructions:,.0f}",
            f"{counts.calls:.1f}",
            f"{counts.where.get('trio', 0):.1f}",
            f"{counts.turns:.2f}",
            "–" if counts.system_calls is None else f"{counts.system_calls:.1f}",
            f"{sum(counts.asked.values()):.2f}",
            ", ".join(f"{name} {number:.1f}" for name, number in most),
        )
        last = scenario
    Console(width=None if Console().is_terminal else 180).print(made)
