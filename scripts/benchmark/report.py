"""The one table, and the JSON behind it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs
from rich.console import Console
from rich.table import Table
from scripts.benchmark.measuring import BUSY_SHARE, Figures
from scripts.benchmark.scenarios import api
from scripts.benchmark.scenarios.idle import PER_CONNECTION
from scripts.benchmark.session import Result, machine

DISTURBANCE_GOAL: Final = 2
"""Most times that p99 of the busy stores may be what it is alone (issue 5, mixed)."""


def table(results: Sequence[Result]) -> Table:
    """All results, the servers of a scenario below each other; the first one is compared with the others."""
    made = Table(caption="medians; CPU is the server's, µs per unit; load is the load generator's share of a core")
    made.add_column("scenario")
    made.add_column("server")
    for name in ("rate /s", "p50 ms", "p99 ms", "CPU µs", "load", "memory"):
        made.add_column(name, justify="right")
    made.add_column("compared with it", justify="left")
    by_scenario: dict[str, list[Result]] = {}
    for result in results:
        by_scenario.setdefault(result.scenario.name, []).append(result)
    for same in by_scenario.values():
        first = same[0]
        for result in same:
            title = f"{first.scenario.name}" if result is first else ""
            made.add_row(title, result.server, *figures_of(result.median()), versus(first, result))
        made.add_section()
    return made


def figures_of(figures: Figures | None) -> tuple[str, ...]:
    """The cells of a row."""
    if figures is None:
        return ("failed", "", "", "", "", "")
    return (
        f"{figures.rate:,.0f}",
        _number(figures.p50_ms),
        _number(figures.p99_ms),
        _number(figures.server_cpu_us),
        f"{figures.client_cpu:.2f}" + ("!" if figures.client_cpu > BUSY_SHARE else ""),
        _memory(figures),
    )


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _memory(figures: Figures) -> str:
    each = figures.more.get(PER_CONNECTION)
    if each is not None:
        return f"{each:.1f} KiB each"
    return "–" if figures.memory_kib is None else f"{figures.memory_kib / 1024:.0f} MiB"


def versus(first: Result, result: Result) -> str:
    """How the first server compares with this one."""
    if result is first:
        figures = first.median()
        if figures is not None and figures.more.get(api.OF_WEBSOCKET) is not None:
            return _beside_websocket(figures)
        if figures is not None and figures.more.get("p99_ratio") is not None:
            ratio, missed = (
                figures.more["p99_ratio"],
                "" if figures.more["p99_ratio"] <= DISTURBANCE_GOAL else ", missed",
            )
            alone_ms = figures.more["p99_ms_alone"]
            return f"p99 ×{ratio:.2f} of {alone_ms:.2f} ms alone (goal ≤ {DISTURBANCE_GOAL}{missed})"
        return ""
    ratio = first.ratio(result)
    if ratio is None:
        return ""
    text = f"×{ratio:.2f}"
    goal = first.scenario.goals.get(result.server)
    if goal is not None:
        text += f" (goal {goal:g}{'' if ratio >= goal else ', missed'})"
    mine, theirs = first.median(), result.median()
    if mine and theirs and mine.server_cpu_us and theirs.server_cpu_us and not first.scenario.memory:
        text += f", CPU ×{theirs.server_cpu_us / mine.server_cpu_us:.2f}"
    return text


def _beside_websocket(figures: Figures) -> str:
    ratio, goal = figures.more[api.OF_WEBSOCKET], api.GOAL_OF_WEBSOCKET
    text = f"×{ratio:.2f} of the WebSocket's (goal {goal:g}{'' if ratio >= goal else ', missed'})"
    cpu = figures.more.get(api.CPU_OF_WEBSOCKET)
    return text if cpu is None else f"{text}, CPU ×{1 / cpu:.2f}"


def show(results: Sequence[Result]) -> None:
    """Print the table, and what failed."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(table(results))
    for result in results:
        for error in result.errors:
            console.print(f"{result.scenario.name}, {result.server}: {error}", markup=False)


def as_json(results: Sequence[Result], seconds: float, rounds: int) -> dict[str, Any]:
    """Everything measured, for later tools."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "window_s": seconds,
        "rounds": rounds,
        "results": [
            {
                "scenario": result.scenario.name,
                "server": result.server,
                "runs": [None if figures is None else attrs.asdict(figures) for figures in result.runs],
                "errors": result.errors,
            }
            for result in results
        ],
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write figures to a file."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
