"""The Quart-Trio app: every route of the table behind the gate, every refusal as JSON.

The one module that imports Quart, and with it some 13 MB: `plane` is imported only where there is a control plane.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from livesync_trio.admin import reading
from livesync_trio.admin.declaring import EVENT_STREAM, JSON, Asked, Route, Stream
from livesync_trio.admin.gate import Gate
from livesync_trio.admin.rooms import UNAVAILABLE, Rooms
from livesync_trio.admin.routes import ROUTES
from livesync_trio.errors import Kind, Refusal, StorageUnavailable, StoreDamaged, TooFast
from livesync_trio.limits import ADMIN_ANSWER_LIMIT_S, ADMIN_BODY_MAX_BYTES, REQUEST_BODY_LIMIT_S, RETRY_AFTER_MAX_S
from livesync_trio.telemetry import get_logger

_log = get_logger("admin")

_SLOW: Final = Refusal(Kind.STORAGE_UNAVAILABLE, "The server did not answer in time. It may have done it all the same.")
_DAMAGED: Final = Refusal(Kind.STORE_DAMAGED, "What the database holds of this store is not a whole log.")
_INTERNAL: Final = Refusal(Kind.INTERNAL, "A fault of the control plane. Its cause is in the server's log.")
_OF_STATUS: Final = {
    404: Refusal(Kind.NOT_FOUND, "Nothing is here. GET /api/v1/openapi.json tells what there is."),
    405: Refusal(Kind.METHOD_NOT_ALLOWED, "This path exists, but not for this method."),
    408: Refusal(Kind.REQUEST_TIMEOUT, "The request did not arrive in time."),
    413: Refusal(Kind.BODY_TOO_BIG, f"The body is larger than {ADMIN_BODY_MAX_BYTES} bytes."),
}
"""What the framework finds wrong with a request, told like everything else."""


def make_app(rooms: Rooms) -> QuartTrio:
    """A fresh app; several may serve the same rooms at a time."""
    app = QuartTrio("livesync_trio.admin", static_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=ADMIN_BODY_MAX_BYTES,
        BODY_TIMEOUT=REQUEST_BODY_LIMIT_S,
        PROPAGATE_EXCEPTIONS=False,
        TRAP_HTTP_EXCEPTIONS=False,
    )
    gate = Gate(rooms)

    async def before() -> Response | None:
        if request.method == "OPTIONS":
            return Response(b"", 204, dict(gate.preflight(_headers())))
        refusal = gate.refusal(_headers(), _address(rooms))
        return None if refusal is None else _refused(refusal)

    async def after(response: Response) -> Response:
        for name, value in gate.headers(_headers()):
            response.headers.setdefault(name, value)
        return response

    app.before_request(before)
    app.after_request(after)
    app.register_error_handler(HTTPException, _on_http_error)
    app.register_error_handler(Exception, _on_error)
    for route in ROUTES:
        app.add_url_rule(route.path, route.name, _view(rooms, route), methods=[route.method])
    return app


def _view(rooms: Rooms, route: Route) -> Callable[[], Awaitable[Response]]:
    async def view() -> Response:
        parameters = reading.parameters(route, dict(request.args.lists()))
        if isinstance(parameters, Refusal):
            return _refused(parameters)
        data = await request.get_data(as_text=False) if route.body is not None else b""
        assert isinstance(data, bytes)
        body = reading.body(route, data)
        if isinstance(body, Refusal):
            return _refused(body)
        return await _answer(rooms, route, Asked(parameters, body, _headers(), _address(rooms)))

    return view


async def _answer(rooms: Rooms, route: Route, asked: Asked) -> Response:
    if route.audited is not None and (unrecorded := rooms.audit.refusal) is not None:
        return _refused(unrecorded)
    with trio.move_on_after(ADMIN_ANSWER_LIMIT_S):
        try:
            answer = await route.handler(rooms, asked)
        except StorageUnavailable:
            answer = UNAVAILABLE
        except StoreDamaged as damage:
            _log.error("store damaged", reason=str(damage))
            answer = _DAMAGED
        match answer:
            case Refusal():
                return _refused(answer)
            case Stream():
                if request.method == "HEAD":
                    await answer.parts.aclose()
                    return Response(b"", 200, content_type=EVENT_STREAM)
                response = Response(answer.parts, 200, {"x-accel-buffering": "no"}, content_type=EVENT_STREAM)
                response.timeout = None  # a tail has no end
                return response
            case _:
                return Response(answer.body, 200, content_type=answer.content_type)
    return _refused(_SLOW)


def _refused(refusal: Refusal) -> Response:
    error = {"code": str(refusal.kind), "message": refusal.message.encode(errors="replace").decode()}
    response = Response(msgspec.json.encode({"error": error}), refusal.rule.http_status or 400, content_type=JSON)
    if isinstance(refusal, TooFast):
        response.headers["retry-after"] = str(min(math.ceil(refusal.retry_after_s), RETRY_AFTER_MAX_S))
    if refusal.kind is Kind.UNAUTHENTICATED:
        response.headers["www-authenticate"] = 'Bearer realm="livesync control plane"'
    return response


async def _on_http_error(error: HTTPException) -> Response:
    refusal = _OF_STATUS.get(error.code or 500)
    if refusal is not None:
        return _refused(refusal)
    return _refused(Refusal(Kind.BAD_HTTP, "The request cannot be understood."))


async def _on_error(error: Exception) -> Response:
    _log.error("request to the control plane failed", path=request.path, exc_info=error)
    return _refused(_INTERNAL)


def _headers() -> dict[str, str]:
    """Of the request, names in lower case; a repeated one's values are joined."""
    headers: dict[str, str] = {}
    for given, value in request.headers.items():
        name = given.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _address(rooms: Rooms) -> str:
    """Who really asks."""
    host, port = (request.scope.get("client") or ("", 0))[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return rooms.client_address(address, host, _headers())
