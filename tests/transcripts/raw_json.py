"""JSON of which some values stay the text they were.

``args`` must come back byte for byte (SPEC section 1), so the replay compares texts, not values. This reader is the
test's own on purpose: an oracle must not share the parser of the server it judges. (msgspec.Raw would also refuse
lone surrogates.)
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class RawText:
    """The exact JSON text of one value."""

    text: str


def loads(text: str, *raw_keys: str) -> Any:
    """Parse ``text``; the value of every object key in ``raw_keys`` becomes a :class:`RawText`. Raises ValueError as
    json does."""
    value, end = _value(text, _skip(text, 0), frozenset(raw_keys))
    if _skip(text, end) != len(text):
        raise ValueError(f"something follows the JSON value: {text[end : end + 40]!r}")
    return value


def dumps(value: Any) -> str:
    """JSON text of ``value`` as JavaScript writes it, RawText kept verbatim."""
    if isinstance(value, RawText):
        return value.text
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(dumps, value)) + "]"
    return json.dumps(value)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _value(text: str, at: int, raw_keys: frozenset[str]) -> tuple[Any, int]:
    match text[at : at + 1]:
        case "{":
            return _object(text, at, raw_keys)
        case "[":
            return _array(text, at, raw_keys)
        case _:
            return _DECODER.raw_decode(text, at)


def _object(text: str, at: int, raw_keys: frozenset[str]) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        key, at = _DECODER.raw_decode(text, at)
        if not isinstance(key, str):
            raise ValueError(f"an object key must be a string: {key!r}")
        at = _skip(text, _expect(text, _skip(text, at), ":"))
        if key in raw_keys:
            _, end = _DECODER.raw_decode(text, at)
            found[key], at = RawText(text[at:end]), end
        else:
            found[key], at = _value(text, at, raw_keys)
        at = _next(text, at, "}")
    return found, at + 1


def _array(text: str, at: int, raw_keys: frozenset[str]) -> tuple[list[Any], int]:
    found: list[Any] = []
    at = _skip(text, at + 1)
    while text[at : at + 1] != "]":
        item, at = _value(text, at, raw_keys)
        found.append(item)
        at = _next(text, at, "]")
    return found, at + 1


def _next(text: str, at: int, closing: str) -> int:
    """Past the comma after an item, or on the closing bracket."""
    at = _skip(text, at)
    return at if text[at : at + 1] == closing else _skip(text, _expect(text, at, ","))


def _expect(text: str, at: int, what: str) -> int:
    if text[at : at + 1] != what:
        raise ValueError(f"{what!r} expected at {at}: {text[at : at + 40]!r}")
    return at + 1
