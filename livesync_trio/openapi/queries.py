"""From the query of a request to a struct; strict, so that a slip is told and not ignored."""

import datetime
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, get_args
from urllib.parse import parse_qs

import msgspec

from livesync_trio.openapi.structs import Request

_WHOLE: Final = re.compile(r"-?(0|[1-9][0-9]{0,15})", re.ASCII)

R = TypeVar("R", bound=Request)


def query_values(query: str) -> dict[str, list[str]]:
    """The parameters of a query. Raises ValueError."""
    return parse_qs(query, keep_blank_values=True, errors="strict")


def asked(takes: type[R], given: Mapping[str, Sequence[str]]) -> R:
    """What a query asks, numbers as numbers.

    Raises:
        ValueError: a parameter is unknown, repeated, missing or not of its kind.
    """
    numbers = _numbers(takes)
    values: dict[str, str | int] = {}
    for name, (text, *more) in given.items():
        if more:
            raise msgspec.ValidationError(f"`{name}` was given more than once")
        if text:
            values[name] = int(text) if name in numbers and _WHOLE.fullmatch(text) else text
    return msgspec.convert(values, takes)


@functools.cache
def _numbers(takes: type[Request]) -> frozenset[str]:
    """The parameters that are numbers."""
    return frozenset(field.encode_name for field in msgspec.structs.fields(takes) if _is_number(field.type))


def _is_number(kind: Any) -> bool:
    return kind is int or any(map(_is_number, get_args(kind)))


def moment_read(text: str) -> str:
    """A moment in ISO 8601 as the wire writes it; UTC unless it says otherwise. Raises ValueError when it is none."""
    try:
        at = datetime.datetime.fromisoformat(text)
        return wire_time(at if at.tzinfo is not None else at.replace(tzinfo=datetime.UTC))
    except (ValueError, OverflowError):
        raise ValueError("a moment must be written as in 2026-11-20T16:00:00Z") from None


def wire_time(at: datetime.datetime) -> str:
    """A moment of the calendar as the wire writes it, `YYYY-MM-DDTHH:MM:SS.mmmZ`."""
    return f"{at.astimezone(datetime.UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
