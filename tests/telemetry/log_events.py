"""The log lines there are: what the code writes, and what the documentation tells of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ROOT / "livesync_trio"
PAGE: Final = ROOT / "docs/observability.md"

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
BY_KIND: Final = "by kind"
"""The level stands in the table of refusals."""


@attrs.frozen
class LogEvent:
    """One kind of line. `open`: whoever writes it may add fields."""

    name: str
    level: str
    fields: frozenset[str]
    open: bool = False


def written(package: Path = PACKAGE) -> list[LogEvent]:
    """Every line that the server writes, one for each place. Fails when a name is no literal text.

    A store in a Python program is no part of a server: it logs as that program does.
    """
    found = []
    for path in sorted(package.rglob("*.py")):
        if path.is_relative_to(package / "livestore"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _is_logging(node.func):
                assert isinstance(node.func, ast.Attribute)
                found.append(_event(node, node.func.attr, path))
    return found


def _is_logging(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id == "_log"
        and function.attr in (*LEVELS, "log", "exception")
    )


def _event(call: ast.Call, method: str, path: Path) -> LogEvent:
    where = f"{path.name}:{call.lineno}"
    assert method != "exception", f"{where}: say `error` with exc_info"
    name = call.args[1] if method == "log" else call.args[0]
    assert isinstance(name, ast.Constant), f"{where}: the name of a log line is a literal text"
    assert isinstance(name.value, str), where
    named = {keyword.arg for keyword in call.keywords}
    fields = frozenset("exception" if arg == "exc_info" else arg for arg in named if arg is not None)
    return LogEvent(name.value, BY_KIND if method == "log" else method, fields, open=None in named)


def documented(page: str) -> dict[str, tuple[set[str], set[str], str]]:
    """Levels, fields and meaning of each line in the table of the documentation."""
    table = re.search(r"^\| Line \|.*?\n\n", page, re.MULTILINE | re.DOTALL)
    assert table is not None, "there is no table of log lines"
    rows = {}
    for row in table[0].strip().splitlines()[2:]:
        name, levels, fields, meaning = (cell.strip() for cell in row.strip("|").split(" | "))
        name = name.strip("`")
        assert name not in rows, f"{name} stands there twice"
        rows[name] = (set(levels.split(", ")), set(re.findall(r"`(\w+)`", fields)), meaning)
    return rows
