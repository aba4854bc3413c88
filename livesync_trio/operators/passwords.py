"""Passwords, hashed by Argon2id in threads of their own, few at a time."""

import base64
from typing import Final

import trio

from livesync_trio.config import Secret

ARGON2_MEMORY_KIB: Final = 19 * 1024
ARGON2_PASSES: Final = 2
"""What OWASP names as the least that is good: 19 MiB and two passes, on one thread."""

PASSWORD_THREADS: Final = 2
"""Passwords hashed at a time: with the memory above, what strangers can make the server spend."""

PASSWORDS_WAITING_MAX: Final = 16
"""Passwords that wait for a thread; one more is refused at once."""


class Busy(Exception):
    """Too many passwords wait already."""


def _of_nobody() -> str:
    """A hash that no password has, of the same cost as all others."""
    salt, digest = (base64.b64encode(bytes(count)).decode().rstrip("=") for count in (16, 32))
    return f"$argon2id$v=19$m={ARGON2_MEMORY_KIB},t={ARGON2_PASSES},p=1${salt}${digest}"


OF_NOBODY: Final = _of_nobody()
"""With this an unknown account's password is compared, so that the answer takes as long as for a known one."""


class Passwords:
    """Hashes and compares passwords, off the event loop."""

    __slots__ = ("_hasher", "_limiter", "_mismatch")

    def __init__(self) -> None:
        from argon2 import PasswordHasher, Type  # noqa: PLC0415 - a server without the console does not load it
        from argon2.exceptions import InvalidHashError, VerificationError  # noqa: PLC0415

        self._mismatch = (VerificationError, InvalidHashError)
        self._hasher = PasswordHasher(ARGON2_PASSES, ARGON2_MEMORY_KIB, parallelism=1, type=Type.ID)
        self._limiter = trio.CapacityLimiter(PASSWORD_THREADS)

    async def hashed(self, password: Secret) -> str:
        """A hash to keep. Raises Busy."""
        self._refuse_more()
        return await trio.to_thread.run_sync(self._hasher.hash, _bytes(password), limiter=self._limiter)

    async def matches(self, kept: str, password: Secret) -> bool:
        """Whether a password is the one of a hash. Raises Busy."""
        self._refuse_more()
        return await trio.to_thread.run_sync(self._verify, kept, _bytes(password), limiter=self._limiter)

    def _verify(self, kept: str, password: bytes) -> bool:
        try:
            return self._hasher.verify(kept, password)
        except self._mismatch:
            return False

    def _refuse_more(self) -> None:
        if self._limiter.statistics().tasks_waiting >= PASSWORDS_WAITING_MAX:
            raise Busy


def _bytes(password: Secret) -> bytes:
    return password.reveal().encode(errors="surrogatepass")
