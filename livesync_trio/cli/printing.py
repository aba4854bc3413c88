"""What commands print: tables, facts and progress bars for a person, JSON Lines for a pipe.

At a terminal a table fits its width: names are shortened in the middle, prose is folded at spaces, numbers and times
are never broken; in a pipe nothing is shortened. What is printed with `--json` is documented in
`docs/command-line.md`: one object a line, to which members may be added, never taken away.
Text of others passes `tell`, which lets none of it move a cursor. Rich is loaded only where a person looks.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import click

if TYPE_CHECKING:
    from rich.progress import ProgressColumn, Task

Colour = Literal["red", "yellow", "green", "white"]

_JSON_SPACE: Final = "\t\n\r"
"""Between the tokens of JSON these may stand; inside a text they are escaped."""


def printable(text: str) -> str:
    """A text that moves no cursor and sets no title: what is not printable is written as its number."""
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)


def tell(text: str, *, err: bool = False, label: str = "", colour: Colour | None = None) -> None:
    """Print lines of text, whoever wrote them.

    Args:
        text: the lines.
        err: on stderr.
        label: what stands in front of the first line: in bold or in a colour, where that can be seen and NO_COLOR does
            not forbid it.
        colour: of the label; bold when None.
    """
    lines = "\n".join(map(printable, text.split("\n")))
    label = printable(label)
    if label and sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        label = click.style(label, bold=True) if colour is None else click.style(label, fg=colour)
    click.echo(label + lines, err=err)


def tell_json(value: bytes) -> None:
    """Print JSON on a line of its own: to a pipe byte for byte, to a terminal with escapes for what it would obey."""
    line = value.replace(b"\n", b" ").replace(b"\r", b" ")
    click.echo(_escaped(line.decode(errors="replace")) if sys.stdout.isatty() else line)


def _escaped(text: str) -> str:
    """The same JSON, with what is not printable written as JSON writes it."""
    return "".join(one if one.isprintable() else " " if one in _JSON_SPACE else _as_units(one) for one in text)


def _as_units(one: str) -> str:
    units = one.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


# --- JSON and tables --------------------------------------------------------------------------------------------------


_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_NAME_CHARACTERS: Final = 12
"""Of a name in a table, no less than this is shown, however narrow the terminal is."""
_FLEXIBLE_CHARACTERS: Final = 20
"""Least width of a column whose text may be cut or folded."""
_NONE: Final = "–"
_FLEXIBLE: Final = "…_"
_KINDS: Final = f"#!{_FLEXIBLE}"


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
        columns: what stands above, with a sign for what is below: `#` numbers, which stand right; `!` times and the
            like, which are never shortened; `…` text that is cut where the terminal ends; `_` prose, which is folded at
            spaces. Without a sign it is a column of names, which are shortened if the table is too wide.
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
    """A table as wide as the terminal: names give way first, then text that is cut or folded."""
    from rich.console import Console  # noqa: PLC0415 - a pipe needs none of it
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    console = Console(highlight=False)
    kinds = [name[-1] for name in columns]
    widths = [max(len(name), *map(len, column)) for name, column in zip(columns, zip(*cells, strict=True), strict=True)]
    room = console.width - 2 * (len(widths) - 1) - sum(w for w, kind in zip(widths, kinds, strict=True) if kind in "#!")
    flexible = [width for width, kind in zip(widths, kinds, strict=True) if kind in _FLEXIBLE]
    names = [width for width, kind in zip(widths, kinds, strict=True) if kind not in _KINDS]
    least = sum(min(width, _FLEXIBLE_CHARACTERS) for width in flexible)
    limit = max(names, default=0)
    if sum(names) + least > room:
        limit = max(_NAME_CHARACTERS, (room - least) // max(1, len(names)))
    room -= sum(min(width, limit) for width in names)
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for column, kind in zip(columns, kinds, strict=True):
        shown.add_column(
            column.rstrip(_KINDS),
            justify="right" if kind == "#" else "left",
            no_wrap=kind != "_",
            overflow="ellipsis" if kind == "…" else "fold",
            max_width=max(1, room // len(flexible)) if kind in _FLEXIBLE else None,
        )
    for row in cells:
        shown.add_row(
            *(escape(cell if kind in _KINDS else elided(cell, limit)) for kind, cell in zip(kinds, row, strict=True))
        )
    console.print(shown)


def _whole(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    rows = [[column.rstrip(_KINDS) for column in columns], *cells]
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


def elided(name: str, limit: int) -> str:
    """A name in at most so many characters, shortened in the middle: both ends of an id tell it from others."""
    if len(name) <= limit:
        return name
    tail = limit // 3
    return f"{name[: limit - tail - 1]}…{name[-tail:]}"


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
    if not sys.stderr.isatty():
        yield lambda _events: None
        return
    from rich.console import Console  # noqa: PLC0415 - a pipe needs none of it
    from rich.markup import escape  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} events"),
        _rate_column(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(printable(what)), total=total_events)
        yield lambda events: bar.advance(task, events)


def _rate_column() -> "ProgressColumn":
    """Events a second."""
    from rich.progress import ProgressColumn  # noqa: PLC0415 - a pipe needs none of it
    from rich.text import Text  # noqa: PLC0415

    class Rate(ProgressColumn):
        def render(self, task: "Task") -> Text:
            return Text("" if task.speed is None else f"{task.speed:,.0f}/s")

    return Rate()
