"""An ASGI app below a path of the public port, without an ASGI server.

The HTTP is ours (`http`, on h11), so what ends other servers does not come near; the app only ever sees whole, checked
requests of HTTP/1.1. A fault of the app ends its own request. Knows no app by name.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, ClassVar, Final
from urllib.parse import unquote

import attrs
import trio

from livesync_trio.hooks import host_of
from livesync_trio.limits import ADMIN_BODY_MAX_BYTES
from livesync_trio.telemetry import get_logger
from livesync_trio.transport.http import HttpConnection, Request

_log = get_logger("transport")

Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

_FAULT: Final = b'{"error":{"code":"internal","message":"A fault of the server; its log has the cause."}}'


class _Gone(Exception):
    """The client does not listen any more: the app may stop."""


@attrs.frozen
class Mount:
    """Where an app is (`sites.Site`).

    Attributes:
        path: its root, without a slash at the end.
        app: the app.
        scheme: what clients speak to this port.
    """

    path: str
    app: AsgiApp
    scheme: str = "http"
    admits: ClassVar[bool] = False

    def covers(self, path: str) -> bool:
        """Whether a request belongs to the app."""
        return path == self.path or path.startswith(f"{self.path}/")

    async def serve(self, http: HttpConnection, request: Request, address: str) -> None:
        """Have the app answer a request. `address`: `host:port` of the socket's other end.

        Raises:
            BadRequest: the request cannot be read.
        """
        body = await http.read_body(ADMIN_BODY_MAX_BYTES)
        if request.path == self.path:
            await http.answer(308, [("location", self._with_slash(request)), ("cache-control", "no-store")], b"")
            return
        exchange = _Exchange(http, body)
        try:
            await self.app(self._scope(request, address), exchange.receive, exchange.send)
        except Exception as error:
            if not exchange.gone:
                _log.error("fault in an app on the public port", path=request.path, exc_info=error)
        if not exchange.began:
            await http.answer(500, [("content-type", "application/json"), ("cache-control", "no-store")], _FAULT)

    def _with_slash(self, request: Request) -> str:
        """Where the app's root is. Relative, since a proxy may have put the whole of it below another path."""
        _, mark, query = request.target.partition("?")
        return f"{self.path.rpartition('/')[2]}/{mark}{query}"

    def _scope(self, request: Request, address: str) -> dict[str, Any]:
        path, _, query = request.target.partition("?")
        port = address.rpartition(":")[2]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.http_version,
            "method": request.method,
            "scheme": self.scheme,
            "path": unquote(path),
            "raw_path": path.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "root_path": self.path,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.raw_headers],
            "client": (host_of(address), int(port) if port.isdigit() else 0),
            "server": None,
            "extensions": {},
        }


class _Exchange:
    """One request and its answer, as the app sees them."""

    def __init__(self, http: HttpConnection, body: bytes) -> None:
        self._http = http
        self._body: bytes | None = body
        self._head: Message | None = None
        self.began = False
        self.gone = False

    async def receive(self) -> Message:
        """The request's body, once. After that nothing comes: whether the client is still there shows in sending."""
        if self._body is None:
            await trio.sleep_forever()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Take a piece of the answer and send it at once. Raises when the client has gone."""
        if message["type"] == "http.response.start":
            self._head = message
            return
        if not self.began:
            assert self._head is not None
            self.began = True
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._head["headers"]]
            self._http.begin_answer(self._head["status"], headers)
        await self._http.send_part(message.get("body", b""), last=not message.get("more_body", False))
        if self._http.broken:
            self.gone = True
            raise _Gone
