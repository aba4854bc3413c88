"""The public door: what is at which path, for every request on the one port (decision 0001).

Looks at every request, also on a kept-alive connection, because reverse proxies pool them: an upgrade becomes a peer,
a sync POST becomes an RPC, the rest are a few fixed paths. Owns no sync logic.
"""

import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final

import attrs
import msgspec
import trio

from livesync_trio.access.admission import Access
from livesync_trio.access.client import Client
from livesync_trio.access.pages import Header
from livesync_trio.config import Secret
from livesync_trio.connection import http_rpc
from livesync_trio.connection.channel import Channel
from livesync_trio.connection.context import ServerContext, note_refusal
from livesync_trio.connection.peer import Peer
from livesync_trio.connection.peers import Peers
from livesync_trio.connection.rpc_peer import RpcPeer
from livesync_trio.connection.v3_peer import V3Peer
from livesync_trio.errors import RULES, Kind, Refusal, StorageUnavailable, StoreDamaged, TooFast
from livesync_trio.fairness import Held, address_group
from livesync_trio.hooks import HookContext, host_of
from livesync_trio.limits import (
    CROWDED_LIMIT_S,
    HANDSHAKES_PER_TURN,
    KEEP_ALIVE_S,
    REFUSED_BODY_KEPT_BYTES,
    REFUSED_BODY_MAX_BYTES,
    RETRY_AFTER_MAX_S,
    UNREAD_BODY_MAX_BYTES,
)
from livesync_trio.model import StoreId
from livesync_trio.store.handle import StoreHandle
from livesync_trio.store.registry import DRAINING
from livesync_trio.telemetry import get_logger
from livesync_trio.transport import direct, own_pages, proxy_header
from livesync_trio.transport.arrivals import Arrivals
from livesync_trio.transport.http import BadRequest, HttpConnection, Request
from livesync_trio.transport.own_pages import MetricsPage
from livesync_trio.transport.sites import Site
from livesync_trio.transport.tls import Tls
from livesync_trio.transport.upgrading import Upgrader
from livesync_trio.transport.websocket import is_utf8
from livesync_trio.wire import url

_log = get_logger("transport")

TEXT: Final = ("content-type", "text/plain; charset=utf-8")
JSON: Final = ("content-type", "application/json")
_HEALTH: Final = "/health"

_NOT_SYNC: Final = (Kind.BAD_SYNC_URL, Kind.NOT_FOUND, Kind.METHOD_NOT_ALLOWED, Kind.UPGRADE_REQUIRED)
_UPGRADE_EXPECTED: Final = "This URL is for a WebSocket: expected Upgrade: websocket."
_HTML: Final = ("content-type", "text/html; charset=utf-8")


@attrs.frozen
class DoorSettings:
    """Limits of the door; see `config.Config` for their meaning."""

    frame_max_bytes: int
    handshake_limit_s: float
    stall_limit_s: float
    proxy_protocol: bool = False


class Door:
    """Serves the streams that come in at the public port."""

    def __init__(
        self,
        settings: DoorSettings,
        *,
        access: Access,
        shared: ServerContext,
        peers: Peers,
        open_store: Callable[[StoreId], StoreHandle],
        health: Callable[[], tuple[bool, dict[str, Any]]],
        tls: Tls | None = None,
        arrivals: Arrivals | None = None,
        metrics: MetricsPage | None = None,
    ) -> None:
        """Put the door together; it opens nothing by itself.

        Args:
            settings: limits.
            access: who may come in.
            shared: what all connections share.
            peers: the table of open WebSockets.
            open_store: gives the handle of a store.
            health: gives whether all is well, and the fields of the health answer.
            tls: the certificate; None where a proxy has it, or nobody.
            arrivals: hears for the sockets of all WebSockets; None: each is waited for by itself.
            metrics: answers `GET /metrics`; None: nothing is there.
        """
        self._settings = settings
        self.access = access
        self.shared = shared
        self._peers = peers
        self._open_store = open_store
        self._health = health
        self._tls = tls
        self._metrics = metrics
        self._turns = trio.Semaphore(HANDSHAKES_PER_TURN)
        self.upgrader = Upgrader(
            shared, lambda: access.pages, settings.frame_max_bytes, settings.stall_limit_s, self._turns, arrivals
        )
        """Makes WebSockets of requests, for the door and its sites."""
        self.lost_upgrades = self.upgrader.lost
        self.sites: Sequence[Site] = ()
        """Who answers below paths of their own, in the order in which they are asked."""
        self.plain_dialect: Callable[[Channel, StoreHandle, Client, str], Peer] | None = None
        """Makes a peer for the path of 0.3 that speaks the plain dialect as well; None: nobody speaks it."""
        self._requests_running = 0
        self._quiet = trio.lowlevel.ParkingLot()
        self.draining = False

    def protect_metrics(self, token: Secret | None) -> None:
        """Ask for another token at `/metrics` from now on (`reloading`)."""
        if self._metrics is not None:
            self._metrics.token = token

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection from its first byte to its last. Never raises anything of ours."""
        address: str | None = direct.peer_address(stream)
        self.shared.counters.sockets_open += 1
        try:
            if self._settings.proxy_protocol and self.access.proxies.trusts(host_of(address or "")):
                address = await proxy_header.client(stream, address or "", self._settings.handshake_limit_s)
            if address is None:
                self.shared.counters.refusals[str(Kind.BAD_HTTP)] += 1
                return
            held = self.access.hold_connection(address)
            if isinstance(held, Held):
                with held:
                    await self._serve(stream, address)
            else:
                await self._serve_crowd(stream, address, held)
        except Exception as error:
            _log.error("connection crashed", exc_info=error)
        finally:
            self.shared.counters.sockets_open -= 1
            await trio.aclose_forcefully(stream)

    async def _serve(self, stream: trio.abc.Stream, address: str) -> None:
        ready = await self._secured(stream)
        peer = None if ready is None else await self._serve_requests(ready, address)
        if peer is not None:  # by now nothing holds what HTTP needed
            with peer.client:
                await self._peers.run(peer)

    async def _serve_crowd(self, stream: trio.abc.Stream, address: str, refusal: Refusal) -> None:
        """Serve a connection that is one too many for its address: only `/health` is answered, the rest is told why.

        A few at a time and not for long, so that an address that keeps coming takes no more from others.
        """
        self.shared.counters.refusals[str(refusal.kind)] += 1
        host = host_of(address)
        if self.shared.flood.allows(address_group(host) or host, "crowd", trio.current_time()):
            _log.warning(
                "an address has all the connections it may have; if it is a proxy, name it in LIVESYNC_TRUSTED_PROXIES",
                peer=address,
                reason=refusal.message,
            )
        held = self.access.hold_in_crowd(address)
        if isinstance(held, Held):
            with held, trio.move_on_after(CROWDED_LIMIT_S):
                ready = await self._secured(stream)
                if ready is not None:
                    await self._serve_requests(ready, address, refusal)

    async def _secured(self, stream: trio.abc.Stream) -> trio.abc.Stream | None:
        """The stream itself, or one that speaks TLS over it; None when the peer does not, or not in time."""
        tls = self._tls
        return stream if tls is None else await tls.secured(stream, self._settings.handshake_limit_s)

    async def finish_requests(self) -> None:
        """Wait until no HTTP request is being served; new ones are refused while `draining`."""
        while self._requests_running:
            await self._quiet.park()

    async def _serve_requests(
        self, stream: trio.abc.Stream, address: str, crowded: Refusal | None = None
    ) -> Peer | None:
        """Serve request after request. A peer is returned when the stream has become a WebSocket.

        Args:
            stream: what is spoken over.
            address: `host:port` of its other end.
            crowded: why nothing is served but `/health`, once.
        """
        http = HttpConnection(stream, self._settings.stall_limit_s, self.shared.counters.http, self._turns)
        limit_s = self._settings.handshake_limit_s
        while True:
            try:
                request = await http.next_request(limit_s)
                if request is None:
                    return None
                if crowded is not None:
                    http.is_last = True
                    await self._turn_away(http, request, crowded)
                    return None
                peer = await self._serve_request(http, request, address)
            except BadRequest as bad:
                self.shared.counters.refusals[str(bad.kind)] += 1
                close = ("connection", "close")
                status = RULES[bad.kind].http_status or 400
                await http.answer(status, [TEXT, close, *self.access.pages.headers()], f"{bad}\n".encode())
                return None
            if peer is not None or not await http.ready_for_next():
                return peer
            limit_s = KEEP_ALIVE_S

    async def _turn_away(self, http: HttpConnection, request: Request, refusal: Refusal) -> None:
        """Tell one too many why; who asks for the health gets it all the same."""
        if request.path == _HEALTH:
            await self._fixed_path(http, request, "")
        else:
            await self._refuse(http, request, refusal)

    async def _serve_request(self, http: HttpConnection, request: Request, address: str) -> Peer | None:
        """Answer a request. A peer is returned when the stream has become a WebSocket."""
        self._requests_running += 1
        try:
            return await self._route(http, request, address)
        finally:
            self._requests_running -= 1
            if not self._requests_running:
                self._quiet.unpark_all()

    async def _route(self, http: HttpConnection, request: Request, peer: str) -> Peer | None:
        address = self.access.client_address(peer, request.headers)
        site = next((site for site in self.sites if site.covers(request.path)), None)
        if site is not None:
            charged = None if site.admits else self.access.arrive(address)
            if charged is None:
                return await site.serve(http, request, peer)
            await self._refuse(http, request, charged)
            return None
        try:
            sync = None if request.method == "OPTIONS" else url.parse(request.target)
        except url.BadSyncUrl as bad:
            charged = self.access.arrive(address)
            await self._refuse(http, request, charged or Refusal(Kind.BAD_SYNC_URL, f"Not a sync request: {bad}."))
            return None
        if sync is None:  # what asks for a store is charged when it is admitted
            charged = None if request.path == _HEALTH else self.access.arrive(address)
            if charged is not None:
                await self._refuse(http, request, charged)
            elif request.method == "OPTIONS":
                await http.read_body(UNREAD_BODY_MAX_BYTES, keep_bytes=0)
                await http.answer(204, self.access.pages.preflight(request.headers), b"")
            else:
                await self._fixed_path(http, request, address)
            return None
        context = HookContext(sync.store_id, sync.payload, request.headers, address)
        if sync.protocol == "http":
            await self._rpc(http, request, context)
            return None
        return await self._upgrade(http, request, sync, context, peer)

    # --- fixed paths -----------------------------------------------------------------------------------------------

    async def _fixed_path(self, http: HttpConnection, request: Request, address: str) -> None:
        if self._metrics is not None and request.path == "/metrics" and request.method == "GET":
            page = self._metrics.ask(request.headers, host_of(address))
            if isinstance(page, Refusal):
                await self._refuse(http, request, page)
            else:
                await self._answer(http, request, 200, ("content-type", page[1]), page[0])
        elif request.path not in ("/", _HEALTH):
            await self._refuse(http, request, Refusal(Kind.NOT_FOUND, "Nothing is here. Sync URLs carry `transport`."))
        elif request.method not in ("GET", "HEAD"):
            await self._refuse(http, request, Refusal(Kind.METHOD_NOT_ALLOWED, "Only GET is answered here."))
        elif request.path == "/":
            await self._welcome(http, request)
        else:
            well, fields = self._health()
            await self._answer(http, request, 200 if well else 503, JSON, msgspec.json.encode(fields))

    async def _welcome(self, http: HttpConnection, request: Request) -> None:
        if own_pages.wants_page(request.headers):
            well, _ = self._health()
            body = own_pages.page(request.headers, well=well, tls=self._tls is not None)
            policy = ("content-security-policy", own_pages.POLICY)
            await self._answer(http, request, 200, _HTML, body, policy)
        else:
            await self._answer(http, request, 200, TEXT, own_pages.TEXT.encode())

    # --- HTTP RPC --------------------------------------------------------------------------------------------------

    async def _rpc(self, http: HttpConnection, request: Request, context: HookContext) -> None:
        if request.method != "POST":
            await self._refuse(http, request, Refusal(Kind.METHOD_NOT_ALLOWED, "Sync over HTTP is a POST."))
            return
        began_s = trio.current_time()
        client = await self.admit(context)
        if isinstance(client, Refusal):
            answer = http_rpc.refuse_all(await self._beginning_of_body(http), client)
            note_refusal(self.shared, context, client)
        else:
            with client:
                async with self.shared.memory.room_for(request.body_bytes(self._settings.frame_max_bytes)):
                    answer = await self._served(await http.read_body(self._settings.frame_max_bytes), client)
        _log.debug(
            "request answered",
            store=context.store_id,
            peer=context.client_address,
            status=answer.status,
            duration_s=round(trio.current_time() - began_s, 6),
        )
        headers = [JSON, *self.access.pages.headers(request.headers), *_retry_after(answer.retry_after_s)]
        if isinstance(answer.messages, tuple):
            await http.answer(answer.status, headers, b"[%b]" % b",".join(answer.messages))
        else:
            await http.answer_stream(answer.status, headers, _as_array(answer.messages))

    async def _served(self, body: bytes, client: Client) -> http_rpc.Answer:
        if not (body.isascii() or is_utf8(body)):
            refusal = Refusal(Kind.BAD_TEXT, "The body is not UTF-8.")
            note_refusal(self.shared, client.context, refusal)
            return http_rpc.refuse_all(b"", refusal)
        handle = self._open_store(StoreId(client.context.store_id))
        return await http_rpc.serve(body, handle, client, self.shared)

    async def _beginning_of_body(self, http: HttpConnection) -> bytes:
        """Of the body of a refused request as much as it takes to answer it; strangers shall not fill the memory."""
        try:
            return await http.read_body(REFUSED_BODY_MAX_BYTES, keep_bytes=REFUSED_BODY_KEPT_BYTES)
        except BadRequest as bad:
            if bad.kind is not Kind.BODY_TOO_BIG:
                raise
            return b""

    # --- WebSocket -------------------------------------------------------------------------------------------------

    async def _upgrade(
        self, http: HttpConnection, request: Request, sync: url.SyncUrl, context: HookContext, peer_address: str
    ) -> Peer | None:
        if not request.wants_websocket:
            await self._without_upgrade(http, request, context)
            return None
        await http.read_body(0)
        client = await self.admit(context, peer_address)
        if isinstance(client, Refusal):
            note_refusal(self.shared, context, client)
            await self._refuse(http, request, client)
            return None

        def make(channel: Channel) -> Peer:
            handle = self._open_store(sync.store_id)
            if sync.protocol != "v3":
                return RpcPeer(channel, handle, client, self.shared)
            if self.plain_dialect is None:
                return V3Peer(channel, handle, client, self.shared)
            return self.plain_dialect(channel, handle, client, peer_address)

        return await self.upgrader.upgrade(http, request, client, make)

    async def _without_upgrade(self, http: HttpConnection, request: Request, context: HookContext) -> None:
        """Refuse a plain request of a WebSocket URL; who may come in is told whether there is such a store.

        A 0.3 client that was refused asks in this way, to log the reason for its developer; an import does before it
        pulls, for a pull makes the store.
        """
        client = await self.admit(context)
        if isinstance(client, Refusal):
            await self._refuse(http, request, client)
            return
        more: list[Header] = []
        with client, suppress(StorageUnavailable, StoreDamaged):
            found = await self._open_store(StoreId(context.store_id)).summary()
            presence = url.Presence.ABSENT if found is None else url.Presence.PRESENT
            more.append((url.PRESENCE_HEADER, presence.value))
        lost = self.lost_upgrades.note(request, context.store_id)
        expected = Refusal(Kind.UPGRADE_REQUIRED, _upgrade_lost(lost) if lost else _UPGRADE_EXPECTED)
        await self._refuse(http, request, expected, *more)

    # --- who comes in ----------------------------------------------------------------------------------------------

    async def admit(
        self, context: HookContext, websocket_of: str | None = None, *, to_store: bool = True
    ) -> Client | Refusal:
        """Whether a client may come in now; see `Access.admit`. For the sites, too."""
        if self.draining:
            return DRAINING
        return self.shared.audit.refusal or await self.access.admit(context, websocket_of, to_store=to_store)

    # --- answers ---------------------------------------------------------------------------------------------------

    async def _refuse(self, http: HttpConnection, request: Request, refusal: Refusal, *more: Header) -> None:
        if refusal.kind in _NOT_SYNC:  # the others have been noted, with their store
            self.shared.counters.refusals[str(refusal.kind)] += 1
        status = refusal.rule.http_status or 400
        body = f"{refusal.message}\n".encode(errors="replace")
        later = _retry_after(refusal.retry_after_s if isinstance(refusal, TooFast) else None)
        await self._answer(http, request, status, TEXT, body, *later, *more)

    async def _answer(
        self, http: HttpConnection, request: Request, status: int, content_type: Header, body: bytes, *more: Header
    ) -> None:
        named = {name for name, _ in more}  # browsers obey all headers of one name together: it is there once
        usual = [header for header in self.access.pages.headers(request.headers) if header[0] not in named]
        headers = [content_type, ("cache-control", "no-store"), *usual, *more]
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


def _upgrade_lost(names: Sequence[str]) -> str:
    """What whoever runs the proxy is told."""
    return f"{_UPGRADE_EXPECTED} A proxy in front dropped {' and '.join(names)}."
