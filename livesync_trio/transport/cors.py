"""What browsers on other origins may read (SPEC 3.1, OPTIONS; section 7 no. 8: on every answer)."""

from collections.abc import Mapping

import attrs


@attrs.frozen
class Cors:
    """The allowed origins; `("*",)` for all of them."""

    origins: tuple[str, ...]

    def headers(self, origin: str | None) -> list[tuple[str, str]]:
        """Headers for an answer to a request from `origin` (None when it sent none)."""
        if "*" in self.origins:
            return [("access-control-allow-origin", "*")]
        if origin in self.origins and origin is not None:
            return [("access-control-allow-origin", origin), ("vary", "origin")]
        return [("vary", "origin")]

    def preflight(self, headers: Mapping[str, str]) -> list[tuple[str, str]]:
        """Headers for the answer to a preflight."""
        return [
            *self.headers(headers.get("origin")),
            ("access-control-allow-methods", "GET, POST, OPTIONS"),
            ("access-control-allow-headers", headers.get("access-control-request-headers", "*")),
            ("access-control-max-age", "86400"),
        ]
