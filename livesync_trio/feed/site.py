"""The paths of the feed on the public port: the clients' WebSocket, and what operators ask of the replication.

`/api/sync` (or `/api/sync/ws`) refuses in the order of the original: the page's origin, who it is, what is no
WebSocket, a missing `clientId`, a position that is none.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
import psycopg
import trio

from livesync_trio.access.client import Client
from livesync_trio.access.pages import Pages
from livesync_trio.config import Secret
from livesync_trio.connection.channel import Channel
from livesync_trio.connection.context import ServerContext, note_refusal
from livesync_trio.connection.peer import Peer
from livesync_trio.errors import Kind, LivesyncError, Refusal
from livesync_trio.feed.access import FeedAccess, View
from livesync_trio.feed.filters import BadFilter
from livesync_trio.feed.messages import Dialect
from livesync_trio.feed.peer import FeedPeer, Served
from livesync_trio.feed.position import START, BadPosition, Token, lsn_text, parse_lsn, parse_token
from livesync_trio.feed.subscription import FeedRequest
from livesync_trio.hooks import HookContext, host_of
from livesync_trio.limits import UNREAD_BODY_MAX_BYTES
from livesync_trio.telemetry import get_logger
from livesync_trio.transport.http import HttpConnection, Request
from livesync_trio.transport.upgrading import Upgrader

FEED_BARRIER_LIMIT_S: Final = 30.0
"""How long `wait-for-initial-poll` waits."""

FEED_CLIENT_ID_MAX_CHARACTERS: Final = 128
"""Of a client's name for itself, which is a key in the database."""

_log = get_logger("feed")

SYNC: Final = ("/api/sync", "/api/sync/ws")
REPLICATION: Final = "/api/replication/"
_STORE: Final = "feed"
"""What stands for a store in the log and in the audit of somebody who follows the feed."""
_JSON: Final = ("content-type", "application/json")
_BEARER: Final = "bearer "

Admit = Callable[[HookContext, str], Awaitable[Client | Refusal]]
"""Lets a client in, who asks for no store; its context, and `host:port` of its socket's other end."""


class FeedSite:
    """See `transport.sites.Site`."""

    def __init__(
        self,
        served: Served,
        *,
        dialect: Dialect,
        admit: Admit,
        upgrader: Upgrader,
        shared: ServerContext,
        pages: Callable[[], Pages],
        client_address: Callable[[str, dict[str, str]], str],
    ) -> None:
        """Put it together.

        Args:
            served: what clients meet.
            dialect: which messages clients know.
            admit: who may come in.
            upgrader: makes WebSockets.
            shared: what all connections share.
            pages: the rules for web pages of the moment.
            client_address: who really asks, as `Access.client_address`.
        """
        self._served = served
        self._feed = served.feed
        self._clients = served.clients
        self._dialect = dialect
        self._admit = admit
        self._upgrader = upgrader
        self._shared = shared
        self._pages = pages
        self._client_address = client_address

    @property
    def admits(self) -> bool:
        """See `Site`: what operators ask is charged here."""
        return True

    def covers(self, path: str) -> bool:
        """See `Site`."""
        return path in SYNC or path.startswith(REPLICATION)

    async def serve(self, http: HttpConnection, request: Request, address: str) -> Peer | None:
        """See `Site`."""
        client_address = self._client_address(address, request.headers)
        if request.method == "OPTIONS":
            await http.read_body(UNREAD_BODY_MAX_BYTES, keep_bytes=0)
            await http.answer(204, self._pages().preflight(request.headers), b"")
        elif request.path.startswith(REPLICATION):
            await self._replication(http, request, client_address)
        else:
            return await self._sync(http, request, client_address, address)
        return None

    # --- clients ---------------------------------------------------------------------------------------------------

    async def _sync(self, http: HttpConnection, request: Request, client_address: str, peer: str) -> Peer | None:
        query = parse_qs(request.target.partition("?")[2], keep_blank_values=True)
        given = query.get("auth", [None])[0]
        payload = None if given is None else {"authToken": given}
        context = HookContext(_STORE, payload, request.headers, client_address)
        client = await self._admit(context, peer)
        if isinstance(client, Refusal):
            await self._refuse(http, request, context, client)
            return None
        rules = self._served.rules()
        found = await self._asked(request, query, client, rules)
        if isinstance(found, Refusal):
            client.release()
            await self._refuse(http, request, context, found)
            return None
        asked, view = found
        await http.read_body(0)

        def make(channel: Channel) -> Peer:
            return FeedPeer(channel, client, self._shared, self._served, asked, view, rules)

        return await self._upgrader.upgrade(http, request, client, make)

    async def _asked(
        self, request: Request, query: dict[str, list[str]], client: Client, rules: FeedAccess
    ) -> tuple[FeedRequest, View] | Refusal:
        if request.method != "GET" or not request.wants_websocket:
            return Refusal(Kind.UPGRADE_REQUIRED, "Expected WebSocket: this URL is for `Upgrade: websocket`.")
        client_id = query.get("clientId", [""])[0]
        if not client_id:
            return Refusal(Kind.BAD_PARAMETER, "Client ID is required")
        if len(client_id) > FEED_CLIENT_ID_MAX_CHARACTERS or not client_id.isprintable():
            return Refusal(Kind.BAD_PARAMETER, f"A client ID has up to {FEED_CLIENT_ID_MAX_CHARACTERS} characters.")
        lsn = query.get("lsn", [None])[0]
        if lsn is None and self._dialect == "first":
            return Refusal(Kind.BAD_PARAMETER, "LSN is required")
        try:
            token = Token(START) if lsn is None else parse_token(lsn)
        except BadPosition as error:
            return Refusal(Kind.BAD_PARAMETER, str(error))
        try:
            view = await rules.view(client.context.user)
        except BadFilter as error:
            _log.error("the hook feed_access gave a filter that cannot be used", reason=str(error))
            return Refusal(Kind.HOOK_FAILED, "What you may see cannot be determined. Tell the operator.")
        return view if isinstance(view, Refusal) else (FeedRequest(client_id, token, self._dialect), view)

    # --- operators -------------------------------------------------------------------------------------------------

    async def _replication(self, http: HttpConnection, request: Request, address: str) -> None:
        refusal = self._gate(request, address)
        body = await http.read_body(UNREAD_BODY_MAX_BYTES, keep_bytes=0)
        del body
        if refusal is None and request.method not in ("GET", "POST"):
            refusal = Refusal(Kind.METHOD_NOT_ALLOWED, "GET or POST.")
        answer: dict[str, Any] | Refusal
        if refusal is not None:
            answer = refusal
        else:
            query = parse_qs(request.target.partition("?")[2])
            try:
                answer = await self._answer_to(request.path.removeprefix(REPLICATION), query)
            except (psycopg.Error, LivesyncError) as error:
                _log.warning("a question about the replication was not answered", reason=str(error))
                answer = Refusal(Kind.STORAGE_UNAVAILABLE, "The database cannot be asked now. Try again.")
        if isinstance(answer, Refusal):
            await self._refuse(http, request, HookContext(_STORE, None, request.headers, address), answer)
        else:
            headers = [_JSON, ("cache-control", "no-store"), *self._pages().headers(request.headers)]
            await http.answer(200, headers, msgspec.json.encode({"success": True, **answer}))

    def _gate(self, request: Request, address: str) -> Refusal | None:
        """Only who knows the control plane's secret comes in."""
        secret: Secret | None = self._shared.admin_secret
        if secret is None:
            return Refusal(Kind.NOT_FOUND, "Nothing is here without ADMIN_SECRET.")
        attempts, host, now_s = self._shared.admin_attempts, host_of(address), trio.current_time()
        waiting = attempts.refusal(host, now_s)
        if waiting is not None:
            return waiting
        given = request.headers.get("authorization", "")
        if given[: len(_BEARER)].lower() != _BEARER:
            return Refusal(Kind.UNAUTHENTICATED, "Send the admin secret: `Authorization: Bearer …`.")
        if secret.matches(given[len(_BEARER) :].strip()):
            return None
        attempts.failed(host, now_s)
        return Refusal(Kind.UNAUTHENTICATED, "This is not the admin secret.")

    async def _answer_to(self, what: str, query: dict[str, list[str]]) -> dict[str, Any] | Refusal:
        state, status = self._feed.state, self._feed.status
        slot = {"exists": status.slot is not None, "lsn": lsn_text(state.confirmed_lsn)}
        match what:
            case "init":
                running = status.phase not in ("failing", "stopped")
                return {"slotStatus": slot, "pollingStarted": running, "alreadyInitialized": state.filled}
            case "status":
                return {"slotStatus": slot, "currentLSN": str(state.head), **self.described()}
            case "clients":
                return {
                    "clients": [
                        {
                            "clientId": client_id,
                            "active": entry.active,
                            "lastSeen": math.floor(entry.seen_s * 1000),
                            "lsn": str(entry.token.position),
                            "owner": entry.owner,
                        }
                        async for client_id, entry in self._clients.all()
                    ]
                }
            case "lsn":
                return {"lsn": str(state.head)}
            case "wait-for-initial-poll":
                return await self._wait(query)
        return Refusal(Kind.NOT_FOUND, "There is init, status, clients, lsn and wait-for-initial-poll.")

    def described(self) -> dict[str, Any]:
        """How the replication is, for a person."""
        state, status = self._feed.state, self._feed.status
        slot = status.slot
        return {
            "phase": status.phase,
            "problem": status.problem,
            "epoch": state.epoch,
            "tables": list(state.tables),
            "floorLSN": lsn_text(state.floor_lsn),
            "confirmedLSN": lsn_text(state.confirmed_lsn),
            "copiedRows": status.copied,
            "followers": len(self._feed.followers),
            "walStatus": None if slot is None else slot.wal_status,
            "retainedBytes": None if slot is None else slot.retained_bytes,
            "safeBytes": None if slot is None else slot.safe_bytes,
        }

    async def _wait(self, query: dict[str, list[str]]) -> dict[str, Any] | Refusal:
        """Until everything is stored that was committed before this request, or up to `lsn`."""
        try:
            lsn = parse_lsn(query["lsn"][0]) if "lsn" in query else None
        except BadPosition as error:
            return Refusal(Kind.BAD_PARAMETER, str(error))
        with trio.move_on_after(FEED_BARRIER_LIMIT_S):
            lsn = await self._feed.barrier(lsn)
            return {"message": "Initial poll completed", "lsn": lsn_text(lsn), "headLSN": str(self._feed.state.head)}
        return Refusal(Kind.STORAGE_UNAVAILABLE, f"The feed has not come so far within {FEED_BARRIER_LIMIT_S:g} s.")

    # --- both ------------------------------------------------------------------------------------------------------

    async def _refuse(self, http: HttpConnection, request: Request, context: HookContext, refusal: Refusal) -> None:
        note_refusal(self._shared, context, refusal)
        headers = [("content-type", "text/plain; charset=utf-8"), ("cache-control", "no-store")]
        headers += self._pages().headers(request.headers)
        status = refusal.rule.http_status or 400
        await http.answer(status, headers, f"{refusal.message}\n".encode(errors="replace"))
