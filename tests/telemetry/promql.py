"""Expressions of PromQL, as far as one can judge them without Prometheus; and the files that use them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import yaml

from livesync_trio.metrics.declared import METRICS

ROOT: Final = Path(__file__).resolve().parents[2]

PROCESS_SERIES: Final = {
    *("process_cpu_seconds_total", "process_resident_memory_bytes", "process_virtual_memory_bytes"),
    *("process_start_time_seconds", "process_open_fds", "process_max_fds", "python_info"),
}
"""What prometheus_client adds; the exposition's test sees that it does."""

SERIES: Final = {name for metric in METRICS for name in metric.series} | PROCESS_SERIES | {"up"}

_WORDS: Final = {
    *("sum", "max", "min", "rate", "increase", "changes", "histogram_quantile", "by", "on", "and", "unless", "absent"),
    *("le", "kind", "state", "instance", "job", "generation", "transport", "operation", "engine", "version"),
    *("time", "webhook", "outcome"),
}
"""Functions, operators and labels that are used; whatever else stands in an expression must be a metric."""


def names_in(expression: str) -> set[str]:
    """Names of metrics in an expression: what is left without values of labels, durations, variables and words."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\$\w+", "", bare)
    return set(re.findall(r"[a-zA-Z_:][\w:]*", bare)) - _WORDS


def check_balanced(expression: str) -> None:
    """Brackets and quotes close in their order."""
    assert expression.count('"') % 2 == 0, expression
    bare = re.sub(r'"[^"]*"', "", expression)
    while (shorter := re.sub(r"\([^(){}\[\]]*\)|\{[^(){}\[\]]*\}|\[[^(){}\[\]]*\]", "", bare)) != bare:
        bare = shorter
    assert not set(bare) & set("(){}[]"), expression


def alerts() -> list[dict[str, Any]]:
    document = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """What the dashboard draws."""
    document = json.loads((ROOT / "deploy/grafana.json").read_text(encoding="utf-8"))
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Everything that dashboard and alerts ask for."""
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [*shown, *(rule["expr"] for rule in alerts())]
