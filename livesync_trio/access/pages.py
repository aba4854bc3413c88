"""Which web pages may use the server, and the headers that protect its answers in a browser (SPEC 3.1, OPTIONS).

A page's WebSocket is not held back by CORS: a browser opens it, cookies and all, whatever the page (cross-site
WebSocket hijacking). So whoever names an origin that is not allowed is refused, and not only left without a header.
While nobody has to prove who they are, every page that a developer happens to open could read a server on their
machine; then only pages of this machine may, unless `cors_origins` says otherwise.
"""

import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import attrs

from livesync_trio.config import Config, is_loopback
from livesync_trio.errors import Kind, Refusal

Header = tuple[str, str]

PROTECTION: Final[tuple[Header, ...]] = (
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
)
"""On every answer: nothing here is a page, and URLs hold tokens."""

ONLY_TLS: Final[Header] = ("strict-transport-security", "max-age=31536000")
"""Where the server speaks TLS itself; a proxy says so on its own."""

_EXPOSED: Final[Header] = ("access-control-expose-headers", "retry-after, etag")
_ANY: Final = "*"
_DEFAULT_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}

_NOT_LISTED: Final = Refusal(
    Kind.ORIGIN_REFUSED, "Web pages of this origin may not use this server (LIVESYNC_CORS_ORIGINS)."
)
_NOT_LOCAL: Final = Refusal(
    Kind.ORIGIN_REFUSED,
    "Nobody has to log in to this server, so only web pages of this machine may use it, and under the names of this "
    "machine. Name the pages that may in LIVESYNC_CORS_ORIGINS; * is all of them.",
)


@attrs.frozen
class Pages:
    """The pages that may.

    Attributes:
        origins: exactly as browsers send them; `("*",)` for all of them.
        guarded: whether clients must prove who they are. If not, and no origin is listed, pages of this machine may.
        credentials: whether pages may send cookies, which they may not with `*`.
        tls: whether the server speaks TLS itself.
    """

    origins: tuple[str, ...]
    guarded: bool = True
    credentials: bool = False
    tls: bool = False

    @classmethod
    def of(cls, config: Config, hooks_decide: bool) -> "Pages":
        """The pages that a configuration allows. `hooks_decide`: whether a hook keeps strangers out."""
        guarded = config.asks_for_tokens or hooks_decide
        origins = config.cors_origins or ((_ANY,) if guarded else ())
        return cls(origins, guarded, config.auth_cookie is not None, config.tls_cert is not None)

    def refusal(self, headers: Mapping[str, str]) -> Refusal | None:
        """Whether a page asks that may not. Programs send no origin and may."""
        origin = headers.get("origin")
        if origin is None or self._allows(origin, headers.get("host", "")):
            return None
        return _NOT_LISTED if self.guarded or self.origins else _NOT_LOCAL

    def _allows(self, origin: str, host: str) -> bool:
        if _ANY in self.origins or origin in self.origins:
            return True
        if self.guarded:
            return self._is_own(origin, host)
        # A name that somebody else's DNS gives for our address is no name of ours (DNS rebinding). A number cannot be
        # bent in this way, and is how an emulator or a phone reaches this machine.
        asked, page = _host_name(f"//{host}"), _host_name(origin)
        if asked is None or page is None or not (is_loopback(asked) or _is_number(asked)):
            return False
        return self._is_own(origin, host) or (not self.origins and is_loopback(page))

    def _is_own(self, origin: str, host: str) -> bool:
        """Whether an origin is this server's own address, as React Native on Android sends it."""
        try:
            page = urlsplit(origin)
            port = _DEFAULT_PORTS.get(page.scheme)
            own = urlsplit(f"{page.scheme}://{host}")
            same = page.hostname == own.hostname and (page.port or port) == (own.port or port)
        except ValueError:
            return False
        return same and bool(page.hostname) and port is not None and (page.scheme in ("https", "wss") or not self.tls)

    def headers(self, headers: Mapping[str, str] | None = None) -> list[Header]:
        """Headers for an answer to a request with these headers (None when they are not known)."""
        origin = None if headers is None else headers.get("origin")
        answer = [*PROTECTION, ONLY_TLS] if self.tls else [*PROTECTION]
        if _ANY in self.origins:
            answer += [("access-control-allow-origin", _ANY), _EXPOSED]
            return answer
        answer.append(("vary", "origin"))
        if headers is not None and origin is not None and self._allows(origin, headers.get("host", "")):
            answer += [("access-control-allow-origin", origin), _EXPOSED]
            if self.credentials:
                answer.append(("access-control-allow-credentials", "true"))
        return answer

    def preflight(self, headers: Mapping[str, str]) -> list[Header]:
        """Headers for the answer to a preflight; for a page that may not, none that would let it go on."""
        answer = self.headers(headers)
        if self.refusal(headers) is None:
            answer += [
                ("access-control-allow-methods", "GET, POST, OPTIONS"),
                ("access-control-allow-headers", headers.get("access-control-request-headers", _ANY)),
                ("access-control-max-age", "86400"),
            ]
        return answer


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
