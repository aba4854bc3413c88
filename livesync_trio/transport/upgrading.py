"""From an HTTP request to a WebSocket: the handshake, a few at a time (decision 0001).

Knows what speaks on WebSockets only as a function that makes a peer of a channel.
"""

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Final

import attrs
import trio
from websockets.datastructures import Headers as WebSocketHeaders
from websockets.exceptions import InvalidHeader
from websockets.http11 import Request as WebSocketRequest
from websockets.http11 import Response as WebSocketResponse
from websockets.server import ServerProtocol

from livesync_trio.access.client import Client
from livesync_trio.access.pages import Pages
from livesync_trio.connection.channel import Channel
from livesync_trio.connection.context import ServerContext, record
from livesync_trio.connection.peer import Peer
from livesync_trio.errors import Kind
from livesync_trio.telemetry import get_logger
from livesync_trio.transport import direct
from livesync_trio.transport.arrivals import Arrivals
from livesync_trio.transport.http import BadRequest, HttpConnection, Request
from livesync_trio.transport.websocket import WebSocketChannel

LOST_UPGRADES_KEPT: Final = 32
_STORE_KEPT: Final = 200
"""Characters of a store's name that are kept."""


@attrs.frozen
class LostUpgrade:
    """One of them.

    Attributes:
        number: counts them.
        at: when it came.
        store_id: the store it was for; the beginning of a long name.
        missing: headers without which it is no request for a WebSocket.
    """

    number: int
    at: datetime
    store_id: str
    missing: tuple[str, ...]


def _now() -> datetime:
    return datetime.now(UTC)


@attrs.define(eq=False)
class LostUpgrades:
    """The last of them. `now`: tells the time."""

    now: Callable[[], datetime] = _now
    total: int = 0
    kept: deque[LostUpgrade] = attrs.field(factory=lambda: deque(maxlen=LOST_UPGRADES_KEPT))

    def note(self, request: Request, store_id: str) -> tuple[str, ...]:
        """Look at a request that became no WebSocket. Returns the headers that it lost; none: it never was one."""
        missing = _missing(request)
        if missing:
            self.total += 1
            self.kept.append(LostUpgrade(self.total, self.now(), store_id[:_STORE_KEPT], missing))
        return missing


def _missing(request: Request) -> tuple[str, ...]:
    headers = request.headers
    there = {
        "Upgrade": request.wants_websocket,
        "Connection": "upgrade" in headers.get("connection", "").lower(),
        "Sec-WebSocket-Key": "sec-websocket-key" in headers,
        "Sec-WebSocket-Version": "sec-websocket-version" in headers,
    }
    wanted = there["Upgrade"] or there["Sec-WebSocket-Key"] or there["Sec-WebSocket-Version"]
    return tuple(name for name, has in there.items() if not has) if wanted else ()


_log = get_logger("transport")

_TEXT: Final = ("content-type", "text/plain; charset=utf-8")


@attrs.frozen
class Upgrader:
    """Makes peers of requests.

    Attributes:
        shared: what all connections share.
        pages: the rules for web pages of the moment.
        frame_max_bytes: largest message taken.
        stall_limit_s: a peer that takes no bytes for so long is closed.
        turns: how many shake hands in one turn of the event loop.
        arrivals: hears for the sockets of all WebSockets; None: each is waited for by itself.
        lost: remembers requests that were to become WebSockets, and lost a header on the way.
    """

    shared: ServerContext
    pages: Callable[[], Pages]
    frame_max_bytes: int
    stall_limit_s: float
    turns: trio.Semaphore
    arrivals: Arrivals | None = None
    lost: LostUpgrades = attrs.field(factory=LostUpgrades)

    async def upgrade(
        self, http: HttpConnection, request: Request, client: Client, make: Callable[[Channel], Peer]
    ) -> Peer | None:
        """Shake hands and make a peer of the stream.

        Args:
            http: the connection; its request has no body left.
            request: an admitted request that wants a WebSocket.
            client: who it is; released here if nothing comes of it, else by whoever runs the peer.
            make: what speaks on the WebSocket.

        Returns:
            The peer; None: the handshake was no good and is answered, or the other end has gone.

        Raises:
            BadRequest: the request cannot be read.
        """
        with ExitStack() as held:
            held.enter_context(client)
            peer = await self._shaken(http, request, client, make)
            if peer is not None:
                held.pop_all()
            return peer

    async def _shaken(
        self, http: HttpConnection, request: Request, client: Client, make: Callable[[Channel], Peer]
    ) -> Peer | None:
        async with self.turns:
            shaken = _shake_hands(request)
            peer = make(self._channel(http)) if shaken.status_code == 101 else None
        if peer is None:
            self.lost.note(request, client.context.store_id)
            fields = [_TEXT, ("connection", "close"), *self.pages().headers(request.headers)]
            await http.answer(shaken.status_code, fields, bytes(shaken.body or b""))
            return None
        await peer.prepare()
        try:
            await direct.send(http.stream, shaken.serialize(), self.stall_limit_s)
        except direct.PeerGone:
            return None
        context = client.context
        self.shared.counters.connections_opened += 1
        record(self.shared.audit, context, "connect")
        _log.info("connected", connection=peer.number, store=context.store_id, peer=context.client_address)
        return peer

    def _channel(self, http: HttpConnection) -> WebSocketChannel:
        return WebSocketChannel(
            http.stream,
            leftover=http.take_leftover(),
            frame_max_bytes=self.frame_max_bytes,
            stall_limit_s=self.stall_limit_s,
            arrivals=self.arrivals,
            traffic=self.shared.counters.websocket,
            memory=self.shared.memory,
        )


def _shake_hands(request: Request) -> WebSocketResponse:
    """The answer to an upgrade. Raises BadRequest."""
    try:
        headers = WebSocketHeaders(request.raw_headers)
    except InvalidHeader:  # the library is stricter about control characters than h11
        raise BadRequest(Kind.BAD_HTTP) from None
    return ServerProtocol().accept(
        WebSocketRequest(request.target, headers, request.method, f"HTTP/{request.http_version}")
    )
