"""What a server can say to a client, in one vocabulary for all generations; and an event as a client has it.

Owns frozen values; `client_rpc` (0.4 over WebSocket and HTTP) and `client_v3` (0.3) read bytes into them.
"""

import json
from collections.abc import Callable
from typing import Any, Final

import attrs
import msgspec
from msgspec import Raw

from livesync_trio.errors import Refusal
from livesync_trio.wire.events import EventShape, take_batch
from livesync_trio.wire.reading import Restore, plain


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event as a client pushes and pulls it.

    Attributes:
        seq_num: its number, |n| <= 2**53-1.
        parent_seq_num: number of the event before it, 0 at the root.
        name: what it is called, such as `v1.TodoCreated`.
        args: its arguments as JSON text in UTF-8, verbatim.
        client_id: the client that made it.
        session_id: the client's session.
        created_at: when the server took it, `YYYY-MM-DDTHH:MM:SS.mmmZ`; None for an event that was not pulled.
    """

    seq_num: int
    parent_seq_num: int
    name: str
    args: bytes = b"null"
    client_id: str = ""
    session_id: str = ""
    created_at: str | None = None

    def is_same(self, other: "Event") -> bool:
        """Whether both are one event, as far as a server keeps it: `args` may be written in another way."""
        ours = (self.seq_num, self.parent_seq_num, self.name, self.client_id, self.session_id)
        theirs = (other.seq_num, other.parent_seq_num, other.name, other.client_id, other.session_id)
        return ours == theirs and (self.args == other.args or _as_javascript(self.args) == _as_javascript(other.args))

    @property
    def json(self) -> bytes:
        """The event as it stands in a push (SPEC section 1)."""
        return b'{"name":%b,"args":%b,"seqNum":%d,"parentSeqNum":%d,"clientId":%b,"sessionId":%b}' % (
            text_of(self.name),
            self.args,
            self.seq_num,
            self.parent_seq_num,
            text_of(self.client_id),
            text_of(self.session_id),
        )


def text_of(value: Any) -> bytes:
    """A value as JSON text. Strings may hold lone surrogates, which only escapes can carry."""
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError):
        return json.dumps(value, separators=(",", ":")).encode()


def _as_javascript(text: bytes) -> Any:
    """What JavaScript makes of a JSON text: every number is a double (SPEC section 1)."""
    try:
        return json.loads(text, parse_int=float)
    except (ValueError, RecursionError):
        return text


@attrs.frozen
class PulledPage:
    """A page as it came.

    Attributes:
        events: in the order in which they stand on it; nothing is promised of that order.
        remaining: events of the answer that follow after this page.
        backend_id: identity of the store; None where the generation has none (0.3).
        asked_for: whether it answers a pull; False for a broadcast that goes to everybody (0.3).
    """

    events: list[Event]
    remaining: int
    backend_id: str | None = None
    asked_for: bool = True


@attrs.frozen
class Alive:
    """A sign of life and nothing else."""


@attrs.frozen
class Pages:
    """One page or more.

    Attributes:
        request_id: the pull that they answer; None for a broadcast (0.3).
        size_bytes: of their text.
        read: reads them; raises Unreadable. What comes in is read when it is wanted, and takes less memory till then.
    """

    request_id: str | None
    size_bytes: int
    read: Callable[[], list[PulledPage]]


@attrs.frozen
class Done:
    """The end of a request.

    Attributes:
        request_id: which.
        refusal: why it failed, None when it succeeded.
    """

    request_id: str
    refusal: Refusal | None = None


@attrs.frozen
class Unusable:
    """Nothing that can be followed: the connection is of no use any more. `message` says what came."""

    message: str


Answer = Alive | Pages | Done | Unusable

ALIVE: Final = Alive()


class _CreatedAt(msgspec.Struct, frozen=True):
    createdAt: str  # noqa: N815 -- the wire's names


class _Metadata(msgspec.Struct, frozen=True):
    value: _CreatedAt | None = None


class _WireEvent(msgspec.Struct, gc=False):
    name: str
    seqNum: int  # noqa: N815
    parentSeqNum: int  # noqa: N815
    clientId: str  # noqa: N815
    sessionId: str  # noqa: N815
    args: Raw = Raw(b"null")


class PageItem(msgspec.Struct):
    """An event on a page, as every real server writes it."""

    eventEncoded: _WireEvent  # noqa: N815
    metadata: _Metadata = _Metadata()

    def event(self) -> Event:
        """As a client has it."""
        wire, when = self.eventEncoded, self.metadata.value
        return Event(
            wire.seqNum,
            wire.parentSeqNum,
            wire.name,
            bytes(wire.args),
            wire.clientId,
            wire.sessionId,
            None if when is None else when.createdAt,
        )


class HardPageItem(msgspec.Struct):
    """The same for strings that no UTF-8 has (lone surrogates), and numbers written as `1.0`."""

    eventEncoded: EventShape  # noqa: N815
    metadata: _Metadata = _Metadata()

    def event(self, restore: Restore) -> Event:
        """As a client has it. Raises Unreadable."""
        shape, when = self.eventEncoded, self.metadata.value
        [taken] = take_batch([shape], restore)  # checks the numbers and that strings are strings
        name, client_id, session_id = (
            plain(restore(member)) for member in (shape.name, shape.clientId, shape.sessionId)
        )
        return Event(
            taken.seq_num,
            taken.parent_seq_num,
            name,
            restore(shape.args),
            client_id,
            session_id,
            None if when is None else when.createdAt,
        )
