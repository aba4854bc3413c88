"""How often somebody may be wrong about a password. Kept in the database: a restart forgives nothing.

A fixed number of buckets, chosen by a keyed hash of the address or account. So strangers can neither fill the database
nor push their own failures out of it, and nobody reads there who tried what. The price: two may share a bucket.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import attrs
import msgspec

from livesync_trio.config import Rate
from livesync_trio.storage.base import NO_RECORD
from livesync_trio.store.records import Moved, Records

FAILURES: Final = "login-failures"
SALT: Final = "salt"

BUCKETS: Final = 4096
"""Of each sort: a few hundred kilobytes of the database at most."""

BY_ADDRESS: Final = Rate(5, 60.0)
BY_ACCOUNT: Final = Rate(10, 900.0)
"""Wrong passwords at once, and as many again in each period: of one address, and for one account from addresses where
nobody of that account is signed in."""

_TRIES: Final = 8


class _Kept(msgspec.Struct, frozen=True):
    level: float
    at: float


@attrs.frozen
class Charged:
    """An attempt may be made; it counts. `last`: so that the next one must wait."""

    last: bool


@attrs.frozen
class MustWait:
    """No attempt may be made for so many seconds."""

    wait_s: float


class Throttle:
    """Counts attempts before they are made; who was right gets his or her count back."""

    def __init__(self, records: Records, now: Callable[[], float] = time.time) -> None:
        """Nothing is read yet. `now`: seconds of the Unix epoch."""
        self._records = records
        self._now = now
        self._salt: bytes | None = None

    async def charge(self, sort: str, who: str, rate: Rate) -> Charged | MustWait:
        """Count an attempt, if there may be one.

        Args:
            sort: `address` or `account`.
            who: which of them.
            rate: how many there may be.

        Raises:
            StorageUnavailable: nothing is known to be counted, so none may be made.
        """
        key = await self._key(sort, who)
        for _ in range(_TRIES):
            record = await self._records.get(FAILURES, key)
            now = self._now()
            kept = _Kept(0.0, now) if record is None else msgspec.json.decode(record.value, type=_Kept)
            level = max(0.0, kept.level - max(0.0, now - kept.at) * rate.per_s)
            full = level + 1 > rate.amount
            version = NO_RECORD if record is None else record.version
            try:
                if full and kept.at <= now:
                    return MustWait((level + 1 - rate.amount) / rate.per_s)
                # A clock that was put back is written down also when the bucket is full, or it would never empty.
                await self._put(key, _Kept(level if full else level + 1, now), version)
            except Moved:
                continue
            return MustWait((level + 1 - rate.amount) / rate.per_s) if full else Charged(level + 2 > rate.amount)
        return MustWait(1.0)  # many at once, who may all be the same

    async def forgive(self, sort: str, who: str) -> None:
        """Forget the attempts of somebody who was right. Raises StorageUnavailable."""
        key = await self._key(sort, who)
        record = await self._records.get(FAILURES, key)
        if record is not None:
            try:
                await self._records.put(FAILURES, key, None, record.version)
            except Moved:
                return  # somebody else was wrong at the same moment: that counts

    async def _put(self, key: str, kept: _Kept, expected: int) -> None:
        await self._records.put(FAILURES, key, msgspec.json.encode(kept), expected)

    async def _key(self, sort: str, who: str) -> str:
        if self._salt is None:
            self._salt = await self._salt_of_the_database()
        digest = hmac.digest(self._salt, f"{sort}\n{who}".encode(errors="surrogatepass"), hashlib.sha256)
        return f"{sort}/{int.from_bytes(digest[:8]) % BUCKETS}"

    async def _salt_of_the_database(self) -> bytes:
        record = await self._records.get(FAILURES, SALT)
        while record is None:
            made = msgspec.json.encode(secrets.token_hex(32))
            with suppress(Moved):  # another server was faster
                await self._records.put(FAILURES, SALT, made, NO_RECORD)
            record = await self._records.get(FAILURES, SALT)
        return bytes.fromhex(msgspec.json.decode(record.value, type=str))
