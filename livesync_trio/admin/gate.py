"""Who may use the control plane, and what every answer carries: the secret, its throttle, origins, headers."""

from collections.abc import Mapping
from typing import Final

import attrs
import trio

from livesync_trio.admin.server_view import ServerView
from livesync_trio.config import is_loopback
from livesync_trio.errors import Kind, Refusal
from livesync_trio.hooks import host_of

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

_SCHEME: Final = "bearer "
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "via")


@attrs.frozen
class Gate:
    """Decides before anything else of a request is looked at."""

    server: ServerView

    def refusal(self, headers: Mapping[str, str], address: str, *, public: bool) -> Refusal | None:
        """Why a request is not served; None when it is.

        Args:
            headers: of the request, names in lower case.
            address: from where it really comes, `host:port`.
            public: whether it came in at the public port.
        """
        origin = headers.get("origin")
        if origin is not None and not self._allows(origin, headers):
            return Refusal(
                Kind.ORIGIN_REFUSED, "Web pages of this origin may not use the control plane (admin_origins)."
            )
        host, now_s = host_of(address), trio.current_time()
        attempts = self.server.public_attempts if public else self.server.attempts
        waiting = attempts.refusal(host, now_s)
        if waiting is not None and (public or not self._local(host, headers)):
            return waiting
        given = headers.get("authorization", "")
        if given[: len(_SCHEME)].lower() != _SCHEME:
            return Refusal(Kind.UNAUTHENTICATED, "Send the admin secret: `Authorization: Bearer …`.")
        expected = self.server.secret()
        if expected is not None and expected.matches(given[len(_SCHEME) :].strip()):
            return None
        if waiting is None:  # of local guesses that go on, no more are recorded than of a stranger's
            attempts.failed(host, now_s)
            self.server.audit.record(
                "refuse", store="", address=address, via="control plane", kind=str(Kind.UNAUTHENTICATED)
            )
        return Refusal(Kind.UNAUTHENTICATED, "This is not the admin secret.")

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
