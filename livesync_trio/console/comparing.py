"""What differs between two JSON values, member by member."""

from collections.abc import Iterator
from typing import Any, Final

import attrs
import msgspec

ROWS_MAX: Final = 2_000
"""Differences that are shown."""

_MISSING: Final = object()


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
