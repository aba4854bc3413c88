"""What an endpoint of the HTTP API is, and what its answers are; routing and the OpenAPI document come from the table.

Owns the values that pass between `site`, which speaks HTTP, and the handlers, which know none of it.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, get_type_hints

import attrs

from livesync_trio.access.client import Client
from livesync_trio.access.pages import Header
from livesync_trio.errors import RULES, Kind, Refusal
from livesync_trio.model import StoreId
from livesync_trio.openapi import Operation
from livesync_trio.openapi import Request as Asked
from livesync_trio.store.handle import StoreHandle
from livesync_trio.transport.http import HttpConnection, Request

if TYPE_CHECKING:
    from livesync_trio.api.server import ApiServer

JSON: Final = "application/json"
LINES: Final = "application/x-ndjson"
EVENT_STREAM: Final = "text/event-stream"
PROBLEM: Final = "application/problem+json"

_CONFLICTS: Final = {Kind.SERVER_AHEAD: 409, Kind.BACKEND_ID_MISMATCH: 409}
"""Refused for its name, or because the log has gone: an RPC answers these with 200."""


@attrs.frozen
class Call:
    """An admitted request for one store.

    Attributes:
        http: where it came from; its body is not read yet.
        request: its head.
        client: who asks, and what they may do.
        handle: the store.
        accepts: the media type of the answer, one of `Route.answers`.
        gzip: whether the answer may be compressed.
    """

    http: HttpConnection
    request: Request
    client: Client
    handle: StoreHandle
    accepts: str
    gzip: bool

    @property
    def store_id(self) -> StoreId:
        """The store's name."""
        return self.handle.store_id


@attrs.frozen
class Whole:
    """An answer that is there as a whole.

    Attributes:
        body: its bytes.
        status: HTTP status.
        etag: what names this state of the store; None: it has none.
        headers: more of them.
    """

    body: bytes
    status: int = 200
    etag: str | None = None
    headers: Sequence[Header] = ()


@attrs.frozen
class Parts:
    """An answer that is made as it goes.

    Attributes:
        parts: what is sent; a part is sent before the next one is made.
        headers: more of them.
    """

    parts: AsyncGenerator[bytes, None]
    headers: Sequence[Header] = ()


class CutShort(Exception):
    """The rest of an answer cannot be made: the connection is cut, so that nobody takes it for whole."""


Reply = Whole | Parts | Refusal
Handler = Callable[["ApiServer", Any, Call], Awaitable[Reply]]
"""Answers a request: the server, what its query asks (`Route.takes`), the request."""


@attrs.frozen(slots=False)
class Route(Operation):
    """One endpoint.

    Attributes:
        answers: structs of the JSON by media type; none where it is no JSON.
        bodies: the same for what is sent.
        headers: request headers that mean something here, as a struct.
        status: of an answer that is no refusal.
        refusals: kinds that are its own.
    """

    handler: Handler
    answers: Mapping[str, Sequence[type[Any]]]
    bodies: Mapping[str, Sequence[type[Any]]] = attrs.field(factory=dict)
    headers: type[Asked] | None = None
    status: int = 200
    refusals: Sequence[Kind] = ()

    @cached_property
    def takes(self) -> type[Asked]:
        """What the query may ask."""
        hints = get_type_hints(self.handler, localns={"ApiServer": object})
        found: type[Asked] = hints["asked"]
        return found


def status_of(kind: Kind) -> int:
    """HTTP status of a refusal."""
    status = _CONFLICTS.get(kind) or RULES[kind].http_status or 400
    return 400 if status == 200 else status
