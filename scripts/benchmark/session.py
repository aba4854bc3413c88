"""Runs of scenarios against servers, in turn, and their medians."""

import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
from scripts.benchmark import load
from scripts.benchmark.measuring import Figures
from scripts.benchmark.scenarios import Scenario
from scripts.benchmark.servers import Server
from scripts.benchmark.sockets import BenchError


@attrs.define
class Result:
    """All runs of one scenario against one server.

    Attributes:
        scenario: what was done.
        server: name of the server.
        runs: one a round, in order; None where a run failed.
        errors: why.
    """

    scenario: Scenario
    server: str
    runs: list[Figures | None] = attrs.field(factory=list)
    errors: list[str] = attrs.field(factory=list)

    @property
    def good(self) -> list[Figures]:
        """The runs that did not fail."""
        return [figures for figures in self.runs if figures is not None]

    def median(self) -> Figures | None:
        """The median of each figure by itself; None when no run succeeded."""
        if not self.good:
            return None
        columns = {name: [getattr(figures, name) for figures in self.good] for name in _MEDIANS}
        more = {
            key: _median([figures.more.get(key) for figures in self.good])
            for key, value in self.good[0].more.items()
            if isinstance(value, int | float)
        }
        medians = {name: _median(values) for name, values in columns.items()}
        return Figures(unit=self.good[0].unit, **medians, more=more)  # type: ignore[arg-type]

    def ratio(self, other: "Result") -> float | None:
        """How many times better this is: the median over the rounds, whose two runs stood side by side in time."""
        pairs = zip(self.runs, other.runs, strict=False)
        return _median([self.scenario.ratio(mine, theirs) for mine, theirs in pairs if mine and theirs])


_MEDIANS = ("rate", "p50_ms", "p99_ms", "server_cpu_us", "client_cpu", "memory_kib")


def _median(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def measure(
    scenario: Scenario,
    servers: Sequence[Server],
    *,
    rounds: int,
    seconds: float,
    scale: float,
    say: Callable[[str], None],
) -> list[Result]:
    """Run a scenario against every server that can do it, `rounds` times, the servers taking turns.

    Args:
        scenario: what to do.
        servers: the first is the one in question.
        rounds: how many times.
        seconds: length of a window.
        scale: of the sizes.
        say: told what is going on.
    """
    taking_part = [server for server in servers if server.name not in scenario.not_for]
    results = [Result(scenario, server.name) for server in taking_part]
    for number in range(rounds):
        pairs = list(zip(results, taking_part, strict=True))
        for result, server in pairs if number % 2 == 0 else pairs[::-1]:
            say(f"{scenario.name}, round {number + 1} of {rounds}: {server.name}")
            _run(result, server, seconds, scale)
            if result.runs[-1] is None:
                say(f"  failed: {result.errors[-1]}")
    return results


def _run(result: Result, server: Server, seconds: float, scale: float) -> None:
    try:
        result.runs.append(run_once(result.scenario, server, seconds, scale))
    except BenchError as error:
        result.runs.append(None)
        result.errors.append(str(error))


def run_once(scenario: Scenario, server: Server, seconds: float, scale: float) -> Figures:
    """One run against a server started for it.

    Raises:
        BenchError: the server did not start, or did something else than it must.
    """
    with server.running(scenario.settings) as running:
        address = running.address
        answer = load.run(
            load.Job(
                scenario.name,
                address.host,
                address.port,
                address.path,
                running.pids,
                seconds,
                scale,
                server.most_stores,
            )
        )
    return Figures(**answer)


def machine() -> dict[str, Any]:
    """What it all ran on; without names."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    cores = len([line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")])
    return {"cpu": model, "cores": cores, "kernel": platform.release(), "python": platform.python_version()}
