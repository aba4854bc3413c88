"""Text of others as a terminal may be given it. All that commands say passes here."""

import os
import sys
from typing import Final, Literal

import click

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
