"""Text of others as a terminal may be given it. All that commands say passes here."""

import sys
from typing import Final

import click

_JSON_SPACE: Final = "\t\n\r"
"""Between the tokens of JSON these may stand; inside a text they are escaped."""


def printable(text: str) -> str:
    """A text that moves no cursor and sets no title: what is not printable is written as its number."""
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)


def tell(text: str, *, err: bool = False) -> None:
    """Print lines of text, whoever wrote them; `err`: on stderr."""
    click.echo("\n".join(map(printable, text.split("\n"))), err=err)


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
