"""How values are written on a page: numbers, sizes, times, and what differs between two JSON values."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs
import msgspec
from markupsafe import Markup, escape

from livesync_trio import wording

ROWS_MAX: Final = 2_000
"""Differences that are shown."""

THIN_SPACE: Final = "\u202f"
"""Between thousands."""

_MISSING: Final = object()
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
    return f"{count:,}".replace(",", THIN_SPACE)


def counted(count: int, thing: str, one: str = "", more: str = "") -> str:
    """A number of things, and what is said of it: of one by `one`, of more by `more`."""
    said = one if count == 1 else more
    return wording.count(count, thing).replace(",", THIN_SPACE) + (said and f" {said}")


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
    "counted": counted,
    "duration": duration,
    "time": time,
    "value": value,
    "shortened": shortened,
}
"""By the names that templates use."""


@attrs.frozen
class Difference:
    """A member that is not the same in both; None: it is not there."""

    path: str
    before: str | None
    after: str | None


def differences(before: Any, after: Any) -> tuple[list[Difference], bool]:
    """The differences, in the order of the first value, and whether there are more than are shown."""
    found: list[Difference] = []
    for difference in _walk("", before, after):
        if len(found) == ROWS_MAX:
            return found, True
        found.append(difference)
    return found, False


def _walk(path: str, before: Any, after: Any) -> Iterator[Difference]:
    """Without recursion: values may be nested as deep as JSON may be."""
    waiting = [(path, before, after)]
    while waiting:
        path, before, after = waiting.pop()
        if isinstance(before, dict) and isinstance(after, dict):
            members = [
                (f"{path}.{name}" if path else name, before.get(name, _MISSING), after.get(name, _MISSING))
                for name in (before | after)
            ]
        elif isinstance(before, list) and isinstance(after, list):
            longest = max(len(before), len(after))
            members = [(f"{path}[{place}]", _at(before, place), _at(after, place)) for place in range(longest)]
        else:
            if type(before) is not type(after) or before != after:
                yield Difference(path or "(all)", _told(before), _told(after))
            continue
        waiting += reversed(members)


def _at(values: list[Any], place: int) -> Any:
    return values[place] if place < len(values) else _MISSING


def _told(value: Any) -> str | None:
    return None if value is _MISSING else msgspec.json.encode(value).decode()
