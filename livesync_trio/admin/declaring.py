"""What an endpoint is: its path, what may be asked of it, what it answers.

Owns the values of which the table in `routes` is made; routing, the reading of parameters and the OpenAPI document all
come from that one table. Knows neither Quart nor Hypercorn.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import attrs

from livesync_trio.errors import Refusal

if TYPE_CHECKING:
    from livesync_trio.admin.rooms import Rooms

Schema = Mapping[str, Any]
"""A JSON schema, as OpenAPI 3.1 has them."""

JSON = "application/json"
EVENT_STREAM = "text/event-stream"


@attrs.frozen
class Parameter:
    """Something that may stand in the query of a request.

    Attributes:
        name: as on the wire.
        meaning: one sentence.
        kind: a text, a whole number, or a moment in ISO 8601.
        required: whether it must be given.
        default: what counts when it is not given.
        low: least number accepted.
        high: greatest number accepted.
    """

    name: str
    meaning: str
    kind: Literal["text", "number", "time"] = "text"
    required: bool = False
    default: int | None = None
    low: int = 0
    high: int | None = None


@attrs.frozen
class Answer:
    """A whole answer. `body` is what is sent, byte for byte."""

    body: bytes
    content_type: str = JSON


@attrs.frozen
class Stream:
    """An answer without an end: server-sent events, as long as the client listens."""

    parts: AsyncGenerator[bytes, None]


@attrs.frozen
class Asked:
    """A request, understood.

    Attributes:
        parameters: by name; None where one was not given and has no default.
        body: the members of the JSON body; empty where the route takes none.
        headers: names in lower case.
        address: from where, `host:port`.
    """

    parameters: Mapping[str, Any]
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    address: str

    def text(self, name: str) -> str | None:
        """A text or a moment."""
        value: str | None = self.parameters[name]
        return value

    def number(self, name: str) -> int | None:
        """A whole number."""
        value: int | None = self.parameters[name]
        return value


Handler = Callable[["Rooms", Asked], Awaitable[Answer | Stream | Refusal]]


@attrs.frozen
class Route:
    """One endpoint.

    Attributes:
        method: GET or POST.
        path: below the root of the control plane.
        name: `operationId` of the OpenAPI document.
        meaning: one sentence.
        handler: answers.
        answers: schema of the answer, None where it is no JSON.
        parameters: what its query may hold.
        body: JSON type (`string`, `integer`) of each member its body must have; None: it takes no body.
        content_type: of the answer.
        audited: the act under which it is recorded, None for what changes nothing.
    """

    method: Literal["GET", "POST"]
    path: str
    name: str
    meaning: str
    handler: Handler
    answers: Schema | None = None
    parameters: tuple[Parameter, ...] = ()
    body: Mapping[str, Literal["string", "integer"]] | None = None
    content_type: str = JSON
    audited: str | None = None
