"""From a request's query or body to what a handler is given; strict, so that a slip is told and not ignored."""

import msgspec

from livesync_trio.admin.declaring import Request, Route
from livesync_trio.errors import Kind, Refusal
from livesync_trio.model import RESERVED_STORES
from livesync_trio.openapi import query_values, read_query


def read(route: Route, query: bytes, body: bytes) -> Request | Refusal:
    """Read what is asked of a route, or say what about it is unknown, repeated, missing or not of its kind.

    Args:
        route: which.
        query: of the request's target, as it came.
        body: empty for a GET.
    """
    try:
        given = query_values(query.decode())
        if route.method == "GET":
            asked = read_query(route.takes, given)
        elif given:
            return refused(f"{route.path} takes no parameters; send a JSON object.")
        else:
            asked = msgspec.json.decode(body, type=route.takes)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return refused(f"The request cannot be understood: {str(error)[:200]}. See /api/v1/openapi.json.")
    if getattr(asked, "store_id", "").startswith(RESERVED_STORES):
        return refused(f"Stores under {RESERVED_STORES} are imports under way.")
    return asked


def refused(message: str) -> Refusal:
    """A request that cannot be understood."""
    return Refusal(Kind.BAD_PARAMETER, message)
