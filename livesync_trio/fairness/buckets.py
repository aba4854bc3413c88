"""Token buckets, one for each key, and wrong secrets, which are counted with them by address.

A bucket is one number: the moment at which it would be full again (the "generic cell rate algorithm"). Taking pushes it
into the future, time catches up with it, and a bucket that is full need not be remembered.
"""

import ipaddress
from itertools import islice
from typing import Final

from livesync_trio.config import Rate
from livesync_trio.errors import TooFast

ADDRESS_GROUP_BITS: Final = 64
"""IPv6 addresses that share these bits count as one: a household has 2**64 of them."""


def address_group(host: str) -> str | None:
    """The key under which an address is counted.

    Args:
        host: an IP address without port; anything else counts by its text.

    Returns:
        The address, of IPv6 only its network; None for addresses of this machine, behind which everybody may be.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host or None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, ADDRESS_GROUP_BITS), strict=False).network_address)
    return str(address)


THROTTLED_KEYS_MAX: Final = 100_000
"""Users, addresses or stores whose rates are remembered at the same time; some 20 MB at worst."""


class Buckets:
    """What has been taken of one rate, by key."""

    __slots__ = ("_full_at_s", "_keys_max", "_rate")

    def __init__(self, rate: Rate, keys_max: int = THROTTLED_KEYS_MAX) -> None:
        """`keys_max`: how many keys are remembered; beyond that, those who took longest ago start anew."""
        self._rate = rate
        self._keys_max = keys_max
        self._full_at_s: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._full_at_s)

    def wait_s(self, key: str, amount: float, now_s: float) -> float:
        """How long until `amount` may be taken; 0 when it may be now. Takes nothing.

        More than the bucket holds counts as the whole bucket: it has to wait, but not for ever.
        """
        full_at_s = max(self._full_at_s.get(key, now_s), now_s) + self._cost_s(amount)
        return max(0.0, full_at_s - now_s - self._rate.period_s)

    def take(self, key: str, amount: float, now_s: float) -> None:
        """Take, also what is not there yet: whoever comes next waits for it."""
        before_s = self._full_at_s.pop(key, now_s)
        if len(self._full_at_s) >= self._keys_max:
            self._forget(now_s)
        self._full_at_s[key] = max(before_s, now_s) + self._cost_s(amount)

    def _cost_s(self, amount: float) -> float:
        return min(amount, self._rate.amount) / self._rate.per_s

    def _forget(self, now_s: float) -> None:
        """Drop full buckets; if that is not enough, a tenth of the others, those first that took longest ago."""
        self._full_at_s = {key: full_at_s for key, full_at_s in self._full_at_s.items() if full_at_s > now_s}
        if len(self._full_at_s) >= self._keys_max:
            for key in tuple(islice(self._full_at_s, max(1, self._keys_max // 10))):
                del self._full_at_s[key]


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

    Addresses of this machine are not counted, as for every other rate (`address_group`).
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
