"""HTTP/1.1 on one stream: heads, bodies and answers, on the sans-I/O protocol of `h11`.

Owns reading requests within their limits and writing answers. What is at which path is decided in `door`.
"""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Final

import attrs
import h11
import trio

from livesync_trio.errors import RULES, Kind
from livesync_trio.limits import HEADERS_MAX_BYTES, REQUEST_BODY_LIMIT_S, UNREAD_BODY_MAX_BYTES, WRITE_SLICE_BYTES
from livesync_trio.transport import direct

Headers = Iterable[tuple[str, str]]

_VERSIONS: Final = (b"1.1", b"1.0")
_ANSWERABLE: Final = (h11.IDLE, h11.SEND_RESPONSE)


class BadRequest(Exception):
    """The request cannot be read. `kind` gives the status."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(RULES[kind].meaning)
        self.kind = kind


@attrs.frozen
class Request:
    """A request's head.

    Attributes:
        method: upper case.
        target: path and query, as in the request line.
        headers: names in lower case; a repeated one's values are joined with `, `.
        raw_headers: as received, in order.
        http_version: `1.1` or `1.0`.
    """

    method: str
    target: str
    headers: dict[str, str]
    raw_headers: list[tuple[str, str]]
    http_version: str

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def wants_websocket(self) -> bool:
        """Whether the client asks for an upgrade to WebSocket."""
        return "websocket" in self.headers.get("upgrade", "").lower()


class HttpConnection:
    """One HTTP/1.1 connection, request after request."""

    def __init__(self, stream: trio.abc.Stream, stall_limit_s: float) -> None:
        """`stall_limit_s`: how long the peer may take no bytes of an answer."""
        self.stream = stream
        self._stall_limit_s = stall_limit_s
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADERS_MAX_BYTES)
        self._method = ""

    async def next_request(self, limit_s: float) -> Request | None:
        """Read the next head.

        Args:
            limit_s: how long it may take to arrive as a whole.

        Returns:
            The request; None when the peer has gone, or let the limit pass without sending a byte of one.

        Raises:
            BadRequest: malformed, too large, or begun and not finished within the limit.
        """
        with trio.move_on_after(limit_s):
            event = await self._next_event()
            if not isinstance(event, h11.Request):
                return None
            return self._check_head(event)
        if self._h11.trailing_data[0]:
            raise BadRequest(Kind.REQUEST_TIMEOUT)
        return None

    def _check_head(self, event: h11.Request) -> Request:
        raw = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers]
        headers: dict[str, str] = {}
        for name, value in raw:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if event.http_version not in _VERSIONS:
            raise BadRequest(Kind.BAD_HTTP)
        if "transfer-encoding" in headers and "content-length" in headers:
            raise BadRequest(Kind.BAD_HTTP)  # two lengths for one body: what smuggling is made of (RFC 9112, 6.1)
        self._method = event.method.decode("latin-1")
        return Request(self._method, event.target.decode("latin-1"), headers, raw, event.http_version.decode("latin-1"))

    async def read_body(self, max_bytes: int) -> bytes:
        """Read the body of the present request.

        Raises:
            BadRequest: larger than `max_bytes`, malformed, cut off, or not complete within its limit.
        """
        parts: list[bytes] = []
        size_bytes = 0
        with trio.move_on_after(REQUEST_BODY_LIMIT_S):
            while True:
                if self._h11.they_are_waiting_for_100_continue:
                    await self._send(self._h11.send(h11.InformationalResponse(status_code=100, headers=[])))
                event = await self._next_event()
                if isinstance(event, h11.EndOfMessage):
                    return b"".join(parts)
                if not isinstance(event, h11.Data):
                    raise BadRequest(Kind.BAD_HTTP)
                size_bytes += len(event.data)
                if size_bytes > max_bytes:
                    raise BadRequest(Kind.BODY_TOO_BIG)
                parts.append(bytes(event.data))
        raise BadRequest(Kind.REQUEST_TIMEOUT)

    async def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while True:
            try:
                event = self._h11.next_event()
                if event is h11.NEED_DATA:
                    self._h11.receive_data(await direct.receive(self.stream))
                    continue
            except h11.RemoteProtocolError as error:
                too_big = error.error_status_hint == 431
                raise BadRequest(Kind.HEADERS_TOO_BIG if too_big else Kind.BAD_HTTP) from None
            return event

    def take_leftover(self) -> bytes:
        """Bytes received behind the present request, for the protocol that takes over the stream."""
        return bytes(self._h11.trailing_data[0])

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer. A peer that has gone does not matter."""
        if self._h11.our_state not in _ANSWERABLE:
            return
        size = ("content-length", str(len(body)))
        data = self._h11.send(h11.Response(status_code=status, headers=_encoded([*headers, size])))
        if body and self._method != "HEAD":
            data = (data or b"") + (self._h11.send(h11.Data(data=body)) or b"")
        await self._send((data or b"") + (self._h11.send(h11.EndOfMessage()) or b""))

    async def answer_stream(self, status: int, headers: Headers, parts: AsyncGenerator[bytes, None]) -> None:
        """Send an answer whose length is not known before; chunked, or until the close for HTTP/1.0."""
        pending = self._h11.send(h11.Response(status_code=status, headers=_encoded(headers))) or b""
        async with aclosing(parts):
            async for part in parts:
                pending += self._h11.send(h11.Data(data=part)) or b""
                if len(pending) >= WRITE_SLICE_BYTES:
                    await self._send(pending)
                    pending = b""
                if self._h11.our_state is h11.ERROR:
                    return  # the peer has gone: the rest need not be read
        await self._send(pending + (self._h11.send(h11.EndOfMessage()) or b""))

    async def _send(self, data: bytes | None) -> None:
        try:
            if data:
                await direct.send(self.stream, data, self._stall_limit_s)
        except direct.PeerGone:
            self._h11.send_failed()

    async def ready_for_next(self) -> bool:
        """Prepare for the next request on this connection; False when there can be none.

        Reads what is left of a body that nobody wanted, if it is small and the client sends it without being asked.
        """
        if self._h11.their_state is h11.SEND_BODY and not self._h11.they_are_waiting_for_100_continue:
            try:
                await self.read_body(UNREAD_BODY_MAX_BYTES)
            except BadRequest:
                return False
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
            self._method = ""  # the next request may be too broken to have one: its answer has a body
            return True
        return False


def _encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    """As bytes, of which a header may repeat any that the client sent."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
