"""Where in a client's own trace a request stands: members of an RPC request (SPEC 3.2), or the header of HTTP.

What is not well-formed is as if it were not there: a trace is no reason to refuse anything.
"""

import re
from typing import Final

from livesync_trio.wire.messages import TraceContext

_TRACE_ID: Final = re.compile(rb'"([0-9a-f]{32})"')
_SPAN_ID: Final = re.compile(rb'"([0-9a-f]{16})"')
_HEADER: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16


def of_request(trace_id: bytes, span_id: bytes, sampled: bytes) -> TraceContext | None:
    """From the JSON texts of `traceId`, `spanId` and `sampled`, which may be empty. See `PushRequest.trace`."""
    trace, span = _TRACE_ID.fullmatch(trace_id), _SPAN_ID.fullmatch(span_id)
    if trace is None or span is None:
        return None
    return _usable(trace[1].decode(), span[1].decode(), sampled=sampled != b"false")


def of_header(traceparent: str) -> TraceContext | None:
    """From the header `traceparent` (W3C Trace Context, 3.2)."""
    found = _HEADER.fullmatch(traceparent.strip())
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    return _usable(found[2], found[3], sampled=bool(int(found[4], 16) & 1))


def _usable(trace_id: str, span_id: str, *, sampled: bool) -> TraceContext | None:
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id, span_id, sampled)
