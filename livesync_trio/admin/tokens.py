"""Tokens for programs: making, listing, revoking."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from livesync_trio.admin.declaring import Answer, Caller, CallerKind, Nothing, Request, Time, refused
from livesync_trio.admin.operators import entrance_of
from livesync_trio.admin.server_view import ServerView, wire_time_of
from livesync_trio.errors import Kind, Refusal
from livesync_trio.operators.accounts import Wrong
from livesync_trio.operators.roles import Right, may_grant
from livesync_trio.operators.tokens import Token

Scope = Literal["look", "payloads", "change", "administer"]


class CreateToken(Request, frozen=True):
    """What a token is for, and how long."""

    name: Annotated[str, Meta(min_length=1, max_length=100, description="What it is for, in your words.")]
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=4, description="What it may do.")]
    lifetime_s: (
        Annotated[float, Meta(gt=0, le=10 * 366 * 86400, description="Seconds; without it, it counts until revoked.")]
        | UnsetType
    ) = UNSET


class RevokeToken(Request, frozen=True):
    """Which token to revoke."""

    token_id: Annotated[str, Meta(min_length=1, max_length=64, description="What the list says.")]


class TokenInfo(Answer, frozen=True):
    """One token, without its text."""

    token_id: str
    name: str
    scopes: list[str]
    made_by: str | None
    created_at: Time
    expires_at: Time | None


class TokenPage(Answer, frozen=True):
    """Tokens."""

    tokens: list[TokenInfo]
    next: None = None


class NewToken(Answer, frozen=True):
    """A token with its text, which is told this once only."""

    token: str
    token_id: str
    name: str
    scopes: list[str]
    expires_at: Time | None


class TokenRevoked(Answer, frozen=True):
    """The token that counts no more."""

    token_id: str
    revoked: bool = True


async def list_tokens(server: ServerView, _asked: Nothing, caller: Caller) -> TokenPage:
    """One's own tokens; all of them for owners and the admin secret."""
    found = await entrance_of(server).tokens.all()
    return TokenPage(tokens=[_told(token) for token in found if _may_see(caller, token)])


async def create_token(server: ServerView, asked: CreateToken, caller: Caller) -> NewToken | Refusal:
    """Make a token for a program; it may do nothing that its maker may not, now or later."""
    if caller.kind is CallerKind.TOKEN:
        return Refusal(Kind.NOT_ALLOWED, "A token makes no tokens: sign in, or use the admin secret.")
    rights = [Right(scope) for scope in asked.scopes]
    if not may_grant(caller.rights, rights):
        return Refusal(Kind.NOT_ALLOWED, f"Your role, {caller.role}, cannot give all of these scopes.")
    entrance = entrance_of(server)
    lifetime_s = None if asked.lifetime_s is UNSET else asked.lifetime_s
    try:
        text, token = await entrance.tokens.make(asked.name, rights, caller.operator, lifetime_s)
    except Wrong as wrong:
        return refused(str(wrong))
    told = _told(token)
    made = {"did": "create", "token": token.id, "name": token.name, "scopes": ",".join(told.scopes)}
    entrance.record("token", caller.address, caller.user, **made)
    return NewToken(token=text, token_id=token.id, name=token.name, scopes=told.scopes, expires_at=told.expires_at)


async def revoke_token(server: ServerView, asked: RevokeToken, caller: Caller) -> TokenRevoked | Refusal:
    """Revoke a token: it counts no more, on any server."""
    entrance = entrance_of(server)
    token = next((each for each in await entrance.tokens.all() if each.id == asked.token_id), None)
    if token is None or not _may_see(caller, token) or not await entrance.tokens.revoke(token.id):
        return Refusal(Kind.NOT_FOUND, "There is no such token.")
    entrance.record("token", caller.address, caller.user, did="revoke", token=token.id, name=token.name)
    return TokenRevoked(token_id=token.id)


def _may_see(caller: Caller, token: Token) -> bool:
    own = caller.operator is not None and caller.operator.email == token.made_by
    return own or caller.may(Right.ADMINISTER)


def _told(token: Token) -> TokenInfo:
    return TokenInfo(
        token_id=token.id,
        name=token.name,
        scopes=[str(right) for right in Right if right in token.rights and right is not Right.ENTER],
        made_by=token.made_by,
        created_at=wire_time_of(token.created_at),
        expires_at=None if token.expires_at is None else wire_time_of(token.expires_at),
    )
