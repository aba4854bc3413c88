"""What one client may do on its connection: push or not, until when, how fast, and into how full a store."""

import math
from typing import Final

import attrs

from livesync_trio.errors import Kind, Refusal, StorageUnavailable, StoreDamaged, TooFast
from livesync_trio.fairness import Meter
from livesync_trio.store.actor import UNAVAILABLE
from livesync_trio.store.handle import StoreHandle
from livesync_trio.wire.messages import PushRequest

READ_ONLY: Final = Refusal(Kind.NOT_ALLOWED, "This token may read the store, but not write to it.")
EXPIRED: Final = Refusal(Kind.TOKEN_EXPIRED, "The token has expired. Come back with a fresh one.")


class StoreQuotas:
    """How much a store may hold."""

    def __init__(self, max_events: int, max_bytes: int) -> None:
        """0 for no limit."""
        self._max_events = max_events
        self._max_bytes = max_bytes

    @property
    def set(self) -> bool:
        """Whether there is any limit."""
        return bool(self._max_events or self._max_bytes)

    async def refusal(self, handle: StoreHandle, request: PushRequest) -> Refusal | None:
        """Whether the store has no room for a batch. One that does not continue the head is left to the actor."""
        state = await handle.inspect()
        if isinstance(state, Refusal):
            return state
        if request.events[0].parent_seq_num != state.head:
            return None
        if self._max_events and state.event_count + len(request.events) > self._max_events:
            return Refusal(Kind.QUOTA_EXCEEDED, f"This store may hold {self._max_events} events and is full.")
        if self._max_bytes:
            try:
                summary = await handle.summary()
            except (StorageUnavailable, StoreDamaged):
                return UNAVAILABLE
            held_bytes = 0 if summary is None else summary.text_bytes
            if held_bytes + batch_bytes(request) > self._max_bytes:
                return Refusal(Kind.QUOTA_EXCEEDED, f"This store may hold {self._max_bytes} bytes and is full.")
        return None


@attrs.frozen
class Entitlement:
    """What one client may do.

    Attributes:
        may_push: whether its claims let it write.
        expires_s: when its token stops to count, on Trio's clock.
        asks_to_push: whether the `authorize` hook wants to be asked for every push.
        meter: what its pushes are charged to, None for nothing.
        quotas: how much its store may hold, None for any amount.
    """

    may_push: bool = True
    expires_s: float = math.inf
    asks_to_push: bool = False
    meter: Meter | None = None
    quotas: StoreQuotas | None = None

    def refusal_to_push(self, now_s: float) -> Refusal | None:
        """Whether the client may not push now at all."""
        if not self.may_push:
            return READ_ONLY
        return EXPIRED if now_s >= self.expires_s else None

    def charge(self, request: PushRequest, patience_s: float, now_s: float) -> float | TooFast:
        """Charge a push: how long it must wait, or the refusal. See `Meter.charge`."""
        if self.meter is None:
            return 0.0
        return self.meter.charge(len(request.events), batch_bytes(request), patience_s, now_s)


EVERYTHING: Final = Entitlement()
"""What a client may do where nothing is limited."""


def batch_bytes(request: PushRequest) -> int:
    """Bytes of the texts of a batch's events."""
    return sum(len(event.json) for event in request.events)
