"""From the settings to a feed that runs: the one place that puts its parts together."""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import trio

from livesync_trio.config import FeedTable, is_postgresql, sqlite_path
from livesync_trio.connection.context import ServerContext
from livesync_trio.errors import Kind, StartupError, StorageUnavailable
from livesync_trio.feed.access import FeedAccess
from livesync_trio.feed.actor import FEED_PROBE_LATE_S, Feed
from livesync_trio.feed.clients import Clients
from livesync_trio.feed.filters import BadFilter
from livesync_trio.feed.history.databases import Database, PostgresDatabase, SqliteDatabase
from livesync_trio.feed.peer import MakeWriteSession, Served
from livesync_trio.feed.source import Names, parameters_of, split_name
from livesync_trio.feed.storing import Retention
from livesync_trio.hooks import HookRunner
from livesync_trio.metrics.snapshot import FeedNumbers
from livesync_trio.store.records import Records
from livesync_trio.supervision import open_tasks
from livesync_trio.telemetry import get_logger

if TYPE_CHECKING:
    from livesync_trio.feed.writes.source import SourceWriter

FEED_SWEEP_S: Final = 3_600.0
"""How often clients that were not seen for too long are forgotten."""

_log = get_logger("feed")

_FILE = ".feed.db"


def names_of(table: FeedTable) -> Names:
    """What the feed reads. Raises StartupError."""
    try:
        parameters_of(table.source.reveal())
        for name in table.tables:
            split_name(name)
    except ValueError as error:
        raise StartupError(Kind.BAD_CONFIG, f"[feed] cannot be used: {error}.") from error
    return Names(table.source.reveal(), table.publication, table.slot, table.tables, table.polling)


def history_of(database_url: str) -> Database:
    """Where its history is kept: beside the server's own logs. Raises StartupError."""
    if is_postgresql(database_url):
        return PostgresDatabase(database_url)
    if not database_url.startswith("sqlite:"):
        raise StartupError(
            Kind.BAD_CONFIG, "[feed] needs a database that keeps what it is given: SQLite or PostgreSQL."
        )
    path = sqlite_path(database_url).resolve()
    return SqliteDatabase(path.with_name(path.name.removesuffix(".db") + _FILE))


@attrs.define(eq=False)
class FeedService:
    """A feed, and what serves it. A reload of the configuration changes the rules.

    Attributes:
        feed: the actor.
        rules: who sees and writes what.
        clients: the registry.
        shared: what all connections share.
        table: the settings in force.
    """

    feed: Feed
    rules: FeedAccess
    clients: Clients
    shared: ServerContext
    table: FeedTable
    _writer: "SourceWriter | None" = None

    @property
    def served(self) -> Served:
        """What clients meet."""
        return Served(self.feed, self.clients, lambda: self.rules, self._write_session)

    def prepare(self, table: FeedTable | None) -> Callable[[], None]:
        """Look at other rules. Gives what puts them into effect, for clients that are here too. Raises StartupError."""
        table = self.table if table is None else table
        rules = rules_of(table, self.shared)

        def put_in_place() -> None:
            self.table, self.rules = table, rules
            for follower in tuple(self.feed.followers):
                follower.look_at_rights()

        return put_in_place

    def _write_session(self) -> MakeWriteSession | None:
        """Makes the write session of a client; None while nobody may write."""
        if not self.table.writes:
            return None
        from livesync_trio.feed.writes.session import WriteSession  # noqa: PLC0415 - only when it is on
        from livesync_trio.feed.writes.source import SourceWriter  # noqa: PLC0415

        if self._writer is None:
            self._writer = SourceWriter((self.table.writer or self.table.source).reveal())
        return partial(WriteSession, feed=self.feed, writer=self._writer)

    async def run(self) -> None:
        """Follow the source until cancelled. Raises what crashed."""
        async with open_tasks("feed") as tasks:
            tasks.start(self.feed.run)
            tasks.start(self.feed.probe)
            tasks.start(self._sweep)
        if self._writer is not None:
            self._writer.close()
        if tasks.crash is not None:
            raise tasks.crash

    async def _sweep(self) -> None:
        while True:
            try:
                count = await self.clients.forget_old()
            except StorageUnavailable as error:
                _log.warning("clients of the feed could not be forgotten", reason=str(error))
            else:
                if count:
                    _log.info("clients of the feed were forgotten", count=count)
            await trio.sleep(FEED_SWEEP_S)

    def described(self) -> dict[str, object]:
        """What /health says of it."""
        status, age_s = self.feed.status, self.feed.probe_age_s
        problem = status.problem
        if not problem and age_s is not None and age_s > FEED_PROBE_LATE_S:
            problem = f"what is committed in the source has not arrived here for {age_s:.0f} s"
        return {
            "phase": status.phase,
            "problem": problem,
            "lsn": str(self.feed.state.head),
            "probe_age_s": None if age_s is None else round(age_s, 1),
        }

    def measured(self) -> FeedNumbers:
        """What metrics say of it."""
        status, slot = self.feed.status, self.feed.status.slot
        reads = status.phase == "following" and status.told_s is not None
        return FeedNumbers(
            status.phase,
            None if slot is None else slot.retained_bytes,
            None if slot is None else slot.safe_bytes,
            time.monotonic() - (status.told_s or 0.0) if reads else None,
            self.feed.probe_age_s,
        )


def rules_of(table: FeedTable, shared: ServerContext | None) -> FeedAccess:
    """Who sees what; without shared only to look at the filters. Raises StartupError."""

    def hooks() -> HookRunner:
        assert shared is not None
        return shared.hooks

    try:
        return FeedAccess(
            table.tables,
            table.access,
            table.columns,
            hooks,
            writes=table.writes,
            write_columns=table.write_columns,
        )
    except BadFilter as error:
        raise StartupError(Kind.BAD_CONFIG, f"[feed.access] or [feed.writes] cannot be used: {error}.") from error


def open_feed(table: FeedTable, database_url: str, records: Records, shared: ServerContext) -> FeedService:
    """Put a feed together, and open its history. Nothing runs yet.

    Raises:
        StartupError: the settings or the database cannot be used.
        StorageUnavailable: the database cannot be reached now.
    """
    rules = rules_of(table, shared)
    names, database = names_of(table), history_of(database_url)
    database.open()
    retention = Retention(table.keep_hours * 3600, table.keep_bytes, table.max_lag_bytes, table.compact_hours * 3600)
    clients = Clients(records, table.client_hours * 3600)
    return FeedService(Feed(names, database, retention), rules, clients, shared, table)
