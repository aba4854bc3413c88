"""Token buckets of one rate, one for each key, in one number each.

The number is the moment at which the bucket would be full again (the "generic cell rate algorithm"): taking pushes it
into the future, time catches up with it, and a bucket that is full need not be remembered.
"""

from itertools import islice
from typing import Final

from livesync_trio.config import Rate

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
