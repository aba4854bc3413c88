"""The rates and counts of one server, and what one client meets of them."""

from collections import Counter
from types import TracebackType
from typing import Final, Literal

import attrs

from livesync_trio.config import Config, Rate, parse_rates
from livesync_trio.errors import Kind, Refusal, TooFast
from livesync_trio.fairness.addresses import address_group
from livesync_trio.fairness.buckets import Buckets
from livesync_trio.limits import PRINCIPAL_STORES_WINDOW_S, THROTTLED_KEYS_MAX

Scope = Literal["user", "address", "store"]

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
        """All limits are optional; 0 is none. See `config.fair_use` for their meaning."""
        self._buckets = {
            scope: {thing: Buckets(rate) for thing, rate in of_scope.items()}
            for scope, of_scope in (rates or {}).items()
        }
        self._max = {"user": max_principal_connections, "address": max_address_connections}
        self._held: Counter[tuple[str, str]] = Counter()
        self._max_principal_stores = max_principal_stores
        self._stores: dict[str, dict[str, float]] = {}

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

    def visitor(self, host: str) -> "Visitor":
        """Somebody who connects from `host`; to be entered as a context, at whose end it holds nothing any more."""
        return Visitor(self, host)

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
        """Charge a connection or HTTP request to its address, before anything else is asked; None when it may go on."""
        return self._arrival(self._tolls("connections", (("address", address_group(host)),)), now_s)

    def arrival_at(self, user: str | None, store_id: str, now_s: float) -> Refusal | None:
        """Charge one that may come in to its user and its store, which strangers must not be able to use up."""
        tolls = self._tolls("connections", (("user", user), ("store", store_id)))
        return self._arrival(tolls, now_s) or self._another_store(user, store_id, now_s)

    def _arrival(self, tolls: list[_Toll], now_s: float) -> TooFast | None:
        for buckets, key, words in tolls:
            wait_s = buckets.wait_s(key, 1, now_s)
            if wait_s:
                return TooFast.of(f"Too many {words}.", wait_s)
        for buckets, key, _ in tolls:
            buckets.take(key, 1, now_s)
        return None

    def _tolls(self, thing: str, keys: tuple[tuple[Scope, str | None], ...]) -> list[_Toll]:
        tolls = []
        for scope, key in keys:
            buckets = self._buckets.get(scope, {}).get(thing)
            if buckets is not None and key is not None:
                tolls.append((buckets, key, f"{thing} of this {scope}"))
        return tolls

    def _another_store(self, user: str | None, store_id: str, now_s: float) -> Refusal | None:
        if user is None or not self._max_principal_stores:
            return None
        stores = self._stores.pop(user, {})
        if len(self._stores) >= THROTTLED_KEYS_MAX:
            del self._stores[next(iter(self._stores))]  # who has not been here for longest
        self._stores[user] = stores
        if store_id not in stores and len(stores) >= self._max_principal_stores:
            stores = {each: seen_s for each, seen_s in stores.items() if seen_s > now_s - PRINCIPAL_STORES_WINDOW_S}
            self._stores[user] = stores
            if len(stores) >= self._max_principal_stores:
                return Refusal(
                    Kind.QUOTA_EXCEEDED, f"This user has used {len(stores)} stores today; no more are allowed."
                )
        stores[store_id] = now_s
        return None

    # --- counts ----------------------------------------------------------------------------------------------------

    def hold(self, scope: Scope, key: str) -> Refusal | None:
        """Count one connection more; None when it may stay."""
        most = self._max.get(scope, 0)
        if most and self._held[scope, key] >= most:
            return Refusal(Kind.QUOTA_EXCEEDED, f"This {scope} has {most} connections open; no more are allowed.")
        self._held[scope, key] += 1
        return None

    def release(self, scope: Scope, key: str) -> None:
        """Count one connection less."""
        self._held[scope, key] -= 1
        if self._held[scope, key] <= 0:
            del self._held[scope, key]

    @property
    def holders(self) -> int:
        """Users and addresses that hold something now."""
        return len(self._held)


@attrs.define
class Visitor:
    """One TCP connection, and what it holds as long as it lasts."""

    _fairness: Fairness
    _host: str
    _held: list[tuple[Scope, str]] = attrs.field(factory=list)

    def enter_from(self, host: str) -> Refusal | None:
        """Count this connection for an address, once."""
        group = address_group(host)
        return None if group is None else self._hold("address", group)

    def enter_as(self, user: str | None, host: str) -> Refusal | None:
        """Count a WebSocket for its user, and for the address that a proxy told."""
        refusal = self.enter_from(host) if host != self._host else None
        if refusal is None and user is not None:
            refusal = self._hold("user", user)
        return refusal

    def _hold(self, scope: Scope, key: str) -> Refusal | None:
        refusal = self._fairness.hold(scope, key)
        if refusal is None:
            self._held.append((scope, key))
        return refusal

    def __enter__(self) -> "Visitor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._held:
            self._fairness.release(*self._held.pop())
