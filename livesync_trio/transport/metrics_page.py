"""`GET /metrics` on the public port, for whoever brings the token; for nobody where none is set.

The token opens this page and nothing else, so that a monitoring system need not hold the admin secret.
"""

from collections.abc import Callable, Mapping
from typing import Final

import trio

from livesync_trio.config import Secret
from livesync_trio.errors import Kind, Refusal
from livesync_trio.fairness import Attempts

_BEARER: Final = "bearer "


class MetricsPage:
    """The page."""

    def __init__(
        self, token: Secret | None, render: Callable[[], tuple[bytes, str]], attempts: Attempts | None = None
    ) -> None:
        """Put the page together.

        Args:
            token: who brings it sees the page; None for no page.
            render: gives body and content type.
            attempts: wrong tokens so far, by address.
        """
        self.token = token
        """May be exchanged while the server runs."""
        self._render = render
        self._attempts = attempts or Attempts("metrics tokens")

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
