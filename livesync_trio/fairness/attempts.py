"""How often an address may be wrong about a secret. Every door that asks for one counts for itself."""

from typing import Final

from livesync_trio.config import Rate
from livesync_trio.errors import TooFast
from livesync_trio.fairness.addresses import address_group
from livesync_trio.fairness.buckets import Buckets

ADMIN_FAILURES: Final = 5
ADMIN_FAILURES_PERIOD_S: Final = 60.0
"""Wrong admin secrets that one address may try at once, and as many again in each period."""

TOKEN_FAILURES: Final = 60
TOKEN_FAILURES_PERIOD_S: Final = 60.0
"""Different wrong shared tokens that one address may try at once, and as many again in each period: an office whose
people all still have yesterday's token gets by; guessing 8 random letters and digits takes ten thousand years."""

WRONG_TOKENS_KNOWN_MAX: Final = 10_000
"""Wrong tokens remembered, by address: 2 MB at most."""

ADMIN: Final = Rate(ADMIN_FAILURES, ADMIN_FAILURES_PERIOD_S)
TOKENS: Final = Rate(TOKEN_FAILURES, TOKEN_FAILURES_PERIOD_S)


class Attempts:
    """Wrong secrets at one door, by address; IPv6 by network, of which anybody has 2**64 addresses."""

    __slots__ = ("_failures", "_spares_loopback", "_what")

    def __init__(self, what: str = "admin secrets", rate: Rate = ADMIN, *, spares_loopback: bool = False) -> None:
        """Nobody has failed yet.

        Args:
            what: which secrets, in words.
            rate: how many may be wrong.
            spares_loopback: this machine does not count. For doors that nobody else reaches; where strangers may stand
                behind a proxy of this machine, guessing from there is no less guessing.
        """
        self._failures = Buckets(rate)
        self._what = what
        self._spares_loopback = spares_loopback

    def refusal(self, host: str, now_s: float) -> TooFast | None:
        """Whether an address must wait before another secret of it is looked at, even the right one."""
        key = self._key(host)
        wait_s = 0.0 if key is None else self._failures.wait_s(key, 1, now_s)
        return TooFast.of(f"Too many wrong {self._what} from this address.", wait_s) if wait_s else None

    def failed(self, host: str, now_s: float) -> None:
        """An address was wrong."""
        key = self._key(host)
        if key is not None:
            self._failures.take(key, 1, now_s)

    def _key(self, host: str) -> str | None:
        return address_group(host) or (None if self._spares_loopback else host)


class WrongTokens:
    """Wrong shared tokens, by address. Only different ones count: who repeats a stale token is no guesser.

    Addresses of this machine are not counted, as for every other rate (`addresses`).
    """

    __slots__ = ("_attempts", "_known")

    def __init__(self) -> None:
        self._attempts = Attempts("tokens", TOKENS, spares_loopback=True)
        self._known: dict[tuple[str, int], None] = {}  # wrong ones of late, by address; a hash in place of the token

    def refusal(self, host: str, token: str, now_s: float) -> TooFast | None:
        """Whether an address must wait before this token of it is looked at."""
        refusal = self._attempts.refusal(host, now_s)
        return None if refusal is None or (host, hash(token)) in self._known else refusal

    def failed(self, host: str, token: str, now_s: float) -> None:
        """The token was wrong."""
        seen = host, hash(token)
        if seen in self._known:
            return
        if len(self._known) >= WRONG_TOKENS_KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[seen] = None
        self._attempts.failed(host, now_s)
