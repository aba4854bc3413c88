"""From a request's query and body to what a handler is given; strict, so that a slip is told and not ignored."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from livesync_trio.admin.declaring import Parameter, Route
from livesync_trio.admin.rooms import wire_time
from livesync_trio.errors import Kind, Refusal
from livesync_trio.model import RESERVED_STORES

_TYPES: Mapping[str, type] = {"string": str, "integer": int}


def parameters(route: Route, query: Mapping[str, Sequence[str]]) -> dict[str, Any] | Refusal:
    """Read the query of a request.

    Args:
        route: whose parameters count.
        query: all values by name.

    Returns:
        A value for each parameter of the route; or a refusal of the first that is unknown, repeated, missing or not of
        its kind.
    """
    known = {parameter.name: parameter for parameter in route.parameters}
    for name, given in query.items():
        if name not in known:
            takes = f"takes {', '.join(known)}" if known else "takes none"
            return refused(f"There is no parameter `{name[:60]}` here: {route.path} {takes}.")
        if len(given) > 1:
            return refused(f"`{name}` was given more than once.")
    values: dict[str, Any] = {}
    for parameter in route.parameters:
        found = _value(parameter, next(iter(query.get(parameter.name, ())), ""))
        if isinstance(found, Refusal):
            return found
        values[parameter.name] = found
    return _reserved(values) or values


def _value(parameter: Parameter, text: str) -> str | int | Refusal | None:
    if not text:
        return refused(f"`{parameter.name}` is missing.") if parameter.required else parameter.default
    match parameter.kind:
        case "number":
            return _number(parameter, text)
        case "time":
            return _time(parameter, text)
        case _:
            return text


def _number(parameter: Parameter, text: str) -> int | Refusal:
    low, high = parameter.low, parameter.high
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) <= 16:
        number = int(text)
        if number >= low and (high is None or number <= high):
            return number
    return refused(f"`{parameter.name}` must be a whole number from {low}{'' if high is None else f' to {high}'}.")


def _time(parameter: Parameter, text: str) -> str | Refusal:
    try:
        at = datetime.datetime.fromisoformat(text)
        return wire_time(at if at.tzinfo is not None else at.replace(tzinfo=datetime.UTC))
    except (ValueError, OverflowError):
        return refused(f"`{parameter.name}` must be a moment such as 2026-11-20T16:00:00Z.")


def body(route: Route, data: bytes) -> dict[str, Any] | Refusal:
    """Read the body of a request; empty for a route that takes none, whatever was sent."""
    if route.body is None:
        return {}
    try:
        members = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return refused(f"The body must be a JSON object with {_listed(route.body)}.")
    if members.keys() != route.body.keys() or any(
        type(members[name]) is not _TYPES[kind] for name, kind in route.body.items()
    ):
        return refused(f"The body must have {_listed(route.body)}, and nothing else.")
    return _reserved(members) or members


def _reserved(given: Mapping[str, Any]) -> Refusal | None:
    """Whether what was given names a store that is an import under way."""
    if str(given.get("storeId") or "").startswith(RESERVED_STORES):
        return refused(f"Stores under {RESERVED_STORES} are imports under way.")
    return None


def _listed(members: Mapping[str, str]) -> str:
    return " and ".join(f"`{name}` ({kind})" for name, kind in members.items())


def refused(message: str) -> Refusal:
    """A request that cannot be understood."""
    return Refusal(Kind.BAD_PARAMETER, message)
