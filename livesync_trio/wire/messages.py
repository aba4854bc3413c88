"""What a client can say, in one vocabulary for all generations.

Owns frozen values; the codecs `rpc` (0.4 and next) and `v3` (0.3) read bytes into them. Where in a client's own trace a
request stands is read here, too: what is not well-formed is as if it were not there, no reason to refuse anything.
"""

import enum
import re
from typing import Final

import attrs
import msgspec

from livesync_trio.errors import Kind
from livesync_trio.limits import REQUEST_ID_MAX_BYTES
from livesync_trio.model import Event


class Generation(enum.StrEnum):
    """Client generations (SPEC, introduction)."""

    V3 = "0.3"
    V4 = "0.4"
    NEXT = "next"
    PLAIN = "plain"
    """Programs that are no LiveStore clients, by the HTTP API or its WebSocket."""


class RequestId(msgspec.Struct, frozen=True, gc=False):
    """Id of a request, to be echoed exactly as it came (SPEC section 4).

    Attributes:
        json: the JSON text of the id: `"7"` with quotes in 0.3 and 0.4, `7` in next.
        generation: what the JSON type says about the client.
    """

    json: bytes
    generation: Generation

    @property
    def text(self) -> str:
        """The id without quotes, for the log; no more of it than an id may have."""
        return self.json[:REQUEST_ID_MAX_BYTES].decode(errors="replace").strip('"')


@attrs.frozen
class TraceContext:
    """Where in its client's trace a request stands.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 of them: the client's span that waits for the answer.
        sampled: whether the client records this trace.
    """

    trace_id: str
    span_id: str
    sampled: bool


@attrs.frozen
class PullRequest:
    """Ask for history after `cursor`, and with `live` for everything after it too.

    Attributes:
        id: request id.
        store_id: store named in the payload, None where the generation names none (0.3).
        payload: the application's payload as JSON text, None when absent.
        live: whether the pull stays open (SPEC 3.3); always true in 0.3 (SPEC 5.3).
        after: the last event the client has, 0 for none; never negative.
        backend_id: identity the client remembers, None if none.
    """

    id: RequestId
    store_id: str | None
    payload: bytes | None
    live: bool
    after: int
    backend_id: str | None


class PushRequest(msgspec.Struct, frozen=True, gc=False):
    """Append a batch.

    Attributes:
        id: request id.
        store_id: store named in the payload, None where the generation names none (0.3).
        payload: the application's payload as JSON text, None when absent.
        events: the batch, possibly empty.
        backend_id: identity the client remembers, None if none.
        trace: where in the client's trace it stands, for `trace_of_request` if anybody wants to know: JSON
            texts of `traceId`, `spanId` and `sampled` (empty where it is missing); None if it does not say.
    """

    id: RequestId
    store_id: str | None
    payload: bytes | None
    events: tuple[Event, ...]
    backend_id: str | None
    trace: tuple[bytes, bytes, bytes] | None = None


@attrs.frozen
class PingRequest:
    """HTTP ping: an RPC with an answer of its own (SPEC 3.7)."""

    id: RequestId
    store_id: str | None


@attrs.frozen
class Ping:
    """Sign of life of a WebSocket client; `id` is the 0.3 request id, None in 0.4 and next."""

    id: bytes | None = None


@attrs.frozen
class Ack:
    """A chunk arrived (SPEC 3.3). Not needed, but the sign of an orphaned pull (SPEC 3.6)."""

    id: RequestId


@attrs.frozen
class Interrupt:
    """The client gave up a request (SPEC 3.3)."""

    id: RequestId


@attrs.frozen
class Eof:
    """The client will ask nothing more; never sent by the real one (SPEC 3.2)."""


@attrs.frozen
class AdminReset:
    """0.3: give the room a new, empty log (SPEC 5.2)."""

    id: RequestId
    secret: str


@attrs.frozen
class AdminInfo:
    """0.3: which durable object is this (SPEC 5.2)."""

    id: RequestId
    secret: str


@attrs.frozen
class Invalid:
    """A request that can be answered by its id, but not served.

    Attributes:
        id: request id.
        kind: row of `errors.RULES`.
        message: what is wrong with it, fit for the sender.
    """

    id: RequestId
    kind: Kind
    message: str


@attrs.frozen
class Unintelligible:
    """A message that cannot be answered at all: no readable tag or id."""

    message: str


Message = (
    PullRequest
    | PushRequest
    | PingRequest
    | Ping
    | Ack
    | Interrupt
    | Eof
    | AdminReset
    | AdminInfo
    | Invalid
    | Unintelligible
)

PING: Final = Ping()
EOF: Final = Eof()


_TRACE_ID: Final = re.compile(rb'"([0-9a-f]{32})"')
_SPAN_ID: Final = re.compile(rb'"([0-9a-f]{16})"')
_HEADER: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16


def trace_of_request(trace_id: bytes, span_id: bytes, sampled: bytes) -> TraceContext | None:
    """From the JSON texts of `traceId`, `spanId` and `sampled`, which may be empty. See `PushRequest.trace`."""
    trace, span = _TRACE_ID.fullmatch(trace_id), _SPAN_ID.fullmatch(span_id)
    if trace is None or span is None:
        return None
    return _usable(trace[1].decode(), span[1].decode(), sampled=sampled != b"false")


def trace_of_header(traceparent: str) -> TraceContext | None:
    """From the header `traceparent` (W3C Trace Context, 3.2)."""
    found = _HEADER.fullmatch(traceparent.strip())
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    return _usable(found[2], found[3], sampled=bool(int(found[4], 16) & 1))


def _usable(trace_id: str, span_id: str, *, sampled: bool) -> TraceContext | None:
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id, span_id, sampled)
