"""How commands show what they found: tables and progress bars for a person, JSON Lines for a pipe.

Owns the looks and nothing else. What is printed with `--json` is documented in `docs/command-line.md`: one object a
line, to which members may be added, never taken away.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from livesync_trio.cli.printable import printable, tell, tell_json

json_flag = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
"""The flag of every command that shows something."""

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def line(value: dict[str, Any]) -> None:
    """Print one JSON object."""
    tell_json(json.dumps(value, ensure_ascii=False).encode(errors="replace"))


def raw_line(value: bytes) -> None:
    """Print one JSON object that is text already; line breaks in it stand between tokens only."""
    tell_json(value)


def table(columns: Sequence[str], rows: Iterator[Sequence[object]], *, empty: str) -> None:
    """Print a table as its rows come; numbers stand right.

    Args:
        columns: what stands above; a name that ends with `#` is a column of numbers.
        rows: text or numbers; None is shown as –.
        empty: what to say when there are none.
    """
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        numbers = column.endswith("#")
        shown.add_column(column.rstrip("#"), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        shown.add_row(*map(_cell, row))
    if shown.row_count:
        _console().print(shown)
    else:
        tell(empty)


def facts(pairs: Sequence[tuple[str, object]]) -> None:
    """Print names and values below each other."""
    shown = Table(box=None, show_header=False, pad_edge=False)
    shown.add_column(style="bold")
    shown.add_column(overflow="fold")
    for name, value in pairs:
        shown.add_row(_cell(name), _cell(value))
    _console().print(shown)


def note(text: str) -> None:
    """Say something that is not the result: on stderr, so that a pipe does not get it."""
    tell(text, err=True)


def size(size_bytes: int) -> str:
    """A size in words: `1.4 MiB`."""
    value, unit = float(size_bytes), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{size_bytes} B"


def ago(moment: str | None) -> str:
    """How long ago a moment was, in words; – for none."""
    if moment is None:
        return "–"
    try:
        then = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    seconds = (datetime.now(UTC) - then).total_seconds()
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length_s:
            return f"{int(seconds // length_s)} {unit} ago"
    return f"{max(0, int(seconds))} s ago"


Advance = Callable[[int], None]


@contextmanager
def progress(what: str, total_events: int | None = None) -> Iterator[Advance]:
    """A bar with rate and remaining time while something long is done; nothing where stderr is no terminal.

    Args:
        what: in words.
        total_events: how many events there are, None when nobody knows.

    Yields:
        A function that is told of events done.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} events"),
        _Rate(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(escape(printable(what)), total=total_events)
        yield lambda events: bar.advance(task, events)


class _Rate(ProgressColumn):
    """Events a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s")


def _console() -> Console:
    """Where results go: as wide as the terminal, and never folded in a pipe."""
    return Console() if sys.stdout.isatty() else Console(width=10_000, highlight=False)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escape(printable(f"{value:,}" if isinstance(value, int) else str(value)))
