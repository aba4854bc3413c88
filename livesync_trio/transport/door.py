"""The public door: what is at which path, for every request on the one port (decision 0001).

Looks at every request, also on a kept-alive connection, because reverse proxies pool them: an upgrade becomes a peer,
a sync POST becomes an RPC, the rest are a few fixed paths. Owns no sync logic.
"""

import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final

import attrs
import msgspec
import trio
from websockets.datastructures import Headers as WebSocketHeaders
from websockets.exceptions import InvalidHeader
from websockets.http11 import Request as WebSocketRequest
from websockets.server import ServerProtocol

from livesync_trio.connection import http_rpc
from livesync_trio.connection.entitlement import Entitlement
from livesync_trio.connection.peer import Peer, Surroundings
from livesync_trio.connection.peers import Peers
from livesync_trio.connection.recording import record, record_refusal
from livesync_trio.connection.rpc_peer import RpcPeer
from livesync_trio.connection.v3_peer import V3Peer
from livesync_trio.errors import RULES, Kind, Refusal, TooFast
from livesync_trio.fairness import Visitor
from livesync_trio.hooks import HookContext, host_of
from livesync_trio.limits import KEEP_ALIVE_S, RETRY_AFTER_MAX_S
from livesync_trio.model import StoreId
from livesync_trio.store.handle import StoreHandle
from livesync_trio.store.registry import DRAINING
from livesync_trio.telemetry import get_logger
from livesync_trio.transport import direct
from livesync_trio.transport.authentication import Authentication
from livesync_trio.transport.cors import Cors, Header
from livesync_trio.transport.guards import Caller, Guards
from livesync_trio.transport.http import BadRequest, HttpConnection, Request
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
        guards: Guards | None = None,
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
            guards: proxies, rates, names of stores, TLS; None for none of them.
        """
        self._settings = settings
        self._authentication = authentication
        self._cors = cors
        self._surroundings = surroundings
        self._peers = peers
        self._open_store = open_store
        self._health = health
        self._guards = guards or Guards()
        self._requests_running = 0
        self._quiet = trio.lowlevel.ParkingLot()
        self.draining = False

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection from its first byte to its last. Never raises anything of ours."""
        address = _address(stream)
        host = host_of(address)
        with self._guards.fairness.visitor(host) as visitor:
            try:
                refusal = None if self._guards.proxies.trusts(host) else visitor.enter_from(host)
                if refusal is not None:
                    self._surroundings.counters.refusals[str(refusal.kind)] += 1
                    _log.debug("not let in", kind=str(refusal.kind), peer=address)  # a flood must not fill the log
                elif (ready := await self._secured(stream)) is not None:
                    stream = ready
                    http = HttpConnection(stream, self._settings.stall_limit_s)
                    await self._serve_requests(http, Caller(address, host, visitor))
            except Exception as error:
                _log.error("connection crashed", exc_info=error)
            finally:
                await trio.aclose_forcefully(stream)

    async def _secured(self, stream: trio.abc.Stream) -> trio.abc.Stream | None:
        """The stream itself, or one that speaks TLS over it; None when the peer does not, or not in time."""
        tls = self._guards.tls
        if tls is None:
            return stream
        secured = tls.secure(stream)
        with trio.move_on_after(self._settings.handshake_limit_s):
            try:
                await secured.do_handshake()
            except trio.BrokenResourceError:
                return None
            return secured
        return None

    async def finish_requests(self) -> None:
        """Wait until no HTTP request is being served; new ones are refused while `draining`."""
        while self._requests_running:
            await self._quiet.park()

    async def _serve_requests(self, http: HttpConnection, caller: Caller) -> None:
        limit_s = self._settings.handshake_limit_s
        while True:
            try:
                request = await http.next_request(limit_s)
                if request is None:
                    return
                peer = await self._serve_request(http, request, caller)
            except BadRequest as bad:
                close = ("connection", "close")
                status = RULES[bad.kind].http_status or 400
                await http.answer(status, [TEXT, close, *self._cors.headers(None)], f"{bad}\n".encode())
                return
            if peer is not None:
                await self._peers.run(peer)
                return
            if not await http.ready_for_next():
                return
            limit_s = KEEP_ALIVE_S

    async def _serve_request(self, http: HttpConnection, request: Request, caller: Caller) -> Peer | None:
        """Answer a request. A peer is returned when the stream has become a WebSocket."""
        self._requests_running += 1
        try:
            return await self._route(http, request, caller)
        finally:
            self._requests_running -= 1
            if not self._requests_running:
                self._quiet.unpark_all()

    async def _route(self, http: HttpConnection, request: Request, caller: Caller) -> Peer | None:
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
        address = self._guards.proxies.client(caller.address, caller.host, request.headers)
        context = HookContext(sync.store_id, sync.payload, request.headers, address)
        if sync.protocol == "http":
            await self._rpc(http, request, context)
            return None
        return await self._upgrade(http, request, sync, context, caller.visitor)

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
        admitted = await self._admit(context)
        try:
            body.decode()
        except UnicodeDecodeError:
            admitted, body = Refusal(Kind.BAD_TEXT, "The body is not UTF-8."), b""
        if isinstance(admitted, Refusal):
            self._note(admitted, context)
            answer = http_rpc.refusal_answer(http_rpc.request_id_in(body), admitted)
        else:
            context, entitlement = admitted
            handle = self._open_store(StoreId(context.store_id))
            answer = await http_rpc.serve(body, handle, context, self._surroundings, entitlement)
        headers = [JSON, *self._cors.headers(request.headers.get("origin")), *_retry_after(answer.retry_after_s)]
        if isinstance(answer.messages, tuple):
            await http.answer(answer.status, headers, b"[%b]" % b",".join(answer.messages))
        else:
            await http.answer_stream(answer.status, headers, _as_array(answer.messages))

    # --- WebSocket -------------------------------------------------------------------------------------------------

    async def _upgrade(
        self, http: HttpConnection, request: Request, sync: url.SyncUrl, context: HookContext, visitor: Visitor
    ) -> Peer | None:
        if not request.wants_websocket:
            # A 0.3 client that was refused asks again in this way, to log the reason for its developer.
            checked = await self._admit(context)
            expected = Refusal(Kind.UPGRADE_REQUIRED, "This URL is for a WebSocket: expected Upgrade: websocket.")
            await self._refuse(http, request, checked if isinstance(checked, Refusal) else expected)
            return None
        await http.read_body(0)
        admitted = await self._admit(context, visitor)
        if isinstance(admitted, Refusal):
            self._note(admitted, context)
            await self._refuse(http, request, admitted)
            return None
        context, entitlement = admitted
        try:
            headers = WebSocketHeaders(request.raw_headers)
        except InvalidHeader:  # the library is stricter about control characters than h11
            raise BadRequest(Kind.BAD_HTTP) from None
        shaken = ServerProtocol().accept(
            WebSocketRequest(request.target, headers, request.method, f"HTTP/{request.http_version}")
        )
        if shaken.status_code != 101:
            body = bytes(shaken.body or b"")
            fields = [TEXT, ("connection", "close"), *self._cors.headers(request.headers.get("origin"))]
            await http.answer(shaken.status_code, fields, body)
            return None
        channel = WebSocketChannel(
            http.stream,
            leftover=http.take_leftover(),
            frame_max_bytes=self._settings.frame_max_bytes,
            stall_limit_s=self._settings.stall_limit_s,
        )
        make = V3Peer if sync.protocol == "v3" else RpcPeer
        peer = make(channel, self._open_store(sync.store_id), context, self._surroundings, entitlement)
        await peer.prepare()
        try:
            await direct.send(http.stream, shaken.serialize(), self._settings.stall_limit_s)
        except direct.PeerGone:
            return None
        self._surroundings.counters.connections_opened += 1
        record(self._surroundings.audit, context, "connect")
        return peer

    # --- who comes in ----------------------------------------------------------------------------------------------

    async def _admit(
        self, context: HookContext, visitor: Visitor | None = None
    ) -> tuple[HookContext, Entitlement] | Refusal:
        """Ask everybody who may object, the cheap ones first. With a visitor, a WebSocket is counted for it."""
        fairness, host = self._guards.fairness, context.client_host
        refusal: Refusal | None = DRAINING if self.draining else self._cors.refusal(context.headers.get("origin"))
        refusal = (
            refusal
            or self._guards.store_ids.refusal(context.store_id)
            or fairness.arrival_from(host, trio.current_time())
        )
        if refusal is not None:
            return refusal
        admission = await self._authentication.check(context)
        if isinstance(admission, Refusal):
            return admission
        user = None if admission.user is None else admission.user.id
        refusal = fairness.arrival_at(user, context.store_id, trio.current_time())
        if refusal is None and visitor is not None:
            refusal = visitor.enter_as(user, host)
        if refusal is not None:
            return refusal
        meter = fairness.meter(user, host, context.store_id)
        return attrs.evolve(context, user=admission.user), Entitlement(
            admission.may_push, admission.expires_s, admission.asks_to_push, meter, self._guards.quotas
        )

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
        record_refusal(self._surroundings.audit, context, refusal)

    async def _refuse(self, http: HttpConnection, request: Request, refusal: Refusal) -> None:
        status = refusal.rule.http_status or 400
        body = f"{refusal.message}\n".encode(errors="replace")
        later = _retry_after(refusal.retry_after_s if isinstance(refusal, TooFast) else None)
        await self._answer(http, request, status, TEXT, body, *later)

    async def _answer(
        self, http: HttpConnection, request: Request, status: int, content_type: Header, body: bytes, *more: Header
    ) -> None:
        cors = self._cors.headers(request.headers.get("origin"))
        headers = [content_type, ("cache-control", "no-store"), *cors, *more]
        await http.answer(status, headers, body)


async def _as_array(messages: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Messages as one JSON array, without holding them all."""
    separator = b"["
    async with aclosing(messages):
        async for message in messages:
            yield separator + message
            separator = b","
    yield b"[]" if separator == b"[" else b"]"


def _retry_after(wait_s: float | None) -> list[Header]:
    """The header that says when to come again, in whole seconds (RFC 9110, 10.2.3)."""
    return [] if wait_s is None else [("retry-after", str(min(math.ceil(wait_s), RETRY_AFTER_MAX_S)))]


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
