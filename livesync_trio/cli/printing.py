"""What commands print: tables, facts and progress bars for a person, JSON Lines for a pipe.

At a terminal a table fits its width: names are shortened in the middle, prose is folded at spaces, numbers and times
are never broken; in a pipe nothing is shortened. What is printed with `--json` is documented in
`docs/command-line.md`: one object a line, to which members may be added, never taken away.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from livesync_trio.cli.printable import printable, tell, tell_json

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_NAME_CHARACTERS: Final = 30
"""Of a name in a table at a terminal, no more than this is shown."""
_NONE: Final = "–"


# --- results -------------------------------------------------------------------------------------------------------


def line(value: dict[str, Any]) -> None:
    """Print one JSON object."""
    tell_json(json.dumps(value, ensure_ascii=False).encode(errors="replace"))


def raw_line(value: bytes) -> None:
    """Print one JSON object that is text already; line breaks in it stand between tokens only."""
    tell_json(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str, whole: bool = False) -> None:
    """Print a table.

    Args:
        columns: what stands above. A name that ends with `#` is a column of numbers, which stand right; one with `…`
            is cut where the terminal ends, one with `_` is prose that is folded at spaces; all others are names.
        rows: text or numbers; None is shown as –.
        empty: what to say when there are none.
        whole: whether nothing is shortened at a terminal either.
    """
    cells = [[_text(value) for value in row] for row in rows]
    if not cells:
        tell(empty)
    elif at_terminal() and not whole:
        _fitted(columns, cells)
    else:
        _whole(columns, cells)


def _fitted(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        kind = column[-1]
        shown.add_column(
            column.rstrip("#…_"),
            justify="right" if kind == "#" else "left",
            no_wrap=kind != "_",
            overflow="ellipsis" if kind == "…" else "fold",
            ratio=1 if kind == "…" else None,
        )
    for row in cells:
        shown.add_row(
            *(escape(cell if column[-1] in "#…_" else elided(cell)) for column, cell in zip(columns, row, strict=True))
        )
    Console(highlight=False).print(shown)


def _whole(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    rows = [[column.rstrip("#…_") for column in columns], *cells]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (
            cell.rjust(width) if column.endswith("#") else cell.ljust(width)
            for column, cell, width in zip(columns, row, widths, strict=True)
        )
        tell("  ".join(padded).rstrip())


def facts(pairs: Sequence[tuple[str, object]]) -> None:
    """Print names and values below each other; a name with nothing behind it is a heading."""
    width = max((len(name) for name, value in pairs if value != ""), default=0)
    for name, value in pairs:
        if value == "":
            tell("", label=name)
        else:
            tell(f"  {_text(value)}".rstrip(), label=name.ljust(width))


def note(text: str) -> None:
    """Say something that is not the result: on stderr, so that a pipe does not get it."""
    tell(text, err=True)


# --- words ---------------------------------------------------------------------------------------------------------


def size(size_bytes: int) -> str:
    """A size in words: `1.4 MiB`."""
    value, unit = float(size_bytes), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{size_bytes} B"


def count(number: int, thing: str) -> str:
    """A number of things: `1 store`, `2,000 events`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A length of time in words: `3 h 12 min`."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3_600), int(seconds // 86_400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"


def ago(moment: str | None) -> str:
    """How long ago a moment was, in words; – for none."""
    if moment is None:
        return _NONE
    try:
        then = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    return f"{duration(max(0.0, (datetime.now(UTC) - then).total_seconds()))} ago"


def clock(moment: str) -> str:
    """A moment for a glance, in UTC: the time of today, the date of another day."""
    try:
        then = datetime.fromisoformat(moment).astimezone(UTC)
    except ValueError:
        return moment
    return f"{then:%H:%M:%S}" if then.date() == datetime.now(UTC).date() else f"{then:%Y-%m-%d %H:%M}"


def words(name: str) -> str:
    """A member of a JSON object as a person reads it: `loopBlockedSeconds` is `loop blocked seconds`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def elided(name: str) -> str:
    """A name, shortened in the middle if it is long: both ends of an id tell it from others."""
    if len(name) <= _NAME_CHARACTERS:
        return name
    tail = _NAME_CHARACTERS // 3
    return f"{name[: _NAME_CHARACTERS - tail - 1]}…{name[-tail:]}"


# --- a terminal ----------------------------------------------------------------------------------------------------


def at_terminal() -> bool:
    """Whether results go to a person."""
    return sys.stdout.isatty()


def _text(value: object) -> str:
    if value is None:
        return _NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(f"{value:,}" if isinstance(value, int) else str(value))


# --- progress ------------------------------------------------------------------------------------------------------

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
