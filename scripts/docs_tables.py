"""Writes the tables of the documentation that are derived from the code.

    python -m scripts.docs_tables

Owns the blocks between `<!-- table: NAME -->` and `<!-- end of table -->`. `tests/unit/test_docs.py`
fails when a block is not what this would write.
"""

import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from livesync_trio.config import SETTINGS, Setting
from livesync_trio.errors import RULES
from livesync_trio.metrics.declared import METRICS

ROOT: Final = Path(__file__).resolve().parents[1]

_BLOCK: Final = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def documents() -> list[Path]:
    """Every Markdown file of the project that may hold a table."""
    return [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]


def refreshed(text: str) -> str:
    """A document with its tables as the code has them now."""
    return _BLOCK.sub(lambda block: f"{block[1]}\n{TABLES[block[2]]()}\n{block[3]}", text)


def table_names(text: str) -> list[str]:
    """Which tables a document holds."""
    return [block[1] for block in _BLOCK.findall(text)]


def _settings() -> str:
    """Every setting under a heading of its own, group by group."""
    parts = []
    group = ""
    for setting in SETTINGS:
        if setting.group != group:
            group = setting.group
            parts.append(f"### {group}\n")
        parts.append(f"#### `{setting.env or setting.name}`\n\n{setting.help}\n\n{_ways(setting)}")
    return "\n".join(parts)


def _ways(setting: Setting) -> str:
    """How a setting is given: default, what is accepted, its other names."""
    default = f"Default: {_code(setting.default_text)}. " if setting.default_text else ""
    lines = [f"{default}Accepted: {setting.accepts}."]
    if setting.only_in_file:
        variables = ", ".join(f"`{variable}`" for variable in setting.key_variables)
        more = f" Single keys of it also as {variables}." if variables else ""
        lines.append(f"In the TOML file{'' if more else ' only'}: `{setting.name}`.{more}")
    else:
        files = (
            f" Or name a file that holds it: `{setting.file_env}`, `{setting.file_name}`." if setting.from_file else ""
        )
        lines.append(f"Flag: `{setting.flag}`. TOML key: `{setting.name}`.{files}")
    return "".join(f"* {line}\n" for line in lines)


def _errors() -> str:
    rows = []
    for kind, rule in RULES.items():
        numbers = (rule.http_status, rule.close_code, rule.exit_code)
        rows.append(
            (
                f"`{kind}`",
                rule.meaning,
                _code(rule.wire_tag or ""),
                *("" if number is None else str(number) for number in numbers),
                "yes" if rule.retry else "",
                logging.getLevelName(rule.log_level).lower(),
            )
        )
    return _table(("Kind", "Meaning", "RPC error", "HTTP", "Close", "Exit", "Retry", "Log"), rows)


def _metrics() -> str:
    rows = [
        (f"`{metric.name}`", metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.help)
        for metric in METRICS
    ]
    return _table(("Metric", "Type", "Labels", "Meaning"), rows)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


TABLES: Final[dict[str, Callable[[], str]]] = {
    "settings": _settings,
    "errors": _errors,
    "metrics": _metrics,
}


def main() -> None:
    """Bring every document up to date."""
    for path in documents():
        before = path.read_text(encoding="utf-8")
        after = refreshed(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: tables written")


if __name__ == "__main__":
    main()
