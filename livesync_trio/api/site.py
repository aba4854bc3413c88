"""The HTTP API on the public port (`transport.sites.Site`): from a request to its handler, and back.

Owns everything about HTTP: paths, admission, media types, compression, ETags, problems. The handlers know none of it.
"""

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, ClassVar, Final
from urllib.parse import unquote_to_bytes

import attrs
import msgspec
import trio

from livesync_trio.access.pages import Header
from livesync_trio.api import openapi
from livesync_trio.api.declaring import (
    EVENT_STREAM,
    JSON,
    PROBLEM,
    Call,
    CutShort,
    Parts,
    Reply,
    Route,
    Whole,
    status_of,
)
from livesync_trio.api.headers import chosen, takes_gzip
from livesync_trio.api.routes import ROUTES
from livesync_trio.api.server import ApiServer, open_dialect
from livesync_trio.api.structs import Problem
from livesync_trio.connection.context import note_refusal
from livesync_trio.connection.peer import Peer
from livesync_trio.errors import (
    RULES,
    BackendIdMismatch,
    HeadMismatch,
    Kind,
    LogReplaced,
    Refusal,
    StorageUnavailable,
    StoreDamaged,
    TooFast,
)
from livesync_trio.hooks import HookContext
from livesync_trio.limits import STORE_ID_MAX_BYTES, UNREAD_BODY_MAX_BYTES
from livesync_trio.model import StoreId
from livesync_trio.openapi import query_values, read_query
from livesync_trio.store.commands import DAMAGED, UNAVAILABLE
from livesync_trio.telemetry import get_logger
from livesync_trio.transport.http import BadRequest, HttpConnection, Request

_log = get_logger("api")

ROOT: Final = "/v1"
_STORES: Final = f"{ROOT}/stores/"
_EVENTS: Final = "/v1/stores/{storeId}/events"
_BEARER: Final = "bearer "
_OK: Final = 200
_NOT_HERE: Final = Refusal(Kind.NOT_FOUND, "Nothing is here: see /v1/openapi.json for what there is.")
_LOG_MOVED: Final = Refusal(Kind.STORAGE_UNAVAILABLE, "The store was replaced while it was read. Try again.")


@attrs.frozen
class Place:
    """What a path names.

    Attributes:
        path: as the table of routes has it.
        store_id: the store; None where it names none.
    """

    path: str
    store_id: StoreId | None = None


class ApiSite:
    """Answers below `/v1`."""

    admits: ClassVar[bool] = True

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    def end(self) -> None:
        """The server begins to shut down."""
        self._server.end()

    def covers(self, path: str) -> bool:
        """Whether a request belongs here."""
        return path == ROOT or path.startswith(f"{ROOT}/")

    async def serve(self, http: HttpConnection, request: Request, address: str) -> Peer | None:
        """See `sites.Site`."""
        try:
            return await self._serve(http, request, address)
        except BadRequest as bad:
            self._server.shared.counters.refusals[str(bad.kind)] += 1
            http.is_last = True  # where the next request would begin cannot be told
            await self._refuse(http, request, Refusal(bad.kind, str(bad)))
            return None

    async def _serve(self, http: HttpConnection, request: Request, address: str) -> Peer | None:
        who = self._server.client_address(address, request.headers)
        if request.method == "OPTIONS":
            await http.read_body(UNREAD_BODY_MAX_BYTES, keep_bytes=0)
            refusal = self._server.arrive(who)
            if refusal is None:
                await http.answer(204, self._server.pages().preflight(request.headers), b"")
            else:
                await self._refuse(http, request, refusal)
            return None
        found = self._found(request)
        if isinstance(found, Refusal) or found[1].store_id is None:
            await self._without_store(http, request, who, found)
            return None
        route, place = found
        assert place.store_id is not None
        query = _query(request)
        if isinstance(query, Refusal):
            await self._refuse(http, request, self._server.arrive(who) or query)
            return None
        context = HookContext(place.store_id, _payload(request, query), request.headers, who)
        if place.path == _EVENTS and request.wants_websocket:
            opened = await open_dialect(self._server, http, request, context, address)
            if isinstance(opened, Refusal):
                await self._refuse(http, request, opened)
                return None
            return opened
        await self._serve_store(http, request, route, (query, context), address)
        return None

    def _found(self, request: Request) -> tuple[Route, Place] | Refusal:
        """Which endpoint is asked."""
        place = _place(request.path)
        if isinstance(place, Refusal):
            return place
        method = "GET" if request.method == "HEAD" else request.method
        there = [route for route in ROUTES if route.path == place.path]
        route = next((route for route in there if route.method == method), None)
        if route is not None:
            return route, place
        allowed = " or ".join(route.method for route in there)
        return Refusal(Kind.METHOD_NOT_ALLOWED, f"Only {allowed} is answered here.") if there else _NOT_HERE

    async def _without_store(
        self, http: HttpConnection, request: Request, who: str, found: tuple[Route, Place] | Refusal
    ) -> None:
        """What asks for no store is charged to the address it comes from."""
        refusal = self._server.arrive(who)
        if refusal is None and isinstance(found, Refusal):
            refusal = found
        if refusal is not None:
            self._server.shared.counters.refusals[str(refusal.kind)] += 1
            await self._refuse(http, request, refusal)
        else:
            await self._answer(http, request, Whole(openapi.text(ROUTES)), JSON)

    async def _serve_store(
        self,
        http: HttpConnection,
        request: Request,
        route: Route,
        asking: tuple[dict[str, list[str]], HookContext],
        address: str,
    ) -> None:
        server, (query, context) = self._server, asking
        accepts = chosen(request.headers.get("accept", ""), list(route.answers))
        follows = accepts == EVENT_STREAM  # it counts like a WebSocket: it stays
        client = await server.admit(context, address if follows else None)
        if isinstance(client, Refusal):
            note_refusal(server.shared, context, client)
            await self._refuse(http, request, client)
            return
        with client:
            server.shared.counters.api_requests += 1
            asked = _asked(route, query)
            if accepts is None:
                asked = Refusal(Kind.NOT_ACCEPTABLE, f"This path answers with {' or '.join(route.answers)}.")
            if isinstance(asked, Refusal):
                reply: Reply = asked
            else:
                handle = server.open_store(StoreId(context.store_id))
                gzip = takes_gzip(request.headers) and not follows
                reply = await self._handled(route, asked, Call(http, request, client, handle, accepts or "", gzip))
            if isinstance(reply, Refusal):
                note_refusal(server.shared, client.context, reply)
                await self._refuse(http, request, reply)
            else:
                await self._answer(http, request, reply, accepts or "")

    async def _handled(self, route: Route, asked: Any, call: Call) -> Reply:
        try:
            return await route.handler(self._server, asked, call)
        except LogReplaced:
            return _LOG_MOVED
        except StorageUnavailable:
            return UNAVAILABLE
        except StoreDamaged:
            return DAMAGED

    # --- answers ---------------------------------------------------------------------------------------------------

    def _headers(self, request: Request, content_type: str, more: Sequence[Header]) -> list[Header]:
        return [
            ("content-type", content_type),
            ("cache-control", "no-cache" if content_type != PROBLEM else "no-store"),
            ("vary", "accept, accept-encoding, authorization"),
            *more,
            *self._server.pages().headers(request.headers),
        ]

    async def _answer(self, http: HttpConnection, request: Request, reply: Whole | Parts, accepts: str) -> None:
        if isinstance(reply, Whole):
            etag = [] if reply.etag is None else [("etag", reply.etag)]
            headers = self._headers(request, accepts, [*reply.headers, *etag])
            await http.answer(reply.status, headers, reply.body)
            return
        headers = self._headers(request, accepts, [*reply.headers, ("x-accel-buffering", "no")])
        try:
            await _send_parts(http, request, headers, reply.parts)
        except CutShort as cut:
            _log.warning("an answer was cut short", path=request.path[:200], reason=str(cut))
            await trio.aclose_forcefully(http.stream)

    async def _refuse(self, http: HttpConnection, request: Request, refusal: Refusal) -> None:
        status = status_of(refusal.kind)
        later: list[Header] = []
        if isinstance(refusal, TooFast):
            later = [("retry-after", str(math.ceil(refusal.retry_after_s)))]
        body = msgspec.json.encode(problem(refusal, status))
        await http.answer(status, self._headers(request, PROBLEM, later), body)


async def _send_parts(
    http: HttpConnection, request: Request, headers: Sequence[Header], parts: AsyncGenerator[bytes, None]
) -> None:
    """Send each part at once, until there is none or nobody takes them."""
    async with aclosing(parts):
        http.begin_answer(_OK, headers)
        if request.method != "HEAD":
            async for part in parts:
                await http.send_part(part, last=False)
                if http.broken:
                    return
        await http.send_part(b"", last=True)


def problem(refusal: Refusal, status: int) -> Problem:
    """A refusal as a problem (RFC 9457)."""
    told: dict[str, Any] = {}
    if isinstance(refusal, HeadMismatch):
        told = {"head": refusal.head, "backend_id": refusal.backend_id}
    elif isinstance(refusal, BackendIdMismatch):
        told = {"backend_id": refusal.expected}
    elif isinstance(refusal, TooFast):
        told = {"retry_after": refusal.retry_after_s}
    return Problem(
        type=f"urn:livesync:error:{refusal.kind}",
        title=RULES[refusal.kind].meaning,
        status=status,
        detail=refusal.message.encode(errors="replace").decode(),
        code=str(refusal.kind),
        **told,
    )


# --- requests --------------------------------------------------------------------------------------------------------


def _place(path: str) -> Place | Refusal:
    """What a path names. The store's name stands between slashes, its own slashes percent-encoded."""
    if not path.startswith(_STORES):
        return Place(path)
    name, slash, rest = path.removeprefix(_STORES).partition("/")
    store_id = _store_id(name)
    return store_id if isinstance(store_id, Refusal) else Place(f"{_STORES}{{storeId}}{slash}{rest}", store_id)


def _store_id(name: str) -> StoreId | Refusal:
    """A store's name, percent-decoded: strictly, since two names that become one would be one store."""
    try:
        decoded = unquote_to_bytes(name).decode()
    except UnicodeDecodeError:
        return Refusal(Kind.BAD_SYNC_URL, "The name of the store is not UTF-8.")
    if not decoded or "\0" in decoded or len(decoded.encode()) > STORE_ID_MAX_BYTES:
        return Refusal(Kind.BAD_SYNC_URL, f"The name of a store has 1 to {STORE_ID_MAX_BYTES} bytes, and no U+0000.")
    return StoreId(decoded)


def _query(request: Request) -> dict[str, list[str]] | Refusal:
    try:
        return query_values(request.target.partition("?")[2])
    except ValueError as error:
        return Refusal(Kind.BAD_PARAMETER, f"The query cannot be read: {str(error)[:200]}.")


def _asked(route: Route, query: dict[str, list[str]]) -> Any:
    """What a query asks of a route."""
    try:
        return read_query(route.takes, query)
    except ValueError as error:  # msgspec's are such, too
        return Refusal(Kind.BAD_PARAMETER, f"The query cannot be understood: {str(error)[:200]}.")


def _payload(request: Request, query: dict[str, list[str]]) -> dict[str, str] | None:
    """What LiveStore clients send as their payload: hooks find the token there.

    In the URL it is taken from what cannot send headers only: EventSource and WebSocket of a browser.
    """
    authorization = request.headers.get("authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return {"authToken": authorization[len(_BEARER) :].strip()}
    streams = request.wants_websocket or EVENT_STREAM in request.headers.get("accept", "")
    given = query.get("token", []) if streams else []
    return {"authToken": given[0]} if len(given) == 1 and given[0] else None
