"""The Quart-Trio app: every route of the table behind the gate, every refusal as JSON.

The one module that imports Quart, and with it some 13 MB: `plane` is imported only where there is a control plane.
"""

import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import ExitStack, aclosing, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec
import trio
from quart import Response, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from livesync_trio.admin.declaring import JSON, Answer, Caller, CallerKind, Raw, Route, Stream, read
from livesync_trio.admin.gate import PROTECTION, Gate, RequestHead, same_csrf
from livesync_trio.admin.openapi import Error, Fault
from livesync_trio.admin.routes import ROUTES
from livesync_trio.admin.server_view import UNAVAILABLE, ServerView
from livesync_trio.errors import Kind, Refusal, StorageUnavailable, StoreDamaged, TooFast
from livesync_trio.limits import ADMIN_BODY_MAX_BYTES, REQUEST_BODY_LIMIT_S, RETRY_AFTER_MAX_S
from livesync_trio.operators.roles import Right
from livesync_trio.telemetry import get_logger

ADMIN_STREAM_ASKS_S: Final = 10.0
"""How often an answer without end looks whether its session or token still counts; its heartbeats are 15 s apart."""

ADMIN_ANSWER_LIMIT_S: Final = 30.0
"""How long a request of the control plane may take before it is answered that the server is busy."""

_log = get_logger("admin")

_SLOW: Final = Refusal(Kind.STORAGE_UNAVAILABLE, "The server did not answer in time. It may have done it all the same.")
_DAMAGED: Final = Refusal(Kind.STORE_DAMAGED, "What the database holds of this store is not a whole log.")
_INTERNAL: Final = Refusal(Kind.INTERNAL, "A fault of the control plane. Its cause is in the server's log.")
_FORGED: Final = Refusal(Kind.NOT_ALLOWED, "Send the session's `csrf` as `X-CSRF-Token`: load the page again.")
_NO_CONSOLE: Final = Refusal(Kind.NOT_FOUND, "This server has no operators: LIVESYNC_CONSOLE switches them on.")
_BAD_HTTP: Final = Refusal(Kind.BAD_HTTP, "The request cannot be understood.")
_OF_STATUS: Final = {
    404: Refusal(Kind.NOT_FOUND, "Nothing is here. GET /api/v1/openapi.json tells what there is."),
    405: Refusal(Kind.METHOD_NOT_ALLOWED, "This path exists, but not for this method."),
    408: Refusal(Kind.REQUEST_TIMEOUT, "The request did not arrive in time."),
    413: Refusal(Kind.BODY_TOO_BIG, f"The body is larger than {ADMIN_BODY_MAX_BYTES} bytes."),
    500: _INTERNAL,
}
"""What the framework finds wrong with a request, told like everything else."""

_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")
_TEMPLATES: Final = Path(__file__).parents[1] / "console" / "templates"
_UNTIL_ANSWERED: Final = "livesync.until_answered"


class ControlApp(QuartTrio):
    """The app. At the public port it is mounted, so its root path is not empty there."""

    def __init__(self, server: ServerView) -> None:
        """An app for a server."""
        super().__init__("livesync_trio.admin", static_folder=None, template_folder=str(_TEMPLATES))
        self.config.update(
            MAX_CONTENT_LENGTH=ADMIN_BODY_MAX_BYTES,
            BODY_TIMEOUT=REQUEST_BODY_LIMIT_S,
            PROPAGATE_EXCEPTIONS=False,
            TRAP_HTTP_EXCEPTIONS=False,
        )
        self.logger = library_logger()
        self._server = server
        self._gate = Gate(server)
        self._needs: dict[str, Right | None] = {}
        self.before_request(self._before)
        self.after_request(self._after)
        self.register_error_handler(HTTPException, self._on_http_error)
        self.register_error_handler(Exception, self._on_error)
        for route in ROUTES:
            self._needs[route.name] = route.needs
            self.add_url_rule(route.path, route.name, self._view(route), methods=[route.method])
        if server.entrance is not None:
            from livesync_trio.admin.pages import Pages  # noqa: PLC0415 - with the console only

            for method, path, view, needs in Pages(server).all():
                self.add_page(path, view, needs=needs, method=method)

    def add_page(
        self, path: str, view: Callable[..., Awaitable[Response]], *, needs: Right | None, method: str = "GET"
    ) -> None:
        """Put a page, or what its forms are sent to, behind the gate.

        Args:
            path: below the root; may have parts in Werkzeug's brackets.
            view: answers; who asks is in `quart.g.caller`.
            needs: what one must be allowed to; None: nothing, for what strangers may have.
            method: GET or POST.
        """
        endpoint = f"{method} {path}"
        self._needs[endpoint] = needs
        self.add_url_rule(path, endpoint, view, methods=[method])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request (ASGI). There are no WebSockets, and no targets that are no path."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http" and not scope["path"].startswith("/"):
            body = self._told(_BAD_HTTP)
            fields = {**dict(PROTECTION), "content-type": JSON, "content-length": str(len(body))}
            headers = [(name.encode(), value.encode()) for name, value in fields.items()]
            await send({"type": "http.response.start", "status": 400, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        else:
            with ExitStack() as until_answered:
                scope[_UNTIL_ANSWERED] = until_answered
                await super().__call__(scope, receive, send)

    # --- a request ---------------------------------------------------------------------------------------------------

    async def _before(self) -> Response | None:
        if request.method == "OPTIONS":
            return Response(b"", 204, dict(self._gate.preflight(_headers())))
        try:
            caller = await self._gate.admit(self._head())
        except StorageUnavailable:
            return self._refused(UNAVAILABLE)
        if isinstance(caller, Refusal):
            return self._refused_here(caller)
        g.caller = caller
        if caller.kind is CallerKind.SESSION and not await self._knows_session(caller):
            return self._refused(_FORGED)
        return None

    def _head(self) -> RequestHead:
        headers = _headers()
        return RequestHead(
            headers,
            self._address(),
            public=bool(request.scope.get("root_path")),
            secure=self._secure(headers),
            changes=request.method not in ("GET", "HEAD"),
            needs=self._needs.get(request.endpoint or "", Right.ENTER),  # even what is not there is nobody's business
            until_answered=request.scope[_UNTIL_ANSWERED],  # type: ignore[typeddict-item]
        )

    def _secure(self, headers: Mapping[str, str]) -> bool:
        """Whether the browser speaks TLS: to this port, to a proxy that is believed, or because it says so itself."""
        host = (request.scope.get("client") or ("", 0))[0]
        proto = headers.get("x-forwarded-proto", "") if self._server.trusts(host) else ""
        return "https" in (request.scheme, proto) or headers.get("origin") == f"https://{headers.get('host')}"

    async def _knows_session(self, caller: Caller) -> bool:
        """Whether a request that may change something by a cookie brings what only a page of that session knows."""
        needs = self._needs.get(request.endpoint or "", Right.ENTER)
        if request.method in ("GET", "HEAD") or needs is None or caller.session is None:
            return True
        given = caller.headers.get("x-csrf-token")
        if given is None and request.mimetype in _FORMS:
            given = (await request.form).get("csrf")
        return same_csrf(caller.session.csrf, given or "")

    def _refused_here(self, refusal: Refusal) -> Response:
        """A refusal; a browser that only wants to see a page is led to where it can sign in."""
        page = request.method == "GET" and not request.path.startswith("/api/") and request.path != "/metrics"
        wants_page = page and "text/html" in request.headers.get("accept", "")
        if self._server.entrance is None or not wants_page or refusal.kind is not Kind.UNAUTHENTICATED:
            return self._refused(refusal)
        query = f"?{request.query_string.decode('latin-1')}" if request.query_string else ""
        where = quote(f"{request.path}{query}")
        return Response(b"", 303, {"location": f"{request.root_path}/login?next={where}"})

    async def _after(self, response: Response) -> Response:
        for name, value in self._gate.headers(_headers()):
            response.headers.setdefault(name, value)
        caller = g.get("caller")
        for name, value in () if caller is None else caller.answer_headers:
            response.headers.add(name, value)
        return response

    def _view(self, route: Route) -> Callable[[], Awaitable[Response]]:
        async def view() -> Response:
            if route.console and self._server.entrance is None:
                return self._refused(_NO_CONSOLE)
            body = await request.get_data(as_text=False) if route.method == "POST" else b""
            assert isinstance(body, bytes)  # as asked for
            asked = read(route, request.query_string, body)
            if isinstance(asked, Refusal):
                return self._refused(asked)
            if route.method == "POST" and (unrecorded := self._server.audit.refusal) is not None:
                return self._refused(unrecorded)
            with trio.move_on_after(ADMIN_ANSWER_LIMIT_S):
                try:
                    answer = await route.handler(self._server, asked, g.caller)
                    if isinstance(answer, Stream):
                        answer = Stream(self._while_in(answer.parts, g.caller, route.needs), answer.content_type)
                    return await self._response(answer)
                except StorageUnavailable:
                    return self._refused(UNAVAILABLE)
                except StoreDamaged as damage:
                    _log.error("store damaged", reason=str(damage))
                    return self._refused(_DAMAGED)
            return self._refused(_SLOW)

        return view

    async def _while_in(
        self, parts: AsyncGenerator[bytes, None], caller: Caller, right: Right | None
    ) -> AsyncGenerator[bytes, None]:
        """An answer without end, until whoever gets it would not be let in any more."""
        asked_s = trio.current_time()
        async with aclosing(parts):
            async for part in parts:
                if trio.current_time() - asked_s >= ADMIN_STREAM_ASKS_S:
                    asked_s = trio.current_time()
                    with suppress(StorageUnavailable):  # then it is asked again after the next while
                        if not await self._gate.still_in(caller, right):
                            return
                yield part

    async def _response(self, answer: Answer | Raw | Stream | Refusal) -> Response:
        match answer:
            case Refusal():
                return self._refused(answer)
            case Raw():
                return Response(answer.body, 200, content_type=answer.content_type)
            case Stream():
                if request.method == "HEAD":
                    await answer.parts.aclose()
                    return Response(b"", 200, content_type=answer.content_type)
                response = Response(answer.parts, 200, {"x-accel-buffering": "no"}, content_type=answer.content_type)
                response.timeout = None  # a tail has no end
                return response
            case _:
                return Response(msgspec.json.encode(answer), 200, content_type=JSON)

    # --- refusals ----------------------------------------------------------------------------------------------------

    def _refused(self, refusal: Refusal) -> Response:
        response = Response(self._told(refusal), refusal.rule.http_status or 400, content_type=JSON)
        if isinstance(refusal, TooFast):
            response.headers["retry-after"] = str(min(math.ceil(refusal.retry_after_s), RETRY_AFTER_MAX_S))
        if refusal.kind is Kind.UNAUTHENTICATED:
            response.headers["www-authenticate"] = 'Bearer realm="livesync control plane"'
        return response

    def _told(self, refusal: Refusal) -> bytes:
        """A refusal as it is sent, counted."""
        self._server.counters.refusals[str(refusal.kind)] += 1
        message = refusal.message.encode(errors="replace").decode()
        return msgspec.json.encode(Error(error=Fault(code=str(refusal.kind), message=message)))

    async def _on_http_error(self, error: HTTPException) -> Response:
        return self._refused(_OF_STATUS.get(error.code or 500, _BAD_HTTP))

    async def _on_error(self, error: Exception) -> Response:
        path = ascii(request.path)[1:-1]  # a stranger may have written it
        _log.error("request to the control plane failed", path=path, exc_info=error)
        return self._refused(_INTERNAL)

    def _address(self) -> str:
        """Who really asks."""
        host, port = (request.scope.get("client") or ("", 0))[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return self._server.client_address(address, host, _headers())


def _headers() -> dict[str, str]:
    """Of the request, names in lower case; a repeated one's values are joined."""
    headers: dict[str, str] = {}
    for given, value in request.headers.items():
        name = given.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


class _Lines(logging.Handler):
    """Log records of Quart and Hypercorn as lines of ours: these have request paths as strangers sent them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record; what it says may hold anything."""
        what = ascii(record.getMessage())[1:-1]
        _log.log(record.levelno, "from a library of the control plane", what=what, exc_info=record.exc_info)


def library_logger() -> logging.Logger:
    """A logger for a library. It is none of the process's tree, so nobody else writes down what it is told.

    Without one, Quart and Hypercorn write to standard error.
    """
    logger = logging.Logger("control plane", logging.WARNING)  # noqa: LOG001 - see above
    logger.addHandler(_Lines())
    return logger
