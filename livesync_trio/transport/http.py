"""HTTP/1.1 on one stream: heads, bodies and answers, on the sans-I/O protocol of `h11`.

Owns reading requests within their limits and writing answers. What is at which path is decided in `door`.
"""

import functools
import re
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Final

import attrs
import h11
import trio

from livesync_trio.errors import RULES, Kind
from livesync_trio.limits import (
    HEADER_VALUE_SHARED_MAX_BYTES,
    HEADER_VALUES_SHARED,
    HEADERS_MAX_BYTES,
    REQUEST_BODY_LIMIT_S,
    UNREAD_BODY_MAX_BYTES,
    WRITE_SLICE_BYTES,
)
from livesync_trio.telemetry import Traffic
from livesync_trio.transport import direct

Headers = Iterable[tuple[str, str]]

_VERSIONS: Final = (b"1.1", b"1.0")
_ALIKE: Final = {
    name.encode(): name
    for name in (  # noqa: SIM905 - a line for each would be a page
        "accept accept-encoding accept-language cache-control connection content-type host origin pragma "
        "sec-fetch-dest sec-fetch-mode sec-fetch-site sec-websocket-extensions sec-websocket-version upgrade user-agent"
    ).split()
}
"""Headers that most connections send with the same value. Connections keep their headers for the hooks: one text serves
all of them."""
_ABSOLUTE: Final = re.compile(r"(?i:https?)://([^/?#]*)")
_UNAUTHORIZED: Final = 401
_HOW_TO_AUTHENTICATE: Final = ("www-authenticate", "Bearer")
"""What a 401 must say (RFC 9110, 15.5.2). Browsers ask nobody for a password because of it."""
_MAX_DIGITS: Final = 20
"""Of a length that is looked at; a longer number is more than anything that is taken."""
_CHUNKS_AT_ONCE: Final = 16
"""Parts of a body that are taken before others have a turn."""
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
        target: path and query, as in the request line; of an absolute URL there, those of the URL.
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

    def body_bytes(self, most: int) -> int:
        """For how large a body there must be room, by what the head says; `most`: more is not taken."""
        said = self.headers.get("content-length", "")
        return min(int(said), most) if said.isascii() and said.isdigit() and len(said) < _MAX_DIGITS else most

    @property
    def wants_websocket(self) -> bool:
        """Whether the client asks for an upgrade to WebSocket."""
        return "websocket" in self.headers.get("upgrade", "").lower()


class HttpConnection:
    """One HTTP/1.1 connection, request after request."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        stall_limit_s: float,
        traffic: Traffic | None = None,
        turns: trio.Semaphore | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            stream: what is spoken over.
            stall_limit_s: how long the peer may take no bytes of an answer.
            traffic: where bytes are counted.
            turns: acquired around the work on each head, so that of many connections that speak at once only so many
                are attended to in one turn of the event loop, and others have theirs in between.
        """
        self.stream = stream
        self._turns = turns or trio.Semaphore(1)
        self._traffic = traffic or Traffic()
        self._stall_limit_s = stall_limit_s
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADERS_MAX_BYTES)
        self._method = ""
        self.is_last = False
        """Whether the present answer is the last on this connection, and says so."""
        self._begun = b""
        self._chunked = False

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
            event = await self._next_head()
            if not isinstance(event, h11.Request):
                return None
            return self._check_head(event)
        if self._h11.trailing_data[0]:
            raise BadRequest(Kind.REQUEST_TIMEOUT)
        return None

    def _check_head(self, event: h11.Request) -> Request:
        raw = [_decoded(name, value) for name, value in event.headers]
        headers: dict[str, str] = {}
        for name, value in raw:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if event.http_version not in _VERSIONS:
            raise BadRequest(Kind.BAD_HTTP)
        if "transfer-encoding" in headers and "content-length" in headers:
            raise BadRequest(Kind.BAD_HTTP)  # two lengths for one body: what smuggling is made of (RFC 9112, 6.1)
        self._method = event.method.decode("latin-1")
        target = event.target.decode("latin-1")
        absolute = _ABSOLUTE.match(target)
        if absolute is not None:  # a server takes it whoever sends it, and it overrides Host (RFC 9112, 3.2.2)
            headers["host"] = absolute[1].rpartition("@")[2]
            rest = target[absolute.end() :]
            target = rest if rest.startswith("/") else f"/{rest}"
        return Request(self._method, target, headers, raw, event.http_version.decode("latin-1"))

    async def read_body(self, max_bytes: int, keep_bytes: int | None = None) -> bytes:
        """Read the body of the present request.

        Args:
            max_bytes: its largest size.
            keep_bytes: how much of its beginning is kept and returned; None for all of it.

        Raises:
            BadRequest: larger than `max_bytes`, malformed, cut off, or not complete within its limit.
        """
        body, size, chunks = bytearray(), 0, 0
        keep_bytes = max_bytes if keep_bytes is None else keep_bytes
        with trio.move_on_after(REQUEST_BODY_LIMIT_S):
            while True:
                if self._h11.they_are_waiting_for_100_continue:
                    await self._send(self._h11.send(h11.InformationalResponse(status_code=100, headers=[])))
                event = await self._next_event()
                if isinstance(event, h11.EndOfMessage):
                    return bytes(body)
                if not isinstance(event, h11.Data):
                    raise BadRequest(Kind.BAD_HTTP)
                size += len(event.data)
                if size > max_bytes:
                    raise BadRequest(Kind.BODY_TOO_BIG)
                body += event.data[: keep_bytes - len(body)]  # not a list of them: a chunk may be one byte
                chunks += 1
                if chunks % _CHUNKS_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()  # one read may bring ten thousand
        raise BadRequest(Kind.REQUEST_TIMEOUT)

    async def _next_head(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next event where a request begins. Always a checkpoint: one read may bring thousands of requests."""
        event: h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED] = h11.NEED_DATA
        if any(self._h11.trailing_data):  # a request was sent behind the last one
            async with self._turns:
                event = self._event()
        while event is h11.NEED_DATA:
            data = await direct.receive(self.stream)
            async with self._turns:
                self._feed(data)
                event = self._event()
        return event

    async def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next event within a request."""
        while (event := self._event()) is h11.NEED_DATA:
            self._feed(await direct.receive(self.stream))
        return event

    def _feed(self, data: bytes) -> None:
        """Take what has arrived; no bytes are the end."""
        self._traffic.received_bytes += len(data)
        try:
            self._h11.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise _bad_request(error) from None

    def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as error:
            raise _bad_request(error) from None

    def take_leftover(self) -> bytes:
        """Bytes received behind the present request, for the protocol that takes over the stream."""
        return bytes(self._h11.trailing_data[0])

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer. A peer that has gone does not matter."""
        if self._h11.our_state not in _ANSWERABLE:
            return
        size = ("content-length", str(len(body)))
        if self.is_last:
            headers = [*headers, ("connection", "close")]
        if status == _UNAUTHORIZED:
            headers = [*headers, _HOW_TO_AUTHENTICATE]
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

    # An answer in pieces, for who makes it as it goes (`asgi`): `begin_answer`, then `send_part` until the last.

    def begin_answer(self, status: int, headers: Headers) -> None:
        """Begin an answer, whose length is not known; sent together with its first part."""
        self._chunked = self._h11.their_http_version == b"1.1"  # as h11 decides
        self._begun = self._h11.send(h11.Response(status_code=status, headers=_encoded(headers))) or b""

    async def send_part(self, data: bytes, *, last: bool) -> None:
        """Send a part at once. A peer that has gone does not matter: see `broken`."""
        if self.broken:
            return
        pending, self._begun = self._begun, b""
        if data and self._method != "HEAD":
            pending += self._h11.send(h11.Data(data=data)) or b""
        if last:
            pending += self._h11.send(h11.EndOfMessage()) or b""
        await self._send(pending)

    @property
    def sends_at_once(self) -> bool:
        """Whether `send_part_now` can send anything: not where bytes are made anew for each connection, as by TLS."""
        return isinstance(self.stream, trio.SocketStream)

    def send_part_now(self, data: bytes) -> bool:
        """Send of a part what the kernel takes without waiting.

        h11 is not asked: to frame a chunk changes nothing in it (RFC 9112, 7.1).

        Returns:
            Whether everything has gone. If not, `send_part` must be called, with no bytes or more: it sends the rest.
        """
        framed = b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
        if self._begun or self.broken:
            self._begun += framed
            return False
        try:
            self._begun = bytes(direct.send_now(self.stream, framed))
        except direct.PeerGone:
            self._h11.send_failed()
        self._traffic.sent_bytes += len(framed) - len(self._begun)
        return not self._begun and not self.broken

    @property
    def broken(self) -> bool:
        """Whether the peer has gone in the middle of an answer."""
        return self._h11.our_state is h11.ERROR

    async def _send(self, data: bytes | None) -> None:
        try:
            if data:
                self._traffic.sent_bytes += len(data)
                await direct.send(self.stream, data, self._stall_limit_s)
        except direct.PeerGone:
            self._h11.send_failed()

    async def ready_for_next(self) -> bool:
        """Prepare for the next request on this connection; False when there can be none.

        Reads what is left of a body that nobody wanted, if it is small and the client sends it without being asked.
        """
        if self._h11.their_state is h11.SEND_BODY and not self._h11.they_are_waiting_for_100_continue:
            try:
                await self.read_body(UNREAD_BODY_MAX_BYTES, keep_bytes=0)
            except BadRequest:
                return False
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
            self._method = ""  # the next request may be too broken to have one: its answer has a body
            return True
        return False


def _bad_request(error: h11.RemoteProtocolError) -> BadRequest:
    return BadRequest(Kind.HEADERS_TOO_BIG if error.error_status_hint == 431 else Kind.BAD_HTTP)


def _decoded(name: bytes, value: bytes) -> tuple[str, str]:
    alike = _ALIKE.get(name) if len(value) <= HEADER_VALUE_SHARED_MAX_BYTES else None
    return (name.decode("latin-1"), value.decode("latin-1")) if alike is None else (alike, _shared_text(value))


@functools.lru_cache(maxsize=HEADER_VALUES_SHARED)
def _shared_text(value: bytes) -> str:
    return value.decode("latin-1")


def _encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    """As bytes, of which a header may repeat any that the client sent."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
