"""The metrics: each is declared once, here.

The exposition, the table in `docs/observability.md` and the checks of dashboard and alerts are derived from `METRICS`.
Names follow Prometheus' conventions: base units, `_total` for counters. No label holds anything that a client chooses;
stores are not named.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal

import attrs

from livesync_trio.connection.peers import UNKNOWN
from livesync_trio.errors import RULES
from livesync_trio.metrics.snapshot import FEED_PHASES, FeedNumbers, Snapshot
from livesync_trio.telemetry import Histogram, WebhookCounts
from livesync_trio.version import VERSION
from livesync_trio.wire.messages import Generation

Sample = tuple[tuple[str, ...], float | Histogram]
"""Values of the labels, and what was counted under them."""


@attrs.frozen
class Metric:
    """One metric.

    Attributes:
        name: as in a query; a histogram's without `_bucket`, `_sum` and `_count`.
        kind: what Prometheus calls its type.
        help: what it counts, in one sentence.
        read: reads it from a snapshot.
        labels: names of its labels.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    read: Callable[[Snapshot], Iterable[Sample]]
    labels: tuple[str, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which its numbers can be queried."""
        if self.kind != "histogram":
            return (self.name,)
        return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))


def _one(read: Callable[[Snapshot], float | Histogram]) -> Callable[[Snapshot], list[Sample]]:
    """A metric without labels."""
    return lambda snapshot: [((), read(snapshot))]


def _each(values: Mapping[str, float], known: Iterable[str]) -> list[Sample]:
    """A metric with one label: a number for each known value, also where nothing was counted."""
    return [((value,), values.get(value, 0)) for value in known]


_REFUSED: Final = [str(kind) for kind, rule in RULES.items() if rule.wire_tag or rule.http_status]
_CLOSED: Final = [str(kind) for kind, rule in RULES.items() if rule.close_code]
_GENERATIONS: Final = [*map(str, Generation), UNKNOWN]


def _connections(snapshot: Snapshot) -> list[Sample]:
    websockets = snapshot.peers.by_generation
    samples: list[Sample] = [((each, "websocket"), websockets.get(each, 0)) for each in _GENERATIONS]
    http = snapshot.counters.sockets_open - websockets.total()
    return [*samples, ((UNKNOWN, "http"), max(0, http))]


def _actors(snapshot: Snapshot) -> list[Sample]:
    stores = snapshot.stores
    by_state = {"busy": stores.busy, "followed": stores.followed, "quiet": stores.quiet, "fenced": stores.fenced}
    return _each(by_state, by_state)


def _by_webhook(read: Callable[[WebhookCounts], float]) -> Callable[[Snapshot], list[Sample]]:
    """A metric with one label: a number for each webhook, of which there may be none."""
    return lambda snapshot: [((each,), read(counts)) for each, counts in snapshot.counters.webhooks.items()]


def _feed(read: Callable[[FeedNumbers], float | None]) -> Callable[[Snapshot], list[Sample]]:
    """A metric of the change feed: nothing without one, nor what this server does not know."""

    def samples(snapshot: Snapshot) -> list[Sample]:
        value = None if snapshot.feed is None else read(snapshot.feed)
        return [] if value is None else [((), value)]

    return samples


def _feed_phase(snapshot: Snapshot) -> list[Sample]:
    return [] if snapshot.feed is None else _each({snapshot.feed.phase: 1}, FEED_PHASES)


METRICS: Final[tuple[Metric, ...]] = (
    Metric(
        "livesync_build_info",
        "gauge",
        "Always 1; the labels say what runs.",
        lambda snapshot: [((VERSION, snapshot.engine), 1)],
        ("version", "engine"),
    ),
    # --- what clients do
    Metric("livesync_pushes_total", "counter", "Batches made durable.", _one(lambda s: s.counters.pushes_accepted)),
    Metric("livesync_events_total", "counter", "Events in them.", _one(lambda s: s.counters.events_accepted)),
    Metric(
        "livesync_refusals_total",
        "counter",
        "Requests refused, by kind (docs/errors.md). `server-ahead` is part of a healthy client's life.",
        lambda s: _each(s.counters.refusals, _REFUSED),
        ("kind",),
    ),
    Metric(
        "livesync_hook_failures_total",
        "counter",
        "Hooks that raised something else than a refusal: a fault in one of your own functions.",
        _one(lambda s: s.counters.hooks_failed),
    ),
    Metric(
        "livesync_received_bytes_total",
        "counter",
        "Bytes read from clients, without TLS.",
        lambda s: [(("websocket",), s.counters.websocket.received_bytes), (("http",), s.counters.http.received_bytes)],
        ("transport",),
    ),
    Metric(
        "livesync_sent_bytes_total",
        "counter",
        "Bytes written to clients, without TLS.",
        lambda s: [(("websocket",), s.counters.websocket.sent_bytes), (("http",), s.counters.http.sent_bytes)],
        ("transport",),
    ),
    Metric(
        "livesync_http_requests_total", "counter", "Sync requests over HTTP.", _one(lambda s: s.counters.http_requests)
    ),
    Metric(
        "livesync_api_requests_total",
        "counter",
        "Requests to the HTTP API that were let in.",
        _one(lambda s: s.counters.api_requests),
    ),
    Metric(
        "livesync_appends_total",
        "counter",
        "Appends of events without numbers made durable; they count as pushes, too.",
        _one(lambda s: s.counters.appends_accepted),
    ),
    Metric(
        "livesync_events_repeated_total",
        "counter",
        "Events of appends that the store had already, under their ids: requests that were sent again.",
        _one(lambda s: s.counters.events_repeated),
    ),
    Metric(
        "livesync_pushes_misfitting_total",
        "counter",
        "Pushes that do not fit the schemas of events, and were taken (`event_schemas_pushes`).",
        _one(lambda s: s.counters.pushes_misfitting),
    ),
    Metric(
        "livesync_pushes_above_head_total",
        "counter",
        "Pushes that continue an event the store does not have: a client lost events of its own.",
        _one(lambda s: s.counters.pushes_ahead_of_head),
    ),
    Metric(
        "livesync_pulls_above_head_total",
        "counter",
        "Pulls from above the head: the log lost its end, as after a restored backup.",
        _one(lambda s: s.counters.cursors_ahead_of_head),
    ),
    # --- connections
    Metric(
        "livesync_connections",
        "gauge",
        "Connections open now. HTTP ones are kept alive between requests.",
        _connections,
        ("generation", "transport"),
    ),
    Metric(
        "livesync_connections_opened_total",
        "counter",
        "WebSockets opened.",
        _one(lambda s: s.counters.connections_opened),
    ),
    Metric(
        "livesync_connections_closed_total",
        "counter",
        "WebSockets that the server closed, by kind (docs/errors.md).",
        lambda s: _each(s.counters.connections_closed, _CLOSED),
        ("kind",),
    ),
    Metric(
        "livesync_connections_crashed_total",
        "counter",
        "Connections that ended with a fault of the server.",
        _one(lambda s: s.counters.connections_crashed),
    ),
    Metric("livesync_outbox_bytes", "gauge", "Bytes queued for all clients.", _one(lambda s: s.peers.outbox_bytes)),
    Metric(
        "livesync_outbox_longest_bytes",
        "gauge",
        "Bytes queued for the client that has most waiting.",
        _one(lambda s: s.peers.outbox_longest_bytes),
    ),
    # --- live pulls
    Metric(
        "livesync_followers",
        "gauge",
        "Live pulls that stand at the head of their store.",
        _one(lambda s: s.stores.followers),
    ),
    Metric("livesync_pulls_reading", "gauge", "Pulls that still read history.", _one(lambda s: s.peers.pulls_reading)),
    Metric(
        "livesync_pull_lag_events",
        "gauge",
        "Events by which the pull that is furthest behind is behind.",
        _one(lambda s: s.peers.lag_events),
    ),
    Metric(
        "livesync_followers_sent_back_total",
        "counter",
        "Times a live pull that could not keep up was sent back to the log.",
        _one(lambda s: s.counters.followers_sent_back),
    ),
    Metric(
        "livesync_orphans_closed_total",
        "counter",
        "Connections closed because their client waits for a live pull that is not there.",
        _one(lambda s: s.counters.orphans_closed),
    ),
    Metric(
        "livesync_live_pulls_abandoned_total",
        "counter",
        "Live pulls that a client gave up while its connection went on.",
        _one(lambda s: s.counters.live_pulls_abandoned),
    ),
    # --- stores
    Metric(
        "livesync_actors",
        "gauge",
        "Stores in memory: with work, with followers only, with neither; and those set aside after many crashes.",
        _actors,
        ("state",),
    ),
    Metric("livesync_actor_starts_total", "counter", "Actors started.", _one(lambda s: s.counters.actors_started)),
    Metric(
        "livesync_actor_restarts_total",
        "counter",
        "Actors started after the one before had crashed.",
        _one(lambda s: s.counters.actors_restarted),
    ),
    Metric(
        "livesync_actor_crashes_total", "counter", "Actors that crashed.", _one(lambda s: s.counters.actors_crashed)
    ),
    Metric(
        "livesync_mailbox_commands", "gauge", "Commands that wait in all mailboxes.", _one(lambda s: s.stores.queued)
    ),
    Metric(
        "livesync_mailbox_longest_commands",
        "gauge",
        "Commands that wait in the fullest mailbox.",
        _one(lambda s: s.stores.queued_longest),
    ),
    # --- storage
    Metric(
        "livesync_storage_healthy",
        "gauge",
        "1 while the database can be written and read, and answers; else 0.",
        _one(lambda s: s.storage_healthy),
    ),
    Metric(
        "livesync_transaction_age_seconds",
        "gauge",
        "For how long the transaction under way has lasted; 0 when there is none.",
        _one(lambda s: s.transaction_age_s),
    ),
    Metric(
        "livesync_storage_errors_total",
        "counter",
        "Transactions and reads that failed.",
        lambda s: _each(s.counters.storage_errors, ("write", "read")),
        ("operation",),
    ),
    Metric(
        "livesync_commit_duration_seconds",
        "histogram",
        "How long durable transactions took.",
        _one(lambda s: s.counters.commit_seconds),
    ),
    Metric(
        "livesync_commit_wait_seconds",
        "histogram",
        "How long the write that had waited longest had waited when its transaction began.",
        _one(lambda s: s.counters.commit_waiting_seconds),
    ),
    Metric(
        "livesync_commit_writes",
        "histogram",
        "Writes of any stores that shared a transaction.",
        _one(lambda s: s.counters.commit_writes),
    ),
    # --- webhooks
    Metric(
        "livesync_webhook_attempts_total",
        "counter",
        "Messages to receivers of webhooks: those that were taken, and attempts that failed.",
        lambda s: [
            ((webhook, outcome), count)
            for webhook, counts in s.counters.webhooks.items()
            for outcome, count in (("delivered", counts.delivered), ("failed", counts.failed))
        ],
        ("webhook", "outcome"),
    ),
    Metric(
        "livesync_webhook_events_total",
        "counter",
        "Events in the messages that were taken.",
        _by_webhook(lambda counts: counts.events),
        ("webhook",),
    ),
    Metric(
        "livesync_webhook_stores_behind",
        "gauge",
        "Stores with something to deliver, on the server that delivers.",
        _by_webhook(lambda counts: counts.behind()),
        ("webhook",),
    ),
    Metric(
        "livesync_webhook_lag_seconds",
        "gauge",
        "For how long the store that is longest behind has had nothing delivered.",
        _by_webhook(lambda counts: counts.lag_s()),
        ("webhook",),
    ),
    Metric(
        "livesync_webhook_stores_parked",
        "gauge",
        "Stores that are not tried any more before an operator says so.",
        _by_webhook(lambda counts: counts.parked),
        ("webhook",),
    ),
    # --- the change feed
    Metric(
        "livesync_feed_phase",
        "gauge",
        "1 for what the reader of the change feed does, else 0.",
        _feed_phase,
        ("phase",),
    ),
    Metric(
        "livesync_feed_retained_bytes",
        "gauge",
        "Bytes of its log that the source keeps because of the feed; only where the source is read.",
        _feed(lambda feed: feed.retained_bytes),
    ),
    Metric(
        "livesync_feed_safe_bytes",
        "gauge",
        "Bytes that the source may still write before it gives the feed up; only where a limit is set.",
        _feed(lambda feed: feed.safe_bytes),
    ),
    Metric(
        "livesync_feed_confirm_age_seconds",
        "gauge",
        "Since when the source has not been told that the feed lives; only where the source is read.",
        _feed(lambda feed: feed.confirm_age_s),
    ),
    Metric(
        "livesync_feed_probe_age_seconds",
        "gauge",
        "Since when nothing that was written to the source has arrived here; something is written every 30 s.",
        _feed(lambda feed: feed.probe_age_s),
    ),
    Metric(
        "livesync_feed_copied_rows",
        "gauge",
        "Rows that were read so far, while all rows of the source are read.",
        _feed(lambda feed: feed.copied_rows),
    ),
    # --- the process
    Metric("livesync_draining", "gauge", "1 while the server shuts down.", _one(lambda s: s.draining)),
    Metric(
        "livesync_log_lines_lost_total",
        "counter",
        "Lines of the log and of standard output that could not be written.",
        _one(lambda s: s.log_lines_lost),
    ),
    Metric(
        "livesync_audit_lines_lost_total",
        "counter",
        "Lines of the audit log that could not be written.",
        _one(lambda s: s.audit_lines_lost),
    ),
    Metric(
        "livesync_backup_last_success_timestamp_seconds",
        "gauge",
        "When the newest scheduled backup was begun, in Unix time; 0 if there is none.",
        lambda s: [] if s.backups is None else [((), s.backups.last_s)],
    ),
    Metric(
        "livesync_backup_size_bytes",
        "gauge",
        "Size of the newest scheduled backup.",
        lambda s: [] if s.backups is None else [((), s.backups.last_bytes)],
    ),
    Metric(
        "livesync_backup_failures_total",
        "counter",
        "Scheduled backups that could not be made.",
        lambda s: [] if s.backups is None else [((), s.backups.failed)],
    ),
    Metric("livesync_tasks", "gauge", "Trio tasks.", _one(lambda s: s.tasks)),
    Metric(
        "livesync_loop_delay_seconds",
        "histogram",
        "By how much later than wanted the event loop came round.",
        _one(lambda s: s.counters.loop_delay_seconds),
    ),
    Metric(
        "livesync_loop_blocked_seconds_total",
        "counter",
        "Seconds for which the event loop stood still, counted where it did so for a tenth of a second or more.",
        _one(lambda s: s.counters.loop_blocked_seconds),
    ),
    Metric(
        "livesync_gc_pause_seconds",
        "histogram",
        "How long garbage collections stopped everything.",
        lambda s: [((str(generation),), pauses) for generation, pauses in s.counters.gc_pause_seconds.items()],
        ("generation",),
    ),
)
"""Every metric of ours, in the order of the documentation."""
