"""The public door: what is at which path, for every request on the one port (decision 0001).

Looks at every request, also on a kept-alive connection, because reverse proxies pool them: an upgrade becomes a peer,
a sync POST becomes an RPC, the rest are a few fixed paths. Owns no sync logic.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final

import attrs
import msgspec
import trio
from websockets.datastructures import Headers as WebSocketHeaders
from websockets.http11 import Request as WebSocketRequest
from websockets.server import ServerProtocol

from livesync_trio.connection import http_rpc
from livesync_trio.connection.peer import Peer, Surroundings
from livesync_trio.connection.peers import Peers
from livesync_trio.connection.rpc_peer import RpcPeer
from livesync_trio.connection.v3_peer import V3Peer
from livesync_trio.errors import RULES, Kind, Refusal
from livesync_trio.hooks import HookContext
from livesync_trio.limits import KEEP_ALIVE_S
from livesync_trio.model import StoreId
from livesync_trio.store.handle import StoreHandle
from livesync_trio.store.registry import DRAINING
from livesync_trio.telemetry import get_logger
from livesync_trio.transport.authentication import Authentication
from livesync_trio.transport.cors import Cors
from livesync_trio.transport.http import BadRequest, HttpConnection, Request
from livesync_trio.transport.sending import PeerGone, send_patiently
from livesync_trio.transport.websocket import WebSocketChannel
from livesync_trio.wire import url

_log = get_logger("transport")

TEXT: Final = ("content-type", "text/plain; charset=utf-8")
JSON: Final = ("content-type", "application/json")
INFO: Final = (
    "Info: Sync backend endpoint for LiveStore (livesync_trio).\n"
    "Point makeWsSync, makeHttpSync or makeCfSync at this address. GET /health tells how it is.\n"
)


@attrs.frozen
class DoorSettings:
    """Limits of the door; see `config.Config` for their meaning."""

    frame_max_bytes: int
    handshake_limit_s: float
    stall_limit_s: float


class Door:
    """Serves the streams that come in at the public port."""

    def __init__(
        self,
        settings: DoorSettings,
        *,
        authentication: Authentication,
        cors: Cors,
        surroundings: Surroundings,
        peers: Peers,
        open_store: Callable[[StoreId], StoreHandle],
        health: Callable[[], tuple[bool, dict[str, Any]]],
    ) -> None:
        """Put the door together; it opens nothing by itself.

        Args:
            settings: limits.
            authentication: who may come in.
            cors: what browsers may read.
            surroundings: what all connections share.
            peers: the table of open WebSockets.
            open_store: gives the handle of a store.
            health: gives whether all is well, and the fields of the health answer.
        """
        self._settings = settings
        self._authentication = authentication
        self._cors = cors
        self._surroundings = surroundings
        self._peers = peers
        self._open_store = open_store
        self._health = health
        self._requests_running = 0
        self._quiet = trio.lowlevel.ParkingLot()
        self.draining = False

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection from its first byte to its last. Never raises anything of ours."""
        try:
            await self._serve_requests(HttpConnection(stream, self._settings.stall_limit_s), _address(stream))
        except Exception as error:
            _log.error("connection crashed", exc_info=error)
        finally:
            await trio.aclose_forcefully(stream)

    async def finish_requests(self) -> None:
        """Wait until no HTTP request is being served; new ones are refused while `draining`."""
        while self._requests_running:
            await self._quiet.park()

    async def _serve_requests(self, http: HttpConnection, address: str) -> None:
        limit_s = self._settings.handshake_limit_s
        while True:
            try:
                request = await http.next_request(limit_s)
                if request is None:
                    return
                peer = await self._serve_request(http, request, address)
            except BadRequest as bad:
                close = ("connection", "close")
                status = RULES[bad.kind].http_status or 400
                await http.answer(status, [TEXT, close, *self._cors.headers(None)], f"{bad}\n".encode())
                return
            if peer is not None:
                await self._peers.run(peer)
                return
            if not http.ready_for_next():
                return
            limit_s = KEEP_ALIVE_S

    async def _serve_request(self, http: HttpConnection, request: Request, address: str) -> Peer | None:
        """Answer a request. A peer is returned when the stream has become a WebSocket."""
        self._requests_running += 1
        try:
            return await self._route(http, request, address)
        finally:
            self._requests_running -= 1
            if not self._requests_running:
                self._quiet.unpark_all()

    async def _route(self, http: HttpConnection, request: Request, address: str) -> Peer | None:
        if request.method == "OPTIONS":
            await http.read_body(self._settings.frame_max_bytes)
            await http.answer(204, self._cors.preflight(request.headers), b"")
            return None
        try:
            sync = url.parse(request.target)
        except url.BadSyncUrl as bad:
            await self._refuse(http, request, Refusal(Kind.BAD_SYNC_URL, f"Not a sync request: {bad}."))
            return None
        if sync is None:
            await self._fixed_path(http, request)
            return None
        context = HookContext(sync.store_id, sync.payload, request.headers, address)
        if sync.protocol == "http":
            await self._rpc(http, request, context)
            return None
        return await self._upgrade(http, request, sync, context)

    # --- fixed paths -----------------------------------------------------------------------------------------------

    async def _fixed_path(self, http: HttpConnection, request: Request) -> None:
        if request.path not in ("/", "/health"):
            await self._refuse(http, request, Refusal(Kind.NOT_FOUND, "Nothing is here. Sync URLs carry `transport`."))
        elif request.method not in ("GET", "HEAD"):
            await self._refuse(http, request, Refusal(Kind.METHOD_NOT_ALLOWED, "Only GET is answered here."))
        elif request.path == "/":
            await self._answer(http, request, 200, TEXT, INFO.encode())
        else:
            well, fields = self._health()
            await self._answer(http, request, 200 if well else 503, JSON, msgspec.json.encode(fields))

    # --- HTTP RPC --------------------------------------------------------------------------------------------------

    async def _rpc(self, http: HttpConnection, request: Request, context: HookContext) -> None:
        if request.method != "POST":
            await self._refuse(http, request, Refusal(Kind.METHOD_NOT_ALLOWED, "Sync over HTTP is a POST."))
            return
        body = await http.read_body(self._settings.frame_max_bytes)
        refusal = DRAINING if self.draining else await self._authentication.check(context)
        try:
            body.decode()
        except UnicodeDecodeError:
            refusal, body = Refusal(Kind.BAD_TEXT, "The body is not UTF-8."), b""
        if refusal is not None:
            self._note(refusal, context)
            answer = http_rpc.refusal_answer(http_rpc.request_id_in(body), refusal)
        else:
            handle = self._open_store(StoreId(context.store_id))
            answer = await http_rpc.serve(body, handle, context, self._surroundings)
        headers = [JSON, *self._cors.headers(request.headers.get("origin"))]
        if isinstance(answer.messages, tuple):
            await http.answer(answer.status, headers, b"[%b]" % b",".join(answer.messages))
        else:
            await http.answer_stream(answer.status, headers, _as_array(answer.messages))

    # --- WebSocket -------------------------------------------------------------------------------------------------

    async def _upgrade(
        self, http: HttpConnection, request: Request, sync: url.SyncUrl, context: HookContext
    ) -> Peer | None:
        if not request.wants_websocket:
            refusal = Refusal(Kind.UPGRADE_REQUIRED, "This URL is for a WebSocket: expected Upgrade: websocket.")
            await self._refuse(http, request, refusal)
            return None
        await http.read_body(0)
        refusal_or_none = DRAINING if self.draining else await self._authentication.check(context)
        if refusal_or_none is not None:
            self._note(refusal_or_none, context)
            await self._refuse(http, request, refusal_or_none)
            return None
        shaken = ServerProtocol().accept(
            WebSocketRequest(
                request.target, WebSocketHeaders(request.raw_headers), request.method, f"HTTP/{request.http_version}"
            )
        )
        if shaken.status_code != 101:
            body = bytes(shaken.body or b"")
            headers = [TEXT, ("connection", "close"), *self._cors.headers(request.headers.get("origin"))]
            await http.answer(shaken.status_code, headers, body)
            return None
        channel = WebSocketChannel(
            http.stream,
            leftover=http.take_leftover(),
            frame_max_bytes=self._settings.frame_max_bytes,
            stall_limit_s=self._settings.stall_limit_s,
        )
        make = V3Peer if sync.protocol == "v3" else RpcPeer
        peer = make(channel, self._open_store(sync.store_id), context, self._surroundings)
        await peer.prepare()
        try:
            await send_patiently(http.stream, shaken.serialize(), self._settings.stall_limit_s)
        except PeerGone:
            return None
        self._surroundings.counters.connections_opened += 1
        return peer

    # --- answers ---------------------------------------------------------------------------------------------------

    def _note(self, refusal: Refusal, context: HookContext) -> None:
        self._surroundings.counters.refusals[str(refusal.kind)] += 1
        _log.log(
            refusal.rule.log_level,
            "refused at the door",
            kind=str(refusal.kind),
            store=context.store_id,
            peer=context.client_address,
            reason=refusal.message,
        )

    async def _refuse(self, http: HttpConnection, request: Request, refusal: Refusal) -> None:
        status = refusal.rule.http_status or 400
        await self._answer(http, request, status, TEXT, f"{refusal.message}\n".encode(errors="replace"))

    async def _answer(
        self, http: HttpConnection, request: Request, status: int, content_type: tuple[str, str], body: bytes
    ) -> None:
        headers = [content_type, ("cache-control", "no-store"), *self._cors.headers(request.headers.get("origin"))]
        await http.answer(status, headers, body)


async def _as_array(messages: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Messages as one JSON array, without holding them all."""
    separator = b"["
    async with aclosing(messages):
        async for message in messages:
            yield separator + message
            separator = b","
    yield b"[]" if separator == b"[" else b"]"


def _address(stream: trio.abc.Stream) -> str:
    """`host:port` of the peer, empty where the stream has none (in tests)."""
    socket = getattr(stream, "socket", None)
    if socket is None:
        return ""
    try:
        host, port = socket.getpeername()[:2]
    except OSError:  # gone already
        return ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
