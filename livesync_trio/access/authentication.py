"""Who may come in, and what they may do: tokens, the user's hooks, what the claims give (SPEC 3.1).

Asked once per WebSocket and once per HTTP request, before anything of the store is touched. Where anything is asked
for, whoever brings nothing is kept out, and a token that names no stores opens none.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from livesync_trio.access.client import Expiry, Rights
from livesync_trio.access.grants import Grants
from livesync_trio.config import Config, Secret
from livesync_trio.errors import Kind, Refusal
from livesync_trio.fairness import WrongTokens
from livesync_trio.hooks import HookContext, HookRunner
from livesync_trio.model import Principal

if TYPE_CHECKING:
    from livesync_trio.access.tokens import TokenVerifier

TOKENS_PER_REQUEST_MAX: Final = 4
"""Tokens looked at in one request: payload, header, and a cookie that a browser has for two paths."""

_MEMBERS: Final = ("authToken", "jwtToken", "jwt", "auth")
"""Members of a payload that may be a token: ours, then those that clients of the FastAPI server send."""

_BEARER: Final = "bearer "
_NO_TOKEN: Final = Refusal(Kind.UNAUTHENTICATED, "This server wants a token: syncPayload { authToken }.")
_WRONG_TOKEN: Final = Refusal(Kind.NOT_ALLOWED, "Invalid auth token")
_STRANGER: Final = Refusal(Kind.UNAUTHENTICATED, "This server does not know you: log in first.")


@attrs.frozen
class Authentication:
    """What a client must bring.

    Attributes:
        token: the token that everybody shares; None for none.
        hooks: runs `authenticate`, `authorize` and `validate_payload`.
        tokens: verifies JSON Web Tokens; None where none are taken.
        grants: which stores their claims give.
        cookie: name of the cookie in which a token may come; None for none.
        wrong: how often an address has been wrong about the shared token.
    """

    token: Secret | None
    hooks: HookRunner
    tokens: "TokenVerifier | None" = None
    grants: Grants = attrs.field(factory=Grants)
    cookie: str | None = None
    wrong: WrongTokens = attrs.field(factory=WrongTokens)

    @classmethod
    def of(cls, config: Config, hooks: HookRunner, before: "Authentication | None" = None) -> "Authentication":
        """What a configuration asks for. `before`: what was asked for until now, whose fetched keys are kept.

        Raises:
            StartupError: the file with the keys of tokens cannot be used.
        """
        tokens = None
        if config.jwt_secret is not None or config.jwt_keys is not None:
            from livesync_trio.access.tokens import TokenVerifier  # noqa: PLC0415 - see there for what it costs

            tokens = TokenVerifier.of(config, None if before is None else before.tokens)
        wrong = WrongTokens() if before is None else before.wrong
        return cls(config.auth_token, hooks, tokens, Grants.of(config), config.auth_cookie, wrong)

    async def check(self, context: HookContext) -> Rights | Refusal:
        """Whether a client may use the store in `context`, and how."""
        rights = await self.identify(context)
        if isinstance(rights, Refusal):
            return rights
        context = attrs.evolve(context, user=rights.user)
        if self.hooks.hooks.authorize is not None:
            refusal = await self.hooks.authorize(context, "pull")
            if refusal is not None:
                return refusal
            rights = attrs.evolve(rights, may_push=True, asks_to_push=True)
        elif not rights.may_push and not self._may_pull(context):
            return Refusal(Kind.NOT_ALLOWED, "This token is not for this store.")
        refusal = await self.hooks.ask(self.hooks.hooks.validate_payload, context.payload, context)
        if refusal is None:
            return rights
        return Refusal(Kind.NOT_ALLOWED, refusal.message) if refusal.kind is Kind.HOOK_REFUSED else refusal

    def _may_pull(self, context: HookContext) -> bool:
        return context.user is not None and self.grants.may_pull(context.user.claims, context.store_id)

    async def identify(self, context: HookContext) -> Rights | Refusal:
        """Who it is, whatever they want. The first token that is valid counts, wherever it stands."""
        asks_for_tokens = self.token is not None or self.tokens is not None
        refusal = _NO_TOKEN
        if asks_for_tokens:
            for given in islice(tokens_in(context, self.cookie), TOKENS_PER_REQUEST_MAX):
                rights = await self._judge(given, context)
                if isinstance(rights, Rights):
                    return rights
                if refusal is _NO_TOKEN:
                    refusal = rights
        if self.hooks.hooks.authenticate is None:
            return refusal if asks_for_tokens else Rights()
        user = await self.hooks.consult(self.hooks.hooks.authenticate, context.store_id, context.payload, context)
        match user:
            case Principal():
                return Rights(user)
            case str() if user:
                return Rights(Principal(user))
            case Refusal(kind=Kind.HOOK_REFUSED):
                return Refusal(Kind.NOT_ALLOWED, user.message)
            case Refusal():
                return user
            case _:
                return _STRANGER if refusal is _NO_TOKEN else refusal

    async def _judge(self, given: str, context: HookContext) -> Rights | Refusal:
        """What one token is worth. Only the shared one can be guessed, and only guesses at it must wait."""
        host, now_s = context.client_host, trio.current_time()
        waiting = None if self.token is None else self.wrong.refusal(host, given, now_s)
        if waiting is None and self.token is not None and self.token.matches(given):
            return Rights()
        outcome: Any = waiting or _WRONG_TOKEN
        if self.tokens is not None:
            outcome = await self.tokens.verify(given)
            if not isinstance(outcome, Refusal):
                may_push = self.grants.may_push(outcome.principal.claims, context.store_id)
                return Rights(outcome.principal, may_push, Expiry.after(outcome.expires_in_s))
        if waiting is None and self.token is not None:
            self.wrong.failed(host, given, now_s)
        return outcome if waiting is None else waiting


def tokens_in(context: HookContext, cookie: str | None) -> Iterator[str]:
    """The tokens a client brings: those of its payload, the `Authorization` header, the named cookie."""
    payload: Any = context.payload
    if isinstance(payload, Mapping):
        yield from (given for name in _MEMBERS if isinstance(given := payload.get(name), str))
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
