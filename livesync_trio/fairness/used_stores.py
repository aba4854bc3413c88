"""How many different stores one user has used within a day."""

from typing import Final

PRINCIPAL_STORES_WINDOW_S: Final = 86_400.0
"""How long a store counts as used by a principal after it was last opened."""

USED_STORES_MAX: Final = 500_000
"""Stores remembered for `max_principal_stores`, of all users together; some 60 MB at worst."""


class UsedStores:
    """The stores that users have used, those of late only. Bounded over all users together.

    A store is kept by the hash of its name (Python's, which nobody outside can foretell): two that have the same one
    count as one, which one in 10**15 does.
    """

    __slots__ = ("_count", "_of", "_total_max", "stores_max")

    def __init__(self, stores_max: int, total_max: int = USED_STORES_MAX) -> None:
        """Nobody has used any.

        Args:
            stores_max: stores one user may use within a day; 0 for no limit.
            total_max: stores remembered of all users; beyond that, those of who has not come for longest are forgotten.
        """
        self.stores_max = stores_max
        self._total_max = total_max
        self._of: dict[str, dict[int, float]] = {}  # by user; both in the order of their last use
        self._count = 0

    def __len__(self) -> int:
        """Stores remembered."""
        return self._count

    @property
    def users(self) -> int:
        """Users remembered."""
        return len(self._of)

    def use(self, user: str, store_id: str, now_s: float) -> bool:
        """Note that a user uses a store. False: it would be one too many, and is not noted."""
        if not self.stores_max:
            return True
        self._forget(now_s)
        stores = self._of.pop(user, {})
        self._expire(stores, now_s)
        key = hash(store_id)
        known = stores.pop(key, None) is not None
        allowed = known or len(stores) < self.stores_max
        if allowed:
            stores[key] = now_s
            self._count += not known
        if stores:
            self._of[user] = stores
        return allowed

    def _forget(self, now_s: float) -> None:
        """Make room: what is older than a day goes, and if that is not enough, who has not come for longest."""
        while self._of:
            user, stores = next(iter(self._of.items()))
            full = self._count >= self._total_max
            last_seen_s = next(reversed(stores.values()))
            if not full and last_seen_s > now_s - PRINCIPAL_STORES_WINDOW_S:
                return
            del self._of[user]
            self._count -= len(stores)

    def _expire(self, stores: dict[int, float], now_s: float) -> None:
        while stores:
            key = next(iter(stores))
            if stores[key] > now_s - PRINCIPAL_STORES_WINDOW_S:
                return
            del stores[key]
            self._count -= 1
