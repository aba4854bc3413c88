"""One look at the whole server, from which all metrics of a scrape are read."""

from collections.abc import Callable
from typing import Final, Protocol

import attrs
import trio

from livesync_trio.connection.peers import Peers, PeersStatistics, statistics
from livesync_trio.store.registry import Registry, RegistryStatistics
from livesync_trio.telemetry import Counters, log_lines_lost


class Backups(Protocol):
    """What is told of scheduled backups (`backups.Backups`)."""

    last_s: float
    last_bytes: int
    failed: int


@attrs.frozen
class FeedNumbers:
    """What is measured of the change feed.

    Attributes:
        phase: what its reader does, one of `FEED_PHASES`.
        retained_bytes: of its log, that the source keeps because of the feed; None when this server does not know.
        safe_bytes: how many more may be written before the source gives the feed up; None without a limit.
        confirm_age_s: since the source was last told that the feed lives; None when this server does not read it.
        probe_age_s: since when nothing that was written to the source has arrived; None before it was first read.
        copied_rows: rows that were read so far, while all of them are; None at other times.
    """

    phase: str
    retained_bytes: int | None
    safe_bytes: int | None
    confirm_age_s: float | None
    probe_age_s: float | None = None
    copied_rows: int | None = None


FEED_PHASES: Final = ("starting", "standby", "copying", "following", "failing", "stopped")
"""What the reader of the change feed may do; `standby`: another server reads."""


@attrs.frozen
class Sources:
    """Where the metrics of one server are read.

    Attributes:
        counters: its totals.
        registry: its stores.
        peers: its WebSockets.
        engine: name of the storage engine.
        draining: tells whether it is shutting down.
        storage_healthy: tells whether the database can be written and read, and answers.
        audit_lines_lost: tells how many lines the audit log lost.
        backups: the scheduled ones; None: there are none.
        feed: tells how the change feed is; None where there is none.
    """

    counters: Counters
    registry: Registry
    peers: Peers
    engine: str
    draining: Callable[[], bool]
    storage_healthy: Callable[[], bool]
    audit_lines_lost: Callable[[], int]
    backups: Backups | None = None
    feed: Callable[[], FeedNumbers | None] = lambda: None


@attrs.frozen
class Snapshot:
    """What the metrics say, read at one moment.

    Attributes:
        counters: totals, as they are now.
        stores: the actors.
        peers: the WebSockets.
        engine: name of the storage engine.
        storage_healthy: whether the database can be written and read, and answers.
        transaction_age_s: for how long the transaction under way has lasted.
        log_lines_lost: lines of the log that were lost.
        audit_lines_lost: lines of the audit log that were lost.
        draining: whether the server is shutting down.
        tasks: Trio's tasks.
        backups: the scheduled ones; None: there are none.
        feed: the change feed; None where there is none.
    """

    counters: Counters
    stores: RegistryStatistics
    peers: PeersStatistics
    engine: str
    storage_healthy: bool
    transaction_age_s: float
    log_lines_lost: int
    audit_lines_lost: int
    draining: bool
    tasks: int
    backups: Backups | None
    feed: FeedNumbers | None = None

    @classmethod
    def of(cls, sources: Sources) -> "Snapshot":
        """Look at everything. Called in the Trio thread; costs microseconds for each connection and active store."""
        return cls(
            counters=sources.counters,
            stores=sources.registry.statistics(),
            peers=statistics(sources.peers),
            engine=sources.engine,
            storage_healthy=sources.storage_healthy(),
            transaction_age_s=sources.registry.writer.turn_age_s,
            log_lines_lost=log_lines_lost(),
            audit_lines_lost=sources.audit_lines_lost(),
            draining=sources.draining(),
            tasks=trio.lowlevel.current_statistics().tasks_living,
            backups=sources.backups,
            feed=sources.feed(),
        )
