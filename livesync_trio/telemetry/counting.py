"""Totals and histograms since the process started: plain numbers, so that counting costs next to nothing.

Written by the module that sees the thing happen, in the Trio thread only; read by anybody, whenever somebody asks
(`metrics`).
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import Final

import attrs

COMMIT_SECONDS_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Buckets of the time a durable transaction takes: 0.3 ms on a good disk, seconds on one that fails (decision 0003)."""

COMMIT_WRITES_BUCKETS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
"""Buckets of the writes in one transaction, up to `GROUP_COMMIT_MAX_OPS`."""

LOOP_DELAY_SECONDS_BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Buckets of the event loop's delay; the first holds what the kernel's timers alone cost."""

GC_PAUSE_SECONDS_BUCKETS: Final = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Buckets of garbage collection; full ones take 65 to 144 ms at 10,000 idle stores."""


class Histogram:
    """How often values fell into which bucket."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """`bounds`: upper ends of the buckets, ascending; one more bucket holds what is above the last."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        """Sum of all values."""

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Traffic:
    """Bytes that went over sockets, without what TLS adds to them."""

    __slots__ = ("received_bytes", "sent_bytes")

    def __init__(self) -> None:
        self.received_bytes = 0
        self.sent_bytes = 0


def _none() -> float:
    return 0


@attrs.define(eq=False)
class WebhookCounts:
    """Of one webhook, by this server.

    Attributes:
        delivered: messages that its receiver took.
        events: events in them.
        failed: attempts that failed.
        parked: stores that are not tried any more before an operator says so.
        behind: tells how many stores have something to deliver.
        lag_s: tells for how long the one that is longest behind has had nothing delivered, in seconds.
    """

    delivered: int = 0
    events: int = 0
    failed: int = 0
    parked: int = 0
    behind: Callable[[], float] = _none
    lag_s: Callable[[], float] = _none

    def rest(self) -> None:
        """This server does not deliver it now."""
        self.parked, self.behind, self.lag_s = 0, _none, _none


@attrs.define
class Counters:
    """Totals since the process started.

    Attributes:
        connections_opened: WebSocket connections accepted.
        connections_closed: those that the server closed, by `errors.Kind`.
        http_requests: HTTP RPC requests served.
        api_requests: requests to the HTTP API that were admitted.
        appends_accepted: appends of events without numbers, made durable.
        events_repeated: events of appends that the store had already, under their ids.
        pushes_misfitting: pushes that do not fit the schemas of events, and were taken.
        sockets_open: TCP connections at the public port now, whatever is spoken on them.
        websocket: bytes of WebSockets, after their handshake.
        http: bytes of HTTP requests and answers.
        pushes_accepted: batches made durable.
        events_accepted: events in them.
        refusals: requests refused, by `errors.Kind`.
        hooks_failed: hooks that raised something else than a refusal.
        pushes_ahead_of_head: pushes whose parent is above the head, a sign of a damaged client (SPEC section 2).
        cursors_ahead_of_head: pulls from above the head, a sign of a log that lost its tail (SPEC section 2).
        live_pulls_abandoned: live pulls interrupted on a connection that goes on (SPEC section 2).
        orphans_closed: connections closed to wake an orphaned pull (SPEC 3.6).
        followers_sent_back: times a lagging live pull was sent back to the log.
        actors_started: generations of store actors.
        actors_crashed: those that ended with an exception.
        actors_restarted: those that were started although the one before had crashed a short while ago.
        connections_crashed: connections that ended with an exception of ours.
        commit_seconds: how long durable transactions took, in seconds.
        commit_waiting_seconds: how long the write that had waited longest stood in the queue before each, in seconds.
        commit_writes: writes of any stores that shared one transaction.
        storage_errors: transactions, and reads of history, that failed.
        loop_delay_seconds: by how much later than wanted the event loop came round, in seconds.
        loop_blocked_seconds: sum of the delays that were long enough to be noticed, in seconds.
        gc_pause_seconds: how long garbage collections held everything up, in seconds, by generation.
        webhooks: what was delivered, by webhook.
    """

    connections_opened: int = 0
    connections_closed: Counter[str] = attrs.field(factory=Counter)
    http_requests: int = 0
    api_requests: int = 0
    appends_accepted: int = 0
    events_repeated: int = 0
    pushes_misfitting: int = 0
    sockets_open: int = 0
    websocket: Traffic = attrs.field(factory=Traffic)
    http: Traffic = attrs.field(factory=Traffic)
    pushes_accepted: int = 0
    events_accepted: int = 0
    refusals: Counter[str] = attrs.field(factory=Counter)
    hooks_failed: int = 0
    pushes_ahead_of_head: int = 0
    cursors_ahead_of_head: int = 0
    live_pulls_abandoned: int = 0
    orphans_closed: int = 0
    followers_sent_back: int = 0
    actors_started: int = 0
    actors_crashed: int = 0
    actors_restarted: int = 0
    connections_crashed: int = 0
    commit_seconds: Histogram = attrs.field(factory=lambda: Histogram(COMMIT_SECONDS_BUCKETS))
    commit_waiting_seconds: Histogram = attrs.field(factory=lambda: Histogram(COMMIT_SECONDS_BUCKETS))
    commit_writes: Histogram = attrs.field(factory=lambda: Histogram(COMMIT_WRITES_BUCKETS))
    storage_errors: Counter[str] = attrs.field(factory=Counter)
    loop_blocked_seconds: float = 0.0
    loop_delay_seconds: Histogram = attrs.field(factory=lambda: Histogram(LOOP_DELAY_SECONDS_BUCKETS))
    gc_pause_seconds: dict[int, Histogram] = attrs.field(
        factory=lambda: {generation: Histogram(GC_PAUSE_SECONDS_BUCKETS) for generation in range(3)}
    )
    webhooks: dict[str, WebhookCounts] = attrs.field(factory=dict)
