"""The one-time link by which the first operator is made: of this process only, once, for half an hour."""

import enum
import hashlib
import hmac
import secrets
from typing import Final

import trio

FIRST_OPERATOR_LIMIT_S: Final = 1800.0


class State(enum.Enum):
    """What has become of the link."""

    NOT_OFFERED = enum.auto()
    OFFERED = enum.auto()
    IN_USE = enum.auto()
    """Somebody's request with it is being carried out."""
    OVER = enum.auto()


class FirstOperator:
    """The link of this process."""

    def __init__(self) -> None:
        """None is offered yet."""
        self.state = State.NOT_OFFERED
        self._digest = b""
        self._until_s = 0.0

    def offer(self) -> str:
        """Make the link good, and give what it holds."""
        token = secrets.token_urlsafe(32)
        self._digest = _digest(token)
        self._until_s = trio.current_time() + FIRST_OPERATOR_LIMIT_S
        self.state = State.OFFERED
        return token

    def opens(self, token: str) -> bool:
        """Whether a link is good now."""
        fits = hmac.compare_digest(self._digest, _digest(token))
        return fits and self.state is State.OFFERED and trio.current_time() < self._until_s

    def take(self, token: str) -> bool:
        """Begin to use it, so that nobody else does. False: it is not good."""
        if not self.opens(token):
            return False
        self.state = State.IN_USE
        return True

    def give_back(self) -> None:
        """It was not used in the end: it is good again, as long as before; unless it has been closed."""
        if self.state is State.IN_USE:
            self.state = State.OFFERED

    def close(self) -> None:
        """It was used, or there is an operator by now: it never opens anything again."""
        self.state = State.OVER


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
