"""Who may connect and why: the decision about a client, step by step, and tokens to try it with.

What is explained is what the server would decide, asked of the same rules; but nobody is charged for it, and a wrong
token counts against nobody. Hooks are really called.
"""

from typing import Annotated, Any, Literal

import attrs
import msgspec
from msgspec import UNSET, Meta, UnsetType

from livesync_trio.access.admission import Access
from livesync_trio.access.client import Rights
from livesync_trio.admin.declaring import Answer, Caller, Request, StoreName, refused
from livesync_trio.admin.server_view import ServerView
from livesync_trio.config import Config
from livesync_trio.errors import Kind, Refusal
from livesync_trio.fairness import WrongTokens
from livesync_trio.hooks import HookContext

TOKEN_HOURS_MAX = 24.0
"""For how long a token made by the control plane counts at most: it is for trying."""

_UNKNOWN = Refusal(Kind.NOT_FOUND, "This server does not tell who may connect.")


class ExplainAccess(Request, frozen=True):
    """A client that might come. `payload`: the whole payload, for hooks that read more than `authToken`."""

    store_id: StoreName
    token: str = ""
    payload: dict[str, Any] | UnsetType = UNSET
    origin: Annotated[str, Meta(description="The web page it comes from; empty for a program.")] = ""


class Step(Answer, frozen=True):
    """One step of the decision."""

    step: str
    outcome: Literal["passed", "refused", "not asked for"]
    meaning: str


class Explained(Answer, frozen=True):
    """The decision. `may`: what the client may do with the store."""

    may: Literal["nothing", "read", "read and write"]
    user: str | None
    steps: list[Step]


class MakeToken(Request, frozen=True):
    """For whom, which stores (a name, or a prefix that ends in `*`), and for how long."""

    user: Annotated[str, Meta(min_length=1, max_length=200)]
    stores: list[str] = msgspec.field(default_factory=list)
    read_stores: list[str] = msgspec.field(default_factory=list)
    hours: Annotated[float, Meta(gt=0, le=TOKEN_HOURS_MAX)] = 1.0


class Token(Answer, frozen=True):
    """A token to try an app with."""

    token: str


async def explain_access(server: ServerView, asked: ExplainAccess, caller: Caller) -> Explained | Refusal:
    """What this server would decide about a client, and why."""
    if server.access is None:
        return _UNKNOWN
    access, config = server.access(), server.config()
    headers = {} if not asked.origin else {"origin": asked.origin}
    payload: dict[str, Any] = {} if asked.payload is UNSET else dict(asked.payload)
    if asked.token:
        payload.setdefault("authToken", asked.token)
    context = HookContext(asked.store_id, payload or None, headers, caller.address)
    steps = [
        _judged("Web page", access.pages.refusal(headers), asked.origin or "A program: it names no page."),
        _judged(
            "Store name", access.store_ids.refusal(asked.store_id), "It fits LIVESYNC_STORE_ID_PATTERN and length."
        ),
    ]
    steps += await _token_steps(access, config, asked.store_id, payload.get("authToken"))
    hooks = [name for name in ("authenticate", "authorize", "validate_payload") if _hook(access, name)]
    rights = await attrs.evolve(access.authentication, wrong=WrongTokens()).check(context)
    if hooks:
        steps.append(_judged(f"Hooks: {', '.join(hooks)}", _refusal(rights), "They let it in."))
    else:
        steps.append(Step(step="Hooks", outcome="not asked for", meaning="None decides who connects."))
    if isinstance(rights, Refusal) or any(step.outcome == "refused" for step in steps[:2]):
        if not any(step.outcome == "refused" for step in steps):
            assert isinstance(rights, Refusal)
            steps.append(_judged("Decision", rights, ""))
        return Explained(may="nothing", user=None, steps=steps)
    user = None if rights.user is None else rights.user.id
    return Explained(may="read and write" if rights.may_push else "read", user=user, steps=steps)


async def make_token(server: ServerView, asked: MakeToken, caller: Caller) -> Token | Refusal:
    """Make a JSON Web Token that this server accepts, to try an app with; signed with LIVESYNC_JWT_SECRET."""
    config = server.config()
    if config.jwt_secret is None:
        return refused("Tokens are signed with LIVESYNC_JWT_SECRET, which this server has not.")
    from livesync_trio.access.tokens import made_token  # noqa: PLC0415 - see there for what it costs

    named = {config.jwt_stores_claim: asked.stores, config.jwt_read_stores_claim: asked.read_stores}
    server.audit.record(
        "token", store=",".join(asked.stores)[:200], address=caller.address, user=caller.user, of=asked.user
    )
    claims = {claim: stores for claim, stores in named.items() if stores}
    return Token(token=made_token(config, asked.user, asked.hours, claims))


async def _token_steps(access: Access, config: Config, store_id: str, token: Any) -> list[Step]:
    """What is thought of the token, in the order in which it is asked."""
    rules = access.authentication
    if not config.asks_for_tokens:
        return [Step(step="Token", outcome="not asked for", meaning="No token is configured: nobody needs one.")]
    if not isinstance(token, str) or not token:
        return [Step(step="Token", outcome="refused", meaning="It brings none, in authToken of its payload.")]
    if rules.token is not None and rules.token.matches(token):
        return [Step(step="Shared token", outcome="passed", meaning="It is AUTH_TOKEN, which opens every store.")]
    if rules.tokens is None:
        return [Step(step="Shared token", outcome="refused", meaning="It is not AUTH_TOKEN.")]
    from livesync_trio.access.tokens import Identified  # noqa: PLC0415 - see there for what it costs

    found = await rules.tokens.examine(token)
    if not isinstance(found, Identified):
        return [Step(step="JSON Web Token", outcome="refused", meaning=f"It is not valid: {found.reason}.")]
    claims = found.principal.claims
    valid = f"User {found.principal.id}, for another {found.expires_in_s:.0f} s."
    writes, reads = rules.grants.patterns(claims)
    told = f"To read and write: {', '.join(writes) or 'no store'}. To read only: {', '.join(reads) or 'no store'}."
    opens = rules.grants.may_pull(claims, store_id) or rules.hooks.hooks.authorize is not None
    return [
        Step(step="JSON Web Token", outcome="passed", meaning=valid),
        Step(step="Stores of its claims", outcome="passed" if opens else "refused", meaning=told),
    ]


def _judged(step: str, refusal: Refusal | None, passed: str) -> Step:
    if refusal is None:
        return Step(step=step, outcome="passed", meaning=passed)
    return Step(step=step, outcome="refused", meaning=refusal.message)


def _refusal(rights: Rights | Refusal) -> Refusal | None:
    return rights if isinstance(rights, Refusal) else None


def _hook(access: Access, name: str) -> bool:
    return getattr(access.authentication.hooks.hooks, name) is not None
