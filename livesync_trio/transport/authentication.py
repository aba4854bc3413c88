"""Who may come in, and what they may do: tokens, the user's hooks, what the claims give (SPEC 3.1).

Asked once per WebSocket and once per HTTP request, before anything of the store is touched. Where anything is asked
for, whoever brings nothing is kept out, and a token that names no stores opens none.
"""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from livesync_trio.config import Config, Secret
from livesync_trio.connection.asking import authorize
from livesync_trio.errors import Kind, Refusal
from livesync_trio.hooks import HookContext, HookRunner
from livesync_trio.model import Principal
from livesync_trio.transport.grants import Grants

if TYPE_CHECKING:
    from livesync_trio.transport.tokens import TokenVerifier

_BEARER: Final = "bearer "
_NO_TOKEN: Final = Refusal(Kind.UNAUTHENTICATED, "This server wants a token: syncPayload { authToken }.")
_STRANGER: Final = Refusal(Kind.UNAUTHENTICATED, "This server does not know you: log in first.")


@attrs.frozen
class Admission:
    """Somebody who may read the store.

    Attributes:
        user: who; None for strangers and holders of the shared token.
        may_push: whether the claims let them write.
        expires_s: when their token stops to count, on Trio's clock.
        asks_to_push: whether the `authorize` hook wants to be asked for every push.
    """

    user: Principal | None = None
    may_push: bool = True
    expires_s: float = math.inf
    asks_to_push: bool = False


@attrs.frozen
class Authentication:
    """What a client must bring.

    Attributes:
        token: the token that everybody shares; None for none.
        hooks: runs `authenticate`, `authorize` and `validate_payload`.
        tokens: verifies JSON Web Tokens; None where none are taken.
        grants: which stores their claims give.
        cookie: name of the cookie in which a token may come; None for none.
    """

    token: Secret | None
    hooks: HookRunner
    tokens: "TokenVerifier | None" = None
    grants: Grants = attrs.field(factory=Grants)
    cookie: str | None = None

    @classmethod
    def of(cls, config: Config, hooks: HookRunner, before: "Authentication | None" = None) -> "Authentication":
        """What a configuration asks for. `before`: what was asked for until now, whose fetched keys are kept.

        Raises:
            StartupError: the file with the keys of tokens cannot be used.
        """
        tokens = None
        if config.jwt_secret is not None or config.jwt_keys is not None:
            from livesync_trio.transport.tokens import TokenVerifier  # noqa: PLC0415 - see there for what it costs

            tokens = TokenVerifier.of(config, None if before is None else before.tokens)
        grants = Grants(
            config.jwt_stores_claim, config.jwt_read_stores_claim, config.jwt_stores, config.jwt_read_stores
        )
        return cls(config.auth_token, hooks, tokens, grants, config.auth_cookie)

    async def check(self, context: HookContext) -> Admission | Refusal:
        """Whether a client may use the store in `context`, and how."""
        admission = await self._identify(context)
        if isinstance(admission, Refusal):
            return admission
        context = attrs.evolve(context, user=admission.user)
        if self.hooks.hooks.authorize is not None:
            refusal = await authorize(self.hooks, context, "pull")
            if refusal is not None:
                return refusal
            admission = attrs.evolve(admission, may_push=True, asks_to_push=True)
        elif not admission.may_push and not self._may_pull(context):
            return Refusal(Kind.NOT_ALLOWED, "This token is not for this store.")
        refusal = await self.hooks.ask(self.hooks.hooks.validate_payload, context.payload, context)
        if refusal is None:
            return admission
        return Refusal(Kind.NOT_ALLOWED, refusal.message) if refusal.kind is Kind.HOOK_REFUSED else refusal

    def _may_pull(self, context: HookContext) -> bool:
        return context.user is not None and self.grants.may_pull(context.user.claims, context.store_id)

    async def _identify(self, context: HookContext) -> Admission | Refusal:
        """Who it is. The first token that is valid counts, wherever it stands."""
        asks_for_tokens = self.token is not None or self.tokens is not None
        refusal = _NO_TOKEN
        if asks_for_tokens:
            for given in tokens_in(context, self.cookie):
                admission = await self._judge(given, context.store_id)
                if isinstance(admission, Admission):
                    return admission
                if refusal is _NO_TOKEN:
                    refusal = admission
        if self.hooks.hooks.authenticate is None:
            return refusal if asks_for_tokens else Admission()
        user = await self.hooks.consult(self.hooks.hooks.authenticate, context.store_id, context.payload, context)
        match user:
            case Principal():
                return Admission(user)
            case str() if user:
                return Admission(Principal(user))
            case Refusal(kind=Kind.HOOK_REFUSED):
                return Refusal(Kind.NOT_ALLOWED, user.message)
            case Refusal():
                return user
            case _:
                return _STRANGER if refusal is _NO_TOKEN else refusal

    async def _judge(self, given: str, store_id: str) -> Admission | Refusal:
        """What one token is worth."""
        if self.token is not None and self.token.matches(given):
            return Admission()
        if self.tokens is None:
            return Refusal(Kind.NOT_ALLOWED, "Invalid auth token")
        outcome = await self.tokens.verify(given)
        if isinstance(outcome, Refusal):
            return outcome
        may_push = self.grants.may_push(outcome.principal.claims, store_id)
        return Admission(outcome.principal, may_push, trio.current_time() + outcome.expires_in_s)


def tokens_in(context: HookContext, cookie: str | None) -> Iterator[str]:
    """The tokens a client brings: `payload.authToken`, the `Authorization` header, the named cookie."""
    payload: Any = context.payload
    given = payload.get("authToken") if isinstance(payload, Mapping) else None
    if isinstance(given, str):
        yield given
    authorization = context.headers.get("authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        yield authorization[len(_BEARER) :].strip()
    if cookie is not None and "cookie" in context.headers:
        yield from _cookies(context.headers["cookie"], cookie)


def _cookies(header: str, name: str) -> Iterator[str]:
    """The values of a cookie; several when a browser has it for several paths (RFC 6265, 5.4)."""
    for pair in header.replace(", ", "; ").split(";"):  # several Cookie headers have been joined by commas
        key, separator, value = pair.strip().partition("=")
        if separator and key == name:
            yield value.removeprefix('"').removesuffix('"')
