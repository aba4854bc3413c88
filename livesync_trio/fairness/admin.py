"""How often an address may be wrong about the admin secret."""

from livesync_trio.config import Rate
from livesync_trio.errors import TooFast
from livesync_trio.fairness.buckets import Buckets
from livesync_trio.limits import ADMIN_FAILURES, ADMIN_FAILURES_PERIOD_S


class AdminAttempts:
    """Wrong admin secrets, by address. Addresses of this machine count too: guessing is no less guessing there."""

    __slots__ = ("_failures",)

    def __init__(self) -> None:
        self._failures = Buckets(Rate(ADMIN_FAILURES, ADMIN_FAILURES_PERIOD_S))

    def refusal(self, host: str, now_s: float) -> TooFast | None:
        """Whether an address must wait before another secret of it is looked at, even the right one."""
        wait_s = self._failures.wait_s(host, 1, now_s)
        return TooFast.of("Too many wrong admin secrets from this address.", wait_s) if wait_s else None

    def failed(self, host: str, now_s: float) -> None:
        """An address was wrong."""
        self._failures.take(host, 1, now_s)
