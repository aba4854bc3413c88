"""How numbers, sizes and times are written on a page."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from markupsafe import Markup, escape

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")


def size(count: float | None) -> str:
    """Bytes in the largest unit that leaves a number above 1."""
    if count is None:
        return "–"
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {_UNITS[unit]}"


def number(count: float) -> str:
    """A number with thin spaces between thousands."""
    return f"{count:,}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """A time span in its two largest units."""
    parts = [(int(seconds // 86_400), "d"), (int(seconds // 3600) % 24, "h"), (int(seconds // 60) % 60, "min")]
    told = [f"{count} {unit}" for count, unit in parts if count][:2]
    return " ".join(told) or f"{int(seconds)} s"


def time(at: str | None) -> Markup:
    """A moment: in UTC as it is sent, in the reader's own zone once the page's script has run."""
    if at is None:
        return Markup('<span class="none">never</span>')
    return Markup('<time datetime="{0}">{1} UTC</time>').format(at, at[:19].replace("T", " "))


def value(given: Any) -> str:
    """The value of a setting."""
    match given:
        case None | [] | {}:
            return ""
        case bool():
            return str(given).lower()
        case str():
            return given
        case list() if all(isinstance(part, str) for part in given):
            return ", ".join(given)
        case _:
            return json.dumps(given, ensure_ascii=False)


def shortened(text: str, most: int = 200) -> Markup:
    """The beginning of a long text."""
    return escape(text) if len(text) <= most else Markup("{}<span class=cut>…</span>").format(text[:most])


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "size": size,
    "number": number,
    "duration": duration,
    "time": time,
    "value": value,
    "shortened": shortened,
}
"""By the names that templates use."""
