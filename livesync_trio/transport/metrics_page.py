"""`GET /metrics` on the public port, for whoever brings the token; for nobody where none is set.

The token opens this page and nothing else, so that a monitoring system need not hold the admin secret.
"""

from collections.abc import Callable, Mapping
from typing import Final

import trio

from livesync_trio.config import Secret
from livesync_trio.errors import Kind, Refusal
from livesync_trio.fairness import AdminAttempts

_BEARER: Final = "bearer "


class MetricsPage:
    """The page."""

    def __init__(self, token: Secret | None, render: Callable[[], tuple[bytes, str]]) -> None:
        """Give it its token, None for no page, and what renders it: body and content type."""
        self.token = token
        """May be exchanged while the server runs."""
        self._render = render
        self._attempts = AdminAttempts()

    def ask(self, headers: Mapping[str, str], host: str) -> tuple[bytes, str] | Refusal:
        """Body and content type for who brings the token.

        Args:
            headers: of the request, names in lower case.
            host: address of the client, without port; whoever guesses must wait.
        """
        if self.token is None:
            return Refusal(Kind.NOT_FOUND, "Nothing is here. Sync URLs carry `transport`.")
        now_s = trio.current_time()
        refusal = self._attempts.refusal(host, now_s)
        if refusal is not None:
            return refusal
        authorization = headers.get("authorization", "")
        given = authorization[len(_BEARER) :].strip() if authorization[: len(_BEARER)].lower() == _BEARER else None
        if given is not None and self.token.matches(given):
            return self._render()
        if given is not None:
            self._attempts.failed(host, now_s)
        return Refusal(Kind.UNAUTHENTICATED, "The metrics are for who sends their token: Authorization: Bearer …")
