"""The console as the control plane's app meets it: its pages, its assets, its recorder.

Owns what all screens share: how a request becomes a screen, how a refusal looks, which headers a page has. What a
screen shows is decided by `screens`.
"""

import gzip
import hashlib
import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import attrs
import trio
from quart import Response, g, render_template, request

from livesync_trio.admin.declaring import Caller
from livesync_trio.admin.pages import PAGE_HEADERS
from livesync_trio.admin.server_view import UNAVAILABLE, ServerView
from livesync_trio.admin.web import ControlApp
from livesync_trio.config import sqlite_path
from livesync_trio.console import formats
from livesync_trio.console.recorder import Recorder
from livesync_trio.console.screens import SCREENS, Screen, Shown
from livesync_trio.errors import Kind, Refusal, StorageUnavailable, StoreDamaged
from livesync_trio.operators.roles import Right
from livesync_trio.supervision import open_tasks
from livesync_trio.telemetry import recent_lines
from livesync_trio.version import VERSION

FOLDER: Final = Path(__file__).parent / "static"
_KEPT: Final = "public, max-age=31536000, immutable"


@attrs.frozen
class Asset:
    """One file.

    Attributes:
        body: what it holds.
        compressed: the same by gzip.
        content_type: for the answer.
        version: changes with its content, and stands in its URL, so that browsers may keep it for ever.
    """

    body: bytes
    compressed: bytes
    content_type: str
    version: str

    def response(self) -> Response:
        """The answer to a request for it."""
        small = "gzip" in request.headers.get("accept-encoding", "")
        asked = request.args.get("v") == self.version
        response = Response(self.compressed if small else self.body, 200, content_type=self.content_type)
        response.headers["cache-control"] = _KEPT if asked else "no-cache"
        response.headers["vary"] = "accept-encoding"
        if small:
            response.headers["content-encoding"] = "gzip"
        return response


def read_assets() -> Mapping[str, Asset]:
    """Every asset by its path below `static`."""
    return {
        str(path.relative_to(FOLDER)): _asset(path)
        for path in sorted(FOLDER.rglob("*"))
        if path.suffix in (".css", ".js", ".svg")
    }


def _asset(path: Path) -> Asset:
    body = path.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    return Asset(body, gzip.compress(body, mtime=0), kind, hashlib.sha256(body).hexdigest()[:12])


SCREEN_LIMIT_S: Final = 20.0
"""How long a screen may take to be made before the reader is told that the server is busy."""

_DAMAGED: Final = Refusal(Kind.STORE_DAMAGED, "What the database holds of this store is not a whole log.")
_BUSY: Final = Refusal(Kind.STORAGE_UNAVAILABLE, "The server did not answer in time. Try again.")


class Console:
    """The console of one server."""

    def __init__(self, server: ServerView, app: ControlApp) -> None:
        """Put its pages into the control plane's app, and let acts and lines of the log be kept for them."""
        self._server = server
        self._assets = read_assets()
        database = sqlite_path(server.config().database_url) if server.engine == "sqlite" else None
        self._recorder = Recorder(server, database)
        server.recorder = self._recorder
        server.audit.keep_recent()
        recent_lines.keep()
        for screen in SCREENS:
            app.add_page(screen.path, self._view(screen), needs=screen.needs)
        app.add_page("/static/<path:name>", self._static, needs=None)
        app.jinja_env.filters.update(formats.FILTERS)
        app.jinja_env.globals.update(version=VERSION, href=href, asset=self._asset_url)
        app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True

    async def run(self) -> None:
        """Record what the plots show, until cancelled."""
        async with open_tasks("console") as tasks:
            if self._server.engine == "postgresql":
                tasks.start(self._recorder.measure)
            await self._recorder.run()

    def _view(self, screen: Screen) -> Callable[[], Awaitable[Response]]:
        async def view() -> Response:
            shown = await self._shown(screen, g.caller)
            if isinstance(shown, Refusal):
                return await self._page(screen, "refused.html", {"refusal": shown}, shown.rule.http_status or 400)
            if shown.moved is not None:
                return Response(b"", 303, {"location": shown.moved})
            return await self._page(screen, screen.template, dict(shown.values), 200, shown.connects)

        return view

    async def _shown(self, screen: Screen, caller: Caller) -> Shown | Refusal:
        given = {name: value for name, value in request.args.items() if value}
        with trio.move_on_after(SCREEN_LIMIT_S):
            try:
                return await screen.show(self._server, given, caller)
            except ValueError as error:
                return Refusal(Kind.BAD_PARAMETER, f"This address cannot be understood: {str(error)[:200]}.")
            except StorageUnavailable:
                return UNAVAILABLE
            except StoreDamaged:
                return _DAMAGED
        return _BUSY

    async def _page(
        self, screen: Screen, template: str, values: Mapping[str, Any], status: int, connects: str = ""
    ) -> Response:
        """A page; for htmx only the part of it that changes."""
        part = "hx-request" in request.headers and "hx-history-restore-request" not in request.headers
        body = await render_template(
            template,
            **values,
            screen=screen,
            layout="part.html" if part else "page.html",
            navigation=[
                each for each in SCREENS if each.label and each.there(self._server) and g.caller.may(each.needs)
            ],
            caller=g.caller,
            may=lambda right: g.caller.may(Right(right)),
            given=request.args,
        )
        response = Response(body, status, content_type="text/html; charset=utf-8")
        for name, value in PAGE_HEADERS:
            response.headers[name] = value.replace("connect-src 'self'", f"connect-src 'self'{connects}")
        response.headers["vary"] = "hx-request"
        return response

    async def _static(self, name: str) -> Response:
        asset = self._assets.get(name)
        return Response(b"", 404) if asset is None else asset.response()

    def _asset_url(self, name: str) -> str:
        return href(f"/static/{name}", v=self._assets[name].version)


def href(path: str, **query: object) -> str:
    """A URL of the control plane as this page reaches it."""
    given = urlencode({name: value for name, value in query.items() if value not in (None, "")})
    return f"{request.scope.get('root_path', '')}{path}{'?' if given else ''}{given}"
