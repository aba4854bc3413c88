"""Who may use the control plane, and what every answer carries.

By the secret, a token or the cookie of a session; the throttle of secrets, origins, headers.
"""

import hmac
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import attrs
import trio

from livesync_trio.admin.declaring import Caller, CallerKind
from livesync_trio.admin.server_view import ServerView
from livesync_trio.config import is_loopback
from livesync_trio.errors import Kind, Refusal
from livesync_trio.hooks import host_of
from livesync_trio.operators.roles import Operator, Right

if TYPE_CHECKING:
    from livesync_trio.operators.entrance import Entrance
    from livesync_trio.operators.sessions import Session
    from livesync_trio.operators.tokens import Token

PLAIN: Final = "livesync_session"
HOST: Final = "__Host-livesync_session"
"""Behind TLS. No page of a neighbouring name can set it, since browsers take it for this very host only."""


def set_cookie(value: str, lifetime_s: float, *, secure: bool) -> tuple[str, str]:
    """The header that gives a browser its session."""
    return "set-cookie", f"{_name(secure)}={value}; Max-Age={int(lifetime_s)}; {_attributes(secure)}"


def clear_cookie(*, secure: bool) -> tuple[str, str]:
    """The header that takes it away."""
    return "set-cookie", f"{_name(secure)}=; Max-Age=0; {_attributes(secure)}"


def session_cookie(headers: Mapping[str, str], *, secure: bool) -> str | None:
    """The value that came with a request; None: there is none that can be believed.

    The name that a neighbour cannot set goes first. The plain one is not read behind TLS, nor when it comes twice: then
    somebody else set one of them.
    """
    for name in (HOST,) if secure else (HOST, PLAIN):
        found = [value for given, value in _pairs(headers.get("cookie", "")) if given == name]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _name(secure: bool) -> str:
    return HOST if secure else PLAIN


def _attributes(secure: bool) -> str:
    return f"Path=/; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"


def _pairs(header: str) -> Iterator[tuple[str, str]]:
    # Several headers of this name were joined by a comma, which no value of ours has.
    for part in header.replace(",", ";").split(";"):
        name, _, value = part.strip().partition("=")
        yield name, value


Header = tuple[str, str]

PROTECTION: Final[tuple[Header, ...]] = (
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("vary", "origin"),
)
"""On every answer that does not say otherwise: a page has a policy of its own."""

SIGN_IN: Final = Refusal(Kind.UNAUTHENTICATED, "Sign in, or send the admin secret: `Authorization: Bearer …`.")

_SCHEME: Final = "bearer "
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "via")


@attrs.frozen
class RequestHead:
    """A request as far as the gate looks at it.

    Attributes:
        headers: names in lower case.
        address: from where it really comes, `host:port`.
        public: whether it came in at the public port.
        secure: whether it came by TLS, be it to a proxy in front.
        changes: whether it may change something: its method is neither GET nor HEAD.
        needs: what one must be allowed to; None: nothing.
        until_answered: see `Caller`.
    """

    headers: Mapping[str, str]
    address: str
    public: bool
    secure: bool
    changes: bool
    needs: Right | None
    until_answered: ExitStack


@attrs.frozen
class Gate:
    """Decides before anything else of a request is looked at."""

    server: ServerView

    async def admit(self, head: RequestHead) -> Caller | Refusal:
        """Who asks, or why nothing is done. Raises StorageUnavailable."""
        headers, needs = head.headers, head.needs
        origin = headers.get("origin")
        if origin is not None and not self._allows(origin, headers):
            return Refusal(
                Kind.ORIGIN_REFUSED, "Web pages of this origin may not use the control plane (admin_origins)."
            )
        if "authorization" in headers or self.server.entrance is None:
            caller = await self._by_secret(head)
        else:
            caller = await self._by_cookie(head, self.server.entrance)
        if isinstance(caller, Refusal) or caller.may(needs):
            return caller
        if caller.kind is CallerKind.TOKEN:
            return Refusal(Kind.NOT_ALLOWED, f"This token was not made for that: it asks for the scope {needs}.")
        return Refusal(Kind.NOT_ALLOWED, f"Your role, {caller.role}, does not allow that. Ask an owner.")

    # --- programs ----------------------------------------------------------------------------------------------------

    async def _by_secret(self, head: RequestHead) -> Caller | Refusal:
        headers, now_s = head.headers, trio.current_time()
        host = host_of(head.address)
        attempts = self.server.public_attempts if head.public else self.server.attempts
        waiting = attempts.refusal(host, now_s)
        if waiting is not None and (head.public or not self._local(host, headers)):
            return waiting
        given = headers.get("authorization", "")
        if given[: len(_SCHEME)].lower() != _SCHEME:
            return Refusal(Kind.UNAUTHENTICATED, "Send the admin secret: `Authorization: Bearer …`.")
        text = given[len(_SCHEME) :].strip()
        expected = self.server.secret()
        if expected is not None and expected.matches(text):
            return self._caller(head, CallerKind.SECRET, frozenset(Right))
        if (token := await self._token(text)) is not None:
            return self._caller(head, CallerKind.TOKEN, self._rights_of(token), token.operator)
        if waiting is None:  # of local guesses that go on, no more are recorded than of a stranger's
            attempts.failed(host, now_s)
            self.server.audit.record(
                "refuse", store="", address=head.address, via="control plane", kind=str(Kind.UNAUTHENTICATED)
            )
        return Refusal(Kind.UNAUTHENTICATED, "This is not the admin secret.")

    async def _token(self, text: str) -> "Token | None":
        return None if self.server.entrance is None else await self.server.entrance.tokens.find(text)

    def _rights_of(self, token: "Token") -> frozenset[Right]:
        return token.rights if token.operator is None else token.rights & self._rights(token.operator)

    # --- people ------------------------------------------------------------------------------------------------------

    async def _by_cookie(self, head: RequestHead, entrance: "Entrance") -> Caller | Refusal:
        cookie = session_cookie(head.headers, secure=head.secure)
        session = None if cookie is None else await entrance.sessions.find(cookie)
        if head.changes and not self._from_own_page(head):
            return Refusal(Kind.ORIGIN_REFUSED, "This did not come from a page of the console. Nothing was changed.")
        if session is None:
            return self._caller(head, CallerKind.NOBODY, frozenset()) if head.needs is None else SIGN_IN
        operator = session.operator
        return self._caller(head, CallerKind.SESSION, self._rights(operator), operator, session)

    def _from_own_page(self, head: RequestHead) -> bool:
        """Whether a browser says that a page of this very origin asks, or nobody says anything.

        A page at another port or neighbouring name is another origin. Who says nothing is no browser of our days; what
        decides then is the session's token.
        """
        site, origin = head.headers.get("sec-fetch-site"), head.headers.get("origin")
        host = head.headers.get("host")
        own = origin is None or origin in (f"http://{host}", f"https://{host}")
        return own and site in (None, "same-origin")

    async def still_in(self, caller: Caller, right: Right | None) -> bool:
        """Whether somebody whose request lasts would be let in again. Raises StorageUnavailable."""
        if caller.kind is CallerKind.TOKEN:
            token = await self._token(caller.headers.get("authorization", "")[len(_SCHEME) :].strip())
            return token is not None and (right is None or right in self._rights_of(token))
        if caller.kind is CallerKind.SESSION and self.server.entrance is not None:
            cookie = session_cookie(caller.headers, secure=caller.secure)
            session = None if cookie is None else await self.server.entrance.sessions.find(cookie)
            return session is not None and (right is None or right in self._rights(session.operator))
        return True

    def _rights(self, operator: Operator) -> frozenset[Right]:
        return operator.rights(viewers_see_payloads=self.server.config().viewers_see_payloads)

    def _caller(
        self,
        head: RequestHead,
        kind: CallerKind,
        rights: frozenset[Right],
        operator: Operator | None = None,
        session: "Session | None" = None,
    ) -> Caller:
        local = not head.public and self._local(host_of(head.address), head.headers)
        return Caller(
            head.headers,
            head.address,
            kind,
            rights,
            operator,
            session,
            head.secure,
            local,
            head.until_answered,
        )

    # --- headers -----------------------------------------------------------------------------------------------------

    def headers(self, headers: Mapping[str, str]) -> list[Header]:
        """What an answer to this request carries besides its own."""
        origin = headers.get("origin")
        if origin is None or not self._allows(origin, headers):
            return list(PROTECTION)
        return [
            *(header for header in PROTECTION if header[0] != "cross-origin-resource-policy"),
            ("access-control-allow-origin", origin),
            ("access-control-expose-headers", "retry-after"),
        ]

    def preflight(self, headers: Mapping[str, str]) -> list[Header]:
        """Headers for the answer to a preflight; for a page that may not, none that would let it go on."""
        answer = self.headers(headers)
        if any(name == "access-control-allow-origin" for name, _ in answer):
            answer += [
                ("access-control-allow-methods", "GET, POST"),
                ("access-control-allow-headers", "authorization, content-type, last-event-id"),
                ("access-control-max-age", "600"),
            ]
        return answer

    def _allows(self, origin: str, headers: Mapping[str, str]) -> bool:
        """Whether a page may ask: one that is listed, or one that came from here itself."""
        host = headers.get("host")
        return origin in self.server.config().admin_origins or origin in (f"http://{host}", f"https://{host}")

    def _local(self, host: str, headers: Mapping[str, str]) -> bool:
        """Whether a request is of this machine's own users, at an address that nobody else reaches.

        They would lock each other out. What a proxy here passes on is not theirs, whether the proxy is believed or not.
        """
        forwarded = any(name in headers for name in _FORWARDED)
        return is_loopback(host) and not forwarded and is_loopback(self.server.config().admin_host)


def same_csrf(expected: str, given: str) -> bool:
    """Whether a page of a session sent what it should, in a time that tells nothing about it."""
    return hmac.compare_digest(expected.encode(), given.encode(errors="replace"))
