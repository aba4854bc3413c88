"""The table of `docs/performance.md`, written from the JSON of a run: `scripts/bench --json FILE`, then `--draw`.

Owns what stands between `<!-- measured -->` and `<!-- end of measured -->` there.
"""

import json
import re
from typing import Any, Final

from scripts.benchmark import ROOT
from scripts.benchmark.measuring import Figures
from scripts.benchmark.report import figures_of, versus
from scripts.benchmark.scenarios import SCENARIOS
from scripts.benchmark.session import Result

PAGE: Final = ROOT / "docs" / "performance.md"
RESULTS: Final = ROOT / "docs" / "performance" / "results.json"

_BLOCK: Final = re.compile(r"(<!-- measured -->\n).*?(<!-- end of measured -->)", re.DOTALL)


def refresh() -> None:
    """Write the table anew."""
    content = json.loads(RESULTS.read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_BLOCK.sub(lambda block: f"{block[1]}\n{_table(content)}\n{block[2]}", page), encoding="utf-8")


def _table(content: dict[str, Any]) -> str:
    results = from_json(content)
    machine = content["machine"]
    head = ("scenario", "server", "rate /s", "p50 ms", "p99 ms", "CPU µs", "load", "memory", "ours compared with it")
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    first: Result | None = None
    for result in results:
        if first is None or result.scenario is not first.scenario:
            first = result
        cells = (result.scenario.name if result is first else "", result.server, *figures_of(result.median()))
        lines.append(f"| {' | '.join(cells)} | {versus(first, result)} |")
    lines += [
        "",
        f"{content['when'][:10]}, {machine['cores']} cores of {machine['cpu']}, Python {machine['python']}, "
        f"{content['rounds']} alternating rounds of {content['window_s']:g} s, medians.",
    ]
    return "\n".join(lines) + "\n"


def from_json(content: dict[str, Any]) -> list[Result]:
    """Results as `report.as_json` has written them."""
    return [
        Result(
            SCENARIOS[each["scenario"]],
            each["server"],
            [None if run is None else Figures(**run) for run in each["runs"]],
            each["errors"],
        )
        for each in content["results"]
    ]
