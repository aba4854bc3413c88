"""Tokens for programs, beside `ADMIN_SECRET`: for some rights only, each revocable by itself. Kept hashed."""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Final

import attrs
import msgspec

from livesync_trio.operators.accounts import Operators, Wrong
from livesync_trio.operators.roles import SCOPES, Operator, Right
from livesync_trio.storage.base import NO_RECORD
from livesync_trio.store.records import Moved, Records

TOKEN: Final = "operator-token"  # noqa: S105 - the kind of record

TOKEN_PREFIX: Final = "lst_"  # noqa: S105 - how all of them begin, for those who look for lost ones

TOKENS_MAX: Final = 200
TOKEN_NAME_MAX_CHARACTERS: Final = 100

_TOKEN: Final = re.compile(rf"{TOKEN_PREFIX}([0-9a-f]{{12}})_([A-Za-z0-9_-]{{43}})")


class _Kept(msgspec.Struct, frozen=True):
    digest: str
    name: str
    rights: tuple[str, ...]
    created_at: float
    expires_at: float | None
    email: str | None
    account_id: str | None


@attrs.frozen
class Token:
    """What a program brings.

    Attributes:
        id: for lists; opens nothing.
        name: what it is for, in the words of who made it.
        rights: what it was made for.
        created_at: seconds of the Unix epoch.
        expires_at: None: never.
        made_by: address of the operator who made it; None: whoever has `ADMIN_SECRET`.
        operator: that operator as he or she is now: the token may do nothing that its maker may not.
    """

    id: str
    name: str
    rights: frozenset[Right]
    created_at: float
    expires_at: float | None
    made_by: str | None
    operator: Operator | None = None


class Tokens:
    """All tokens."""

    def __init__(self, records: Records, operators: Operators, now: Callable[[], float] = time.time) -> None:
        """Nothing is read yet. `now`: seconds of the Unix epoch."""
        self._records = records
        self._operators = operators
        self._now = now

    async def make(
        self, name: str, rights: Iterable[Right], operator: Operator | None, lifetime_s: float | None
    ) -> tuple[str, Token]:
        """Make a token. Gives its text, too, which nobody can find out later.

        Raises:
            Wrong: not under this name, or there are too many.
            StorageUnavailable: try again later.
        """
        wanted = tuple(str(right) for right in SCOPES if right in set(rights))
        if not name.strip() or len(name) > TOKEN_NAME_MAX_CHARACTERS or not name.isprintable():
            raise Wrong(f"The name of a token has 1 to {TOKEN_NAME_MAX_CHARACTERS} printable characters.")
        if not wanted:
            raise Wrong(f"A token is for one or more of {', '.join(SCOPES)}.")
        if len(await self.all()) >= TOKENS_MAX:
            raise Wrong(f"There are {TOKENS_MAX} tokens already. Revoke one first.")
        token_id, secret, now = secrets.token_hex(6), secrets.token_urlsafe(32), self._now()
        kept = _Kept(
            _digest(secret),
            name.strip(),
            wanted,
            now,
            None if lifetime_s is None else now + lifetime_s,
            None if operator is None else operator.email,
            None if operator is None else operator.account_id,
        )
        await self._records.put(TOKEN, token_id, msgspec.json.encode(kept), NO_RECORD)
        return f"{TOKEN_PREFIX}{token_id}_{secret}", _told(token_id, kept, operator)

    async def find(self, text: str) -> Token | None:
        """The token of a text, if it still counts. Raises StorageUnavailable."""
        match = _TOKEN.fullmatch(text)
        record = None if match is None else await self._records.get(TOKEN, match[1])
        if match is None or record is None:
            return None
        kept = msgspec.json.decode(record.value, type=_Kept)
        expired = kept.expires_at is not None and self._now() >= kept.expires_at
        if expired or not hmac.compare_digest(kept.digest, _digest(match[2])):
            return None
        operator = None
        if kept.email is not None:
            operator = await self._operators.find(kept.email)
            if operator is None or operator.account_id != kept.account_id:
                return None
        return _told(match[1], kept, operator)

    async def all(self) -> list[Token]:
        """Every token that is kept, the oldest first. Raises StorageUnavailable."""
        found = [
            _told(record.key, msgspec.json.decode(record.value, type=_Kept), None)
            async for record in self._records.all_of(TOKEN)
        ]
        return sorted(found, key=lambda token: token.created_at)

    async def revoke(self, token_id: str) -> bool:
        """End a token. False: there is none of this id. Raises StorageUnavailable."""
        record = await self._records.get(TOKEN, token_id)
        if record is None:
            return False
        try:
            await self._records.put(TOKEN, token_id, None, record.version)
        except Moved:
            return False  # somebody was faster
        return True


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _told(token_id: str, kept: _Kept, operator: Operator | None) -> Token:
    rights = frozenset({Right.ENTER, *(Right(each) for each in kept.rights)})
    return Token(token_id, kept.name, rights, kept.created_at, kept.expires_at, kept.email, operator)
