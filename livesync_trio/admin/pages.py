"""The two pages before everything else: signing in, and making the first operator. Plain forms; they need no script.

Also what every page of the console carries, and where it may send a browser.
"""

from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import quote

import attrs
from quart import Response, g, render_template, request

from livesync_trio.admin.declaring import Caller
from livesync_trio.admin.gate import Header, clear_cookie
from livesync_trio.admin.operators import enter, entrance_of, visitor
from livesync_trio.admin.server_view import UNAVAILABLE, ServerView
from livesync_trio.config import Secret
from livesync_trio.config.console import EMAIL_MAX_CHARACTERS, PASSWORD_LEAST_CHARACTERS, PASSWORD_MAX_BYTES
from livesync_trio.errors import Kind, Refusal, StorageUnavailable
from livesync_trio.operators.entrance import NO_LINK, SignedIn
from livesync_trio.operators.roles import Right

PAGE_HEADERS: Final[tuple[Header, ...]] = (
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),  # with no-referrer, forms are sent with the origin `null`
    ("cross-origin-opener-policy", "same-origin"),
)
"""On every page: nothing of another origin, no code or style in the page itself, no frame around it."""


def safe_next(text: str) -> str:
    """Where to go after signing in: a path of the console. Whatever else is asked for becomes `/`."""
    ours = text.startswith("/") and not text.startswith("//") and "\\" not in text and text.isprintable()
    return text if ours and text.isascii() and " " not in text else "/"


@attrs.frozen
class Pages:
    """The two pages, and what becomes of their forms."""

    server: ServerView

    def all(self) -> list[tuple[str, str, Callable[[], Awaitable[Response]], Right | None]]:
        """Method, path, what answers, and what one must be allowed to (`ControlApp.add_page`)."""
        return [
            ("GET", "/login", self.login, None),
            ("POST", "/login", self.log_in, None),
            ("GET", "/first", self.first, None),
            ("POST", "/first", self.make_first, None),
            ("POST", "/logout", self.log_out, Right.ENTER),
        ]

    async def login(self) -> Response:
        """The form; who is signed in already goes on."""
        where = safe_next(request.args.get("next", "/"))
        if _caller().session is not None:
            return _go(where)
        if request.headers.get("sec-fetch-site") == "cross-site" and "asked" not in request.args:
            # A link from elsewhere: the browser keeps the cookie back until a page of ours asks.
            return Response(b"", 200, {"refresh": f"0; url={_path('/login')}?asked=1&next={quote(where)}"})
        return await self._login(where)

    async def log_in(self) -> Response:
        """Sign in."""
        form = await request.form
        where = safe_next(form.get("next", "/"))
        email, password = form.get("email", ""), form.get("password", "")
        if len(email) > EMAIL_MAX_CHARACTERS or len(password) > PASSWORD_MAX_BYTES:
            email, password = "", ""
        lifetime_s = self.server.config().console_session_s
        answer = await self._tried(
            lambda: entrance_of(self.server).sign_in(email, Secret(password), visitor(_caller()), lifetime_s)
        )
        if isinstance(answer, Refusal):
            return await self._login(where, answer, email)
        await enter(self.server, _caller(), answer)
        return _go(where)

    async def first(self) -> Response:
        """The form behind the one-time link."""
        token = request.args.get("token", "")
        if not entrance_of(self.server).first.opens(token):
            return await self._first("", NO_LINK)
        return await self._first(token)

    async def make_first(self) -> Response:
        """Make the first operator."""
        form = await request.form
        token, email, password = (form.get(name, "")[:PASSWORD_MAX_BYTES] for name in ("token", "email", "password"))
        if password != form.get("again", ""):
            wrong = Refusal(Kind.BAD_PARAMETER, "The two passwords are not the same.")
            return await self._first(token, wrong, email)
        lifetime_s = self.server.config().console_session_s
        entrance = entrance_of(self.server)
        answer = await self._tried(
            lambda: entrance.make_first(token, email, Secret(password), visitor(_caller()), lifetime_s)
        )
        if isinstance(answer, Refusal):
            return await self._first(token, answer, email)
        await enter(self.server, _caller(), answer)
        return _go("/")

    async def log_out(self) -> Response:
        """Sign out."""
        caller = _caller()
        if caller.session is not None:
            await entrance_of(self.server).sign_out(caller.session, caller.address)
            caller.answer_headers.append(clear_cookie(secure=caller.secure))
        return _go("/login")

    async def _tried(self, attempt: Callable[[], Awaitable[SignedIn | Refusal]]) -> SignedIn | Refusal:
        unrecorded = self.server.audit.refusal
        if unrecorded is not None:
            return unrecorded
        try:
            return await attempt()
        except StorageUnavailable:
            return UNAVAILABLE

    async def _login(self, where: str, wrong: Refusal | None = None, email: str = "") -> Response:
        return await _page("login.html", wrong, next=where, email=email)

    async def _first(self, token: str, wrong: Refusal | None = None, email: str = "") -> Response:
        return await _page("first.html", wrong, token=token, email=email, least=PASSWORD_LEAST_CHARACTERS)


async def _page(template: str, wrong: Refusal | None, **values: object) -> Response:
    status = 200 if wrong is None else wrong.rule.http_status or 400
    text = await render_template(template, wrong=None if wrong is None else wrong.message, root=_path(""), **values)
    return Response(text, status, dict(PAGE_HEADERS), content_type="text/html; charset=utf-8")


def _go(where: str) -> Response:
    return Response(b"", 303, {"location": _path(where)})


def _path(path: str) -> str:
    """A path of the console as browsers see it, also where the console is mounted."""
    return f"{request.root_path}{path}"


def _caller() -> Caller:
    caller = g.caller
    assert isinstance(caller, Caller)
    return caller
