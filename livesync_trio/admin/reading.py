"""From a request's query or body to what a handler is given; strict, so that a slip is told and not ignored."""

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args
from urllib.parse import parse_qs

import msgspec

from livesync_trio.admin.declaring import Request, Route
from livesync_trio.admin.server_view import wire_time
from livesync_trio.errors import Kind, Refusal
from livesync_trio.model import RESERVED_STORES

_WHOLE: Final = re.compile(r"-?(0|[1-9][0-9]{0,15})", re.ASCII)


def read(route: Route, query: bytes, body: bytes) -> Request | Refusal:
    """Read what is asked of a route, or say what about it is unknown, repeated, missing or not of its kind.

    Args:
        route: which.
        query: of the request's target, as it came.
        body: empty for a GET.
    """
    try:
        given = parse_qs(query.decode(), keep_blank_values=True, errors="strict")
        if route.method == "GET":
            asked = msgspec.convert(_once(route.takes, given), route.takes)
        elif given:
            return refused(f"{route.path} takes no parameters; send a JSON object.")
        else:
            asked = msgspec.json.decode(body, type=route.takes)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return refused(f"The request cannot be understood: {str(error)[:200]}. See /api/v1/openapi.json.")
    if getattr(asked, "store_id", "").startswith(RESERVED_STORES):
        return refused(f"Stores under {RESERVED_STORES} are imports under way.")
    return asked


def _once(takes: type[Request], query: Mapping[str, Sequence[str]]) -> dict[str, str | int]:
    """The values that were given, numbers as numbers."""
    numbers = {field.encode_name for field in msgspec.structs.fields(takes) if _is_number(field.type)}
    values: dict[str, str | int] = {}
    for name, (text, *more) in query.items():
        if more:
            raise msgspec.ValidationError(f"`{name}` was given more than once")
        if text:
            values[name] = int(text) if name in numbers and _WHOLE.fullmatch(text) else text
    return values


def _is_number(kind: Any) -> bool:
    return kind is int or any(map(_is_number, get_args(kind)))


def moment_read(text: str) -> str:
    """A moment in ISO 8601 as the wire writes it; UTC unless it says otherwise. Raises ValueError when it is none."""
    try:
        at = datetime.datetime.fromisoformat(text)
        return wire_time(at if at.tzinfo is not None else at.replace(tzinfo=datetime.UTC))
    except (ValueError, OverflowError):
        raise ValueError("a moment must be written as in 2026-11-20T16:00:00Z") from None


def refused(message: str) -> Refusal:
    """A request that cannot be understood."""
    return Refusal(Kind.BAD_PARAMETER, message)
