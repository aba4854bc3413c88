"""The rates and counts of one server: what may be taken how fast, and held at a time."""

from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Literal

import attrs

from livesync_trio.config import Config, Rate, parse_rates
from livesync_trio.errors import Kind, Refusal, TooFast
from livesync_trio.fairness.buckets import Buckets, address_group
from livesync_trio.limits import CROWDED_CONNECTIONS_MAX

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


Scope = Literal["user", "address", "store", "crowd"]
Slot = tuple[Scope, str]
"""What a connection counts for: a user, an address, or those of an address that are too many (`crowd`)."""

_Toll = tuple[Buckets, str, str]
"""Buckets, the key in them, and in words what would be too much."""

_PUSHED: Final = ("pushes", "events", "bytes")


class Meter:
    """What pushes of one client are charged to."""

    __slots__ = ("_bytes", "_events", "_pushes")

    def __init__(self, pushes: list[_Toll], events: list[_Toll], size_bytes: list[_Toll]) -> None:
        self._pushes = pushes
        self._events = events
        self._bytes = size_bytes

    def charge(self, events: int, size_bytes: int, patience_s: float, now_s: float) -> float | TooFast:
        """Charge a push.

        Args:
            events: number of events in it.
            size_bytes: bytes of their texts together.
            patience_s: how long it may have to wait before it is refused instead.
            now_s: Trio's clock.

        Returns:
            How long it must wait before it is handed on, 0 in general; or the refusal, and then nothing was charged.
        """
        longest_s, whose = 0.0, ""
        charges = ((self._pushes, 1), (self._events, events), (self._bytes, size_bytes))
        for tolls, amount in charges:
            for buckets, key, words in tolls:
                wait_s = buckets.wait_s(key, amount, now_s)
                if wait_s > longest_s:
                    longest_s, whose = wait_s, words
        if longest_s > patience_s:
            return TooFast.of(f"Too many {whose}.", longest_s)
        for tolls, amount in charges:
            for buckets, key, _ in tolls:
                buckets.take(key, amount, now_s)
        return longest_s


class Fairness:
    """The rates and counts of one server."""

    def __init__(
        self,
        rates: dict[Scope, dict[str, Rate]] | None = None,
        *,
        max_principal_connections: int = 0,
        max_address_connections: int = 0,
        max_principal_stores: int = 0,
    ) -> None:
        """All limits are optional; 0 is none. See `config.groups` for their meaning."""
        self._buckets = {
            scope: {thing: Buckets(rate) for thing, rate in of_scope.items()}
            for scope, of_scope in (rates or {}).items()
        }
        self._max: dict[Scope, int] = {
            "user": max_principal_connections,
            "address": max_address_connections,
            "crowd": CROWDED_CONNECTIONS_MAX,
        }
        self._held: Counter[Slot] = Counter()  # not larger than there are connections
        self._stores = UsedStores(max_principal_stores)

    @classmethod
    def of(cls, config: Config) -> "Fairness":
        """The rates and counts that a configuration says."""
        return cls(
            {
                "user": parse_rates(config.rate_principal),
                "address": parse_rates(config.rate_address),
                "store": parse_rates(config.rate_store),
            },
            max_principal_connections=config.max_principal_connections,
            max_address_connections=config.max_address_connections,
            max_principal_stores=config.max_principal_stores,
        )

    # --- rates -----------------------------------------------------------------------------------------------------

    def meter(self, user: str | None, host: str, store_id: str) -> Meter | None:
        """What pushes of a client are charged to; None when to nothing.

        Args:
            user: id of the principal, None for strangers and holders of the shared token.
            host: address of the client, without port.
            store_id: the store.
        """
        keys: tuple[tuple[Scope, str | None], ...] = (
            ("user", user),
            ("address", address_group(host)),
            ("store", store_id),
        )
        pushes, events, size_bytes = (self._tolls(thing, keys) for thing in _PUSHED)
        return Meter(pushes, events, size_bytes) if pushes or events or size_bytes else None

    def arrival_from(self, host: str, now_s: float) -> TooFast | None:
        """Charge a request to its address, before anything else is asked; None when it may go on."""
        return self._arrival(self._tolls("connections", (("address", address_group(host)),)), 1, now_s)

    def arrival_at(self, user: str | None, store_id: str, now_s: float) -> Refusal | None:
        """Charge one that may come in to its user and its store, which strangers must not be able to use up."""
        tolls = self._tolls("connections", (("user", user), ("store", store_id)))
        refusal = self._arrival(tolls, 1, now_s)
        if refusal is None and user is not None and not self._stores.use(user, store_id, now_s):
            most = self._stores.stores_max
            return Refusal(Kind.QUOTA_EXCEEDED, f"This user has used {most} stores today; no more are allowed.")
        return refusal

    def more_requests(self, user: str | None, host: str, store_id: str, count: int, now_s: float) -> TooFast | None:
        """Charge what else came in one HTTP request; None when it may go on."""
        keys: tuple[tuple[Scope, str | None], ...] = (
            ("user", user),
            ("address", address_group(host)),
            ("store", store_id),
        )
        return self._arrival(self._tolls("connections", keys), count, now_s)

    def _arrival(self, tolls: list[_Toll], count: int, now_s: float) -> TooFast | None:
        for buckets, key, words in tolls:
            wait_s = buckets.wait_s(key, count, now_s)
            if wait_s:
                return TooFast.of(f"Too many {words}.", wait_s)
        for buckets, key, _ in tolls:
            buckets.take(key, count, now_s)
        return None

    def _tolls(self, thing: str, keys: tuple[tuple[Scope, str | None], ...]) -> list[_Toll]:
        tolls = []
        for scope, key in keys:
            buckets = self._buckets.get(scope, {}).get(thing)
            if buckets is not None and key is not None:
                tolls.append((buckets, key, f"{thing} of this {scope}"))
        return tolls

    # --- counts ----------------------------------------------------------------------------------------------------

    def hold(self, slots: Iterable[Slot]) -> "Held | Refusal":
        """Count one connection more for all of these, or for none of them."""
        held = Held(self)
        for slot in slots:
            scope = slot[0]
            most = self._max.get(scope, 0)
            if most and self._held[slot] >= most:
                held.release()
                return Refusal(Kind.QUOTA_EXCEEDED, f"This {scope} has {most} connections open; no more are allowed.")
            self._held[slot] += 1
            held.slots.append(slot)
        return held

    def give_back(self, slot: Slot) -> None:
        """Count one connection less."""
        self._held[slot] -= 1
        if self._held[slot] <= 0:
            del self._held[slot]

    @property
    def holders(self) -> int:
        """Users and addresses that hold something now."""
        return len(self._held)


@attrs.define(eq=False)
class Held:
    """What one connection counts for; given back once, when it ends. A context."""

    _fairness: Fairness
    slots: list[Slot] = attrs.field(factory=list)

    def release(self) -> None:
        """Give it back. Whatever has been given back already stays so."""
        while self.slots:
            self._fairness.give_back(self.slots.pop())

    def __enter__(self) -> "Held":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
