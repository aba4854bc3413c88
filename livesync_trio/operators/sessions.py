"""Sessions of operators: what a browser's cookie stands for. Kept hashed, so that who reads the database has none."""

import hashlib
import re
import secrets
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

import attrs
import msgspec

from livesync_trio.operators.accounts import Operators
from livesync_trio.operators.roles import Operator
from livesync_trio.storage.base import NO_RECORD, Record
from livesync_trio.store.records import Moved, Records

SESSION: Final = "session"

SESSIONS_MAX: Final = 20
"""Sessions of one operator; a new one ends the oldest."""

AGENT_MAX_CHARACTERS: Final = 200
"""What is kept of a browser's name for itself."""

_COOKIE: Final = re.compile(r"([0-9a-f]{16})\.([A-Za-z0-9_-]{43})")
_ID_CHARACTERS: Final = 16


class _Kept(msgspec.Struct, frozen=True):
    email: str
    epoch: int
    created_at: float
    expires_at: float
    address: str
    agent: str


@attrs.frozen
class Session:
    """A browser in which an operator is signed in.

    Attributes:
        id: for lists; opens nothing.
        operator: who.
        created_at: when he or she signed in, seconds of the Unix epoch.
        expires_at: when it ends by itself.
        address: from where, without port.
        agent: what the browser calls itself.
        csrf: what its forms and scripts send along; empty in lists.
    """

    id: str
    operator: Operator
    created_at: float
    expires_at: float
    address: str
    agent: str
    csrf: str = attrs.field(default="", repr=False)


class Sessions:
    """All sessions."""

    def __init__(self, records: Records, operators: Operators, now: Callable[[], float] = time.time) -> None:
        """Nothing is read yet. `now`: seconds of the Unix epoch."""
        self._records = records
        self._operators = operators
        self._now = now

    async def start(self, operator: Operator, address: str, agent: str, lifetime_s: float) -> tuple[str, Session]:
        """Begin a session under a new id. Gives the value of its cookie, too. Raises StorageUnavailable."""
        await self._make_room(operator)
        secret = secrets.token_urlsafe(32)
        now = self._now()
        kept = _Kept(operator.email, operator.epoch, now, now + lifetime_s, address, agent[:AGENT_MAX_CHARACTERS])
        key = _key(operator.account_id, secret)
        await self._records.put(SESSION, key, msgspec.json.encode(kept), NO_RECORD)
        return f"{operator.account_id}.{secret}", _told(key, kept, operator, _csrf(secret))

    async def find(self, cookie: str) -> Session | None:
        """The session of a cookie, if it goes on. Raises StorageUnavailable."""
        match = _COOKIE.fullmatch(cookie)
        if match is None:
            return None
        key = _key(match[1], match[2])
        record = await self._records.get(SESSION, key)
        if record is None:
            return None
        kept = _read(record)
        operator = await self._operators.find(kept.email)
        if operator is None or operator.account_id != match[1] or not self._goes_on(kept, operator):
            return None
        return _told(key, kept, operator, _csrf(match[2]))

    async def of(self, operator: Operator) -> list[Session]:
        """Those of an operator that go on, the newest first. Raises StorageUnavailable."""
        found = [(record.key, _read(record)) for record in await self._records_of(operator.account_id)]
        going_on = [_told(key, kept, operator) for key, kept in found if self._goes_on(kept, operator)]
        return sorted(going_on, key=lambda session: session.created_at, reverse=True)

    async def end(self, operator: Operator, session_id: str) -> bool:
        """End one session. False: there is none of this id. Raises StorageUnavailable."""
        for record in await self._records_of(operator.account_id):
            if _id(record.key) == session_id:
                await self._delete(record)
                return True
        return False

    async def clear(self, operator: Operator) -> None:
        """Delete all sessions of an operator. Raises StorageUnavailable."""
        for record in await self._records_of(operator.account_id):
            await self._delete(record)

    def _goes_on(self, kept: _Kept, operator: Operator) -> bool:
        return kept.epoch == operator.epoch and kept.created_at <= self._now() + 60 and self._now() < kept.expires_at

    async def _make_room(self, operator: Operator) -> None:
        """Delete what is over, and the oldest of what is too much."""
        found = [(_read(record), record) for record in await self._records_of(operator.account_id)]
        over = [record for kept, record in found if not self._goes_on(kept, operator)]
        going_on = sorted((each for each in found if each[1] not in over), key=lambda each: each[0].created_at)
        surplus = max(0, len(going_on) + 1 - SESSIONS_MAX)
        for record in [*over, *(record for _, record in going_on[:surplus])]:
            await self._delete(record)

    async def _records_of(self, account_id: str) -> list[Record]:
        """Those of an account; no more than a few, since there is a limit for each."""
        prefix, found = f"{account_id}/", []
        async with aclosing(self._records.all_of(SESSION, after=prefix)) as records:
            async for record in records:
                if not record.key.startswith(prefix):
                    break
                found.append(record)
        return found

    async def _delete(self, record: Record) -> None:
        try:
            await self._records.put(SESSION, record.key, None, record.version)
        except Moved:
            return  # it is gone


def _key(account_id: str, secret: str) -> str:
    return f"{account_id}/{hashlib.sha256(secret.encode()).hexdigest()}"


def _csrf(secret: str) -> str:
    """Derived, so that nothing more is kept; it does not lead back to the secret."""
    return hashlib.sha256(b"csrf " + secret.encode()).hexdigest()


def _id(key: str) -> str:
    return key.partition("/")[2][:_ID_CHARACTERS]


def _read(record: Record) -> _Kept:
    return msgspec.json.decode(record.value, type=_Kept)


def _told(key: str, kept: _Kept, operator: Operator, csrf: str = "") -> Session:
    return Session(_id(key), operator, kept.created_at, kept.expires_at, kept.address, kept.agent, csrf)
