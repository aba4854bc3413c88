"""What an endpoint is: its path, what may be asked of it, what it answers, and how a request for it is read.

Requests and answers are msgspec structs: the reading of a request, the JSON of an answer and the OpenAPI document come
from their annotations. Knows neither Quart nor Hypercorn.
"""

import enum
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args, get_type_hints

import attrs
import msgspec
from msgspec import Meta

from livesync_trio.errors import Kind, Refusal
from livesync_trio.limits import ADMIN_PAGE, ADMIN_PAGE_MAX, SEQ_NUM_MAX
from livesync_trio.model import RESERVED_STORES
from livesync_trio.openapi import Answer as Answer
from livesync_trio.openapi import Operation, query_values, read_query
from livesync_trio.openapi import Request as Request
from livesync_trio.openapi import camel as camel
from livesync_trio.operators.roles import Operator, Right, Role

if TYPE_CHECKING:
    from livesync_trio.admin.server_view import ServerView
    from livesync_trio.operators.sessions import Session

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"
JSON_LINES: Final = "application/jsonl"

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
    """An answer that is sent as it is made: server-sent events, or a file, as long as the client listens."""

    parts: AsyncGenerator[bytes, None]
    content_type: str = EVENT_STREAM


class CallerKind(enum.StrEnum):
    """By what somebody got in."""

    SECRET = "secret"  # noqa: S105 - a name
    """`ADMIN_SECRET`."""
    TOKEN = "token"  # noqa: S105 - a name
    """A token for programs."""
    SESSION = "session"
    """A browser's cookie."""
    NOBODY = "nobody"
    """Nobody got in, and nobody needs to: the page on which operators sign in."""


@attrs.frozen
class Caller:
    """Who asks.

    Attributes:
        headers: names in lower case.
        address: from where, `host:port`.
        kind: by what he, she or it got in.
        rights: what may be done.
        operator: who it is; None: a program with the secret, or one whose token was made with that.
        session: the browser's.
        secure: whether the browser speaks TLS, be it to a proxy in front.
        local: whether it is a user of this machine, at an address that nobody else reaches.
        until_answered: what is given back when the answer has been sent, or cannot be.
        answer_headers: what the answer is to carry besides its own.
    """

    headers: Mapping[str, str]
    address: str
    kind: CallerKind = CallerKind.SECRET
    rights: frozenset[Right] = frozenset(Right)
    operator: Operator | None = None
    session: "Session | None" = None
    secure: bool = False
    local: bool = False
    until_answered: ExitStack = attrs.field(factory=ExitStack)
    answer_headers: list[tuple[str, str]] = attrs.field(factory=list)

    @property
    def role(self) -> Role:
        """What the operator is; whoever has the secret is as good as an owner."""
        return Role.OWNER if self.operator is None else self.operator.role

    @property
    def user(self) -> str | None:
        """Who it is, for the record."""
        return None if self.operator is None else self.operator.email

    def may(self, right: Right | None) -> bool:
        """Whether something may be done; what asks for nothing, anybody may."""
        return right is None or right in self.rights


Handler = Callable[["ServerView", Any, Caller], Awaitable[Answer | Raw | Stream | Refusal]]
"""Answers a request: the server, what is asked (`Route.takes`), who asks."""


def _needs_of(route: "Route") -> Right:
    """What a route asks for that does not say: whoever only looks must never be able to change something."""
    return Right.LOOK if route.method == "GET" else Right.CHANGE


@attrs.frozen(slots=False)
class Route(Operation):
    """One endpoint. What it takes and answers is what its handler is annotated with.

    Attributes:
        content_type: of the answer.
        needs: what one must be allowed to: to look for a GET, to change for a POST, unless it says otherwise; None:
            nothing, strangers may ask.
        console: whether it is there with the console only.
    """

    handler: Handler
    content_type: str = JSON
    needs: Right | None = attrs.field(default=attrs.Factory(_needs_of, takes_self=True))
    console: bool = False

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
