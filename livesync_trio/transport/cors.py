"""Which web pages may use the server, and the headers that protect its answers in a browser (SPEC 3.1, OPTIONS).

A page's WebSocket is not held back by CORS: a browser opens it, cookies and all, whatever the page (cross-site
WebSocket hijacking). So whoever names an origin that is not allowed is refused, and not only left without a header.
"""

from collections.abc import Mapping
from typing import Final

import attrs

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


@attrs.frozen
class Cors:
    """The allowed origins.

    Attributes:
        origins: exactly as browsers send them; `("*",)` for all of them.
        credentials: whether pages may send cookies, which they may not with `*`.
        tls: whether the server speaks TLS itself.
    """

    origins: tuple[str, ...]
    credentials: bool = False
    tls: bool = False

    def refusal(self, origin: str | None) -> Refusal | None:
        """Whether a page asks that may not. Programs send no origin and may."""
        if origin is None or "*" in self.origins or origin in self.origins:
            return None
        return Refusal(Kind.ORIGIN_REFUSED, "Web pages of this origin may not use this server (cors_origins).")

    def headers(self, origin: str | None) -> list[Header]:
        """Headers for an answer to a request from `origin` (None when it sent none)."""
        headers = [*PROTECTION, ONLY_TLS] if self.tls else [*PROTECTION]
        if "*" in self.origins:
            headers += [("access-control-allow-origin", "*"), _EXPOSED]
            return headers
        headers.append(("vary", "origin"))
        if origin is not None and origin in self.origins:
            headers += [("access-control-allow-origin", origin), _EXPOSED]
            if self.credentials:
                headers.append(("access-control-allow-credentials", "true"))
        return headers

    def preflight(self, headers: Mapping[str, str]) -> list[Header]:
        """Headers for the answer to a preflight; for a page that may not, none that would let it go on."""
        origin = headers.get("origin")
        if self.refusal(origin) is not None:
            return self.headers(origin)
        return [
            *self.headers(origin),
            ("access-control-allow-methods", "GET, POST, OPTIONS"),
            ("access-control-allow-headers", headers.get("access-control-request-headers", "*")),
            ("access-control-max-age", "86400"),
        ]


_EXPOSED: Final[Header] = ("access-control-expose-headers", "retry-after")
