"""The raw client side: one WebSocket or one HTTP exchange over a Trio stream, with nothing between the test and the
bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11
import trio
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

RECEIVE_BYTES = 256 * 1024
NOT_REPLAYED = frozenset(
    {"host", "connection", "upgrade", "content-length", "transfer-encoding", "accept-encoding", "user-agent"}
    | {f"sec-websocket-{name}" for name in ("key", "version", "extensions", "protocol", "accept")}
)
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Target:
    """The server under test, for example ``http://127.0.0.1:8000``."""

    url: str

    async def connect(self) -> trio.SocketStream:
        parts = urlsplit(self.url)
        return await trio.open_tcp_stream(parts.hostname or "127.0.0.1", parts.port or 80)

    @property
    def authority(self) -> str:
        return urlsplit(self.url).netloc


class Refused(Exception):
    """The handshake was answered with something else than 101."""

    def __init__(self, status: int, headers: dict[str, str], body: str) -> None:
        super().__init__(f"{status} {body[:200]}")
        self.status = status
        self.headers = headers
        self.body = body


class WebSocketPeer:
    """One open WebSocket. ``run`` reads until the end and tells ``on_text`` every message, ``on_end`` that it is
    over."""

    def __init__(self, stream: trio.SocketStream, protocol: ClientProtocol) -> None:
        self._stream = stream
        self._protocol = protocol
        self._fragments: list[bytes] = []
        self._sending = trio.Lock()
        self.ended = False
        self.close_code: int | None = None

    @classmethod
    async def open(cls, target: Target, path: str, headers: Headers) -> WebSocketPeer:
        """Shake hands; raises :class:`Refused` with what the server answered."""
        protocol = ClientProtocol(parse_uri(f"ws://{target.authority}{path}"), max_size=None)
        request = protocol.connect()
        request.path = path
        for name, value in headers:
            if name not in NOT_REPLAYED:
                request.headers[name] = value
        protocol.send_request(request)
        peer = cls(await target.connect(), protocol)
        try:
            await peer._flush()
            while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
                await peer._receive()
            if isinstance(protocol.handshake_exc, InvalidStatus):
                raise refusal(protocol.handshake_exc.response)
            if protocol.handshake_exc is not None:
                raise protocol.handshake_exc
        except BaseException:
            await peer.drop()
            raise
        return peer

    async def run(self, on_text: Callable[[str], None], on_end: Callable[[], None]) -> None:
        """Read until the connection is over. Pings of the server are answered on the way."""
        try:
            while True:
                for event in self._protocol.events_received():
                    if isinstance(event, Frame):
                        self._take(event, on_text)
                if self._protocol.close_expected() and self._protocol.close_rcvd is not None:
                    break
                if not await self._receive():
                    break
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            received = self._protocol.close_rcvd
            self.close_code = received.code if received else None
            self.ended = True
            on_end()
            await self.drop()

    def _take(self, frame: Frame, on_text: Callable[[str], None]) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._fragments.append(bytes(frame.data))
            if frame.fin:
                message = b"".join(self._fragments)
                self._fragments.clear()
                on_text(message.decode())

    async def send(self, data: str | bytes) -> None:
        if isinstance(data, str):
            self._protocol.send_text(data.encode())
        else:
            self._protocol.send_binary(data)
        await self._flush()

    async def close(self, code: int) -> None:
        """Send a Close frame (1005: without a code). ``run`` ends when the server has answered it."""
        if code == 1005:
            self._protocol.send_close()
        else:
            self._protocol.send_close(code)
        await self._flush()

    async def drop(self) -> None:
        """Tear the connection off."""
        await trio.aclose_forcefully(self._stream)

    async def _receive(self) -> bool:
        data = await self._stream.receive_some(RECEIVE_BYTES)
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        await self._flush()
        return bool(data)

    async def _flush(self) -> None:
        async with self._sending:
            for data in self._protocol.data_to_send():
                if data:
                    await self._stream.send_all(data)


def refusal(response: Response) -> Refused:
    body = response.body.decode("utf-8", "replace") if response.body else ""
    return Refused(response.status_code, {key.lower(): value for key, value in response.headers.raw_items()}, body)


def is_answer_to(sent: int, received: int | None) -> bool:
    """Whether a received close code answers the sent one: the same, or for a Close without code none or 1000."""
    return received == sent or (sent == 1005 and received in (1000, 1005))


@dataclass(frozen=True)
class HttpAnswer:
    """A complete HTTP response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: str


async def http_exchange(target: Target, method: str, path: str, headers: Headers, body: str) -> HttpAnswer:
    """One request on a connection of its own."""
    data = body.encode()
    fields = [(name, value) for name, value in headers if name not in NOT_REPLAYED]
    fields += [("host", target.authority), ("connection", "close")]
    if data or method in ("POST", "PUT"):
        fields.append(("content-length", str(len(data))))
    connection = h11.Connection(h11.CLIENT)
    stream = await target.connect()
    async with stream:
        outgoing = connection.send(h11.Request(method=method, target=path, headers=fields)) or b""
        outgoing += (connection.send(h11.Data(data=data)) or b"") if data else b""
        await stream.send_all(outgoing + (connection.send(h11.EndOfMessage()) or b""))
        head: h11.Response | None = None
        chunks: list[bytes] = []
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(RECEIVE_BYTES))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                chunks.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                break
    if head is None:
        raise ConnectionError(f"no answer to {method} {path}")
    return HttpAnswer(
        head.status_code,
        {k.decode(): v.decode("latin-1") for k, v in head.headers},
        b"".join(chunks).decode("utf-8", "surrogatepass"),
    )
