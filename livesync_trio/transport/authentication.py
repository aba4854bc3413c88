"""Who may come in: the shared token and the user's `validate_payload` (SPEC 3.1).

Asked once per WebSocket and once per HTTP request, before anything of the store is touched.
"""

from collections.abc import Mapping

import attrs

from livesync_trio.config import Secret
from livesync_trio.errors import Kind, Refusal
from livesync_trio.hooks import HookContext, HookRunner


@attrs.frozen
class Authentication:
    """What a client must bring.

    Attributes:
        token: the shared token expected as `payload.authToken`; None for none.
        hooks: runs `validate_payload`.
    """

    token: Secret | None
    hooks: HookRunner

    async def check(self, context: HookContext) -> Refusal | None:
        """Whether a client may use the store in `context`; None when it may."""
        refusal = self._check_token(context.payload)
        if refusal is not None:
            return refusal
        refusal = await self.hooks.ask(self.hooks.hooks.validate_payload, context.payload, context)
        if refusal is not None and refusal.kind is Kind.HOOK_REFUSED:
            return Refusal(Kind.NOT_ALLOWED, refusal.message)
        return refusal

    def _check_token(self, payload: object) -> Refusal | None:
        if self.token is None:
            return None
        given = payload.get("authToken") if isinstance(payload, Mapping) else None
        if not isinstance(given, str):
            return Refusal(Kind.UNAUTHENTICATED, "This server wants a token: syncPayload { authToken }.")
        if not self.token.matches(given):
            return Refusal(Kind.NOT_ALLOWED, "Invalid auth token")
        return None
