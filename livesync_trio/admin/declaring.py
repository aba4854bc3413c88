"""What an endpoint is: its path, what may be asked of it, what it answers.

Requests and answers are msgspec structs: the reading of a request, the JSON of an answer and the OpenAPI document come
from their annotations. Knows neither Quart nor Hypercorn.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args, get_type_hints

import attrs
from msgspec import Meta

from livesync_trio.errors import Refusal
from livesync_trio.limits import ADMIN_PAGE, ADMIN_PAGE_MAX, SEQ_NUM_MAX
from livesync_trio.openapi.structs import Answer as Answer
from livesync_trio.openapi.structs import Request as Request
from livesync_trio.openapi.structs import camel as camel

if TYPE_CHECKING:
    from livesync_trio.admin.server_view import ServerView

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"

_MOMENT: Final = {"format": "date-time"}

Time = Annotated[str, Meta(extra_json_schema=_MOMENT)]
StoreName = Annotated[str, Meta(min_length=1, description="The store, exactly as clients name it.")]
Limit = Annotated[int, Meta(ge=1, le=ADMIN_PAGE_MAX, description="Most entries of the answer.")]
AfterEvent = Annotated[
    int,
    Meta(ge=-SEQ_NUM_MAX, le=SEQ_NUM_MAX, description="Events behind this number only; what `next` said."),
]
PAGE: Final = ADMIN_PAGE


class Nothing(Request, frozen=True):
    """A request without parameters."""


@attrs.frozen
class Raw:
    """An answer that is no JSON, or is JSON already. `body` is sent byte for byte."""

    body: bytes
    content_type: str = JSON


@attrs.frozen
class Stream:
    """An answer without an end: server-sent events, as long as the client listens."""

    parts: AsyncGenerator[bytes, None]


@attrs.frozen
class Caller:
    """Who asks.

    Attributes:
        headers: names in lower case.
        address: from where, `host:port`.
        until_answered: what is given back when the answer has been sent, or cannot be.
    """

    headers: Mapping[str, str]
    address: str
    until_answered: ExitStack = attrs.field(factory=ExitStack)


Handler = Callable[["ServerView", Any, Caller], Awaitable[Answer | Raw | Stream | Refusal]]
"""Answers a request: the server, what is asked (`Route.takes`), who asks."""


@attrs.frozen(slots=False)
class Route:
    """One endpoint. What it takes and answers is what its handler is annotated with.

    Attributes:
        method: GET or POST.
        path: below the root of the control plane.
        handler: answers.
        content_type: of the answer.
    """

    method: Literal["GET", "POST"]
    path: str
    handler: Handler
    content_type: str = JSON

    @property
    def name(self) -> str:
        """`operationId` of the OpenAPI document."""
        return camel(self.handler.__name__)

    @property
    def meaning(self) -> str:
        """One sentence."""
        return (self.handler.__doc__ or "").partition("\n")[0]

    @cached_property
    def takes(self) -> type[Request]:
        """What may be asked."""
        _, takes, *_ = self._annotations().values()
        return takes  # type: ignore[no-any-return]

    @property
    def answers(self) -> type[Answer] | None:
        """What the answer is; None where it is not made from a struct."""
        answer = self._annotations()["return"]
        return next((kind for kind in get_args(answer) or (answer,) if issubclass(kind, Answer)), None)

    def _annotations(self) -> dict[str, Any]:
        return get_type_hints(self.handler)
