"""The one who reads the source: a thread of its own, from the search for the lock to the last confirmation.

It looks for the lock of the feed; whoever holds it reads, the others serve. It receives and tells the source that it
lives; a second thread stores, so that a database of ours that is busy for minutes costs no connection to the source.
Whatever goes wrong ends the session, is told once, and a new session begins after a pause: everything that was not
stored is sent again, and what was stored is skipped.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

import attrs
import msgspec
import psycopg

from livesync_trio.errors import LivesyncError
from livesync_trio.feed.copying import copy_all
from livesync_trio.feed.history.databases import Database
from livesync_trio.feed.history.state import Source, State, TableState
from livesync_trio.feed.history.writing import Superseded, Writer
from livesync_trio.feed.limits import FEED_CHECK_S, FEED_LOOK_UP_S
from livesync_trio.feed.pgoutput import BadMessage
from livesync_trio.feed.recording import MustReadAgain, Recorder
from livesync_trio.feed.source import (
    Names,
    Slot,
    SourceProblem,
    connect,
    drop_slot,
    inspect,
    mark_of,
    publish,
    sender_timeout_of,
    slot_of,
    unread,
)
from livesync_trio.feed.storing import Retention, Storing
from livesync_trio.feed.stream import LogStream, ReplicationStream, Stopped, StreamEnded
from livesync_trio.storage.postgresql.connection import Connection
from livesync_trio.telemetry import get_logger

FEED_TELL_S: Final = 10.0
"""How often the source is told that the reader lives; `wal_sender_timeout` is 60 s unless set."""

FEED_PAUSE_FIRST_S: Final = 0.5
FEED_PAUSE_MAX_S: Final = 15.0
"""Pauses between two attempts to follow a source that cannot be followed."""

FEED_LOOK_S: Final = 1.0
"""How often a server that does not read looks whether nobody does any more."""

_log = get_logger("feed")


@attrs.frozen
class Status:
    """What the reader does.

    Attributes:
        phase: `starting`, `standby` (another server reads), `copying`, `following`, `failing`, `stopped`.
        problem: what is wrong, for the operator; empty when nothing is.
        copied: rows that were read so far, while copying.
        slot: what the source last said of the slot.
        told_s: `time.monotonic` when the source was last told that something may be forgotten; None before.
    """

    phase: str = "starting"
    problem: str = ""
    copied: int = 0
    slot: Slot | None = None
    told_s: float | None = None


def open_stream(names: Names, stopping: Callable[[], bool]) -> LogStream:
    """Connect to the log in the way that is wanted. Raises psycopg.Error."""
    if names.polling:
        from livesync_trio.feed.polling import PollingStream  # noqa: PLC0415 - only when it is on

        return PollingStream(names, stopping)
    return ReplicationStream(names, stopping)


class _StandBy(Exception):
    """Another server reads."""


class FeedReader:
    """Reads the source into the history. Started once; the callbacks are called in its threads."""

    def __init__(
        self,
        names: Names,
        database: Database,
        retention: Retention,
        *,
        on_state: Callable[[State], None],
        on_status: Callable[[Status], None],
    ) -> None:
        """Nothing is started yet.

        Args:
            names: what is read.
            database: where it is kept; open.
            retention: for how long.
            on_state: told whenever the history has grown.
            on_status: told what the reader does, whenever that changes.
        """
        self._names = names
        self._database = database
        self._retention = retention
        self._on_state = on_state
        self._on_status = on_status
        self._status = Status()
        self._stop = threading.Event()
        self._again = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="livesync feed reader", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; returns at once."""
        self._stop.set()

    def join(self, limit_s: float) -> bool:
        """Wait for its end. Gives whether that came."""
        if self._thread is not None:
            self._thread.join(limit_s)
        return self._thread is None or not self._thread.is_alive()

    def read_again(self) -> None:
        """Have all rows compared with the source, soon."""
        self._again.set()

    # --- sessions --------------------------------------------------------------------------------------------------

    def _tell(self, **changes: object) -> None:
        status = attrs.evolve(self._status, **changes)  # type: ignore[arg-type]
        if status != self._status:
            self._status = status
            self._on_status(status)

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stop.is_set():
            began_s = time.monotonic()
            try:
                self._session()
            except Stopped:
                break
            except _StandBy:
                self._tell(phase="standby", problem="")
                pause_s = 0.0
                self._stop.wait(FEED_LOOK_S)
                continue
            except (MustReadAgain, BadMessage) as error:
                _log.warning("the feed cannot go on as it is", reason=str(error))
                self._again.set()
            except Superseded:
                _log.warning("another server reads the source now")
            except Exception as error:
                pause_s = self._failed(error, 0.0 if time.monotonic() - began_s > FEED_PAUSE_MAX_S else pause_s)
            self._stop.wait(pause_s)
        self._tell(phase="stopped", problem="")

    def _failed(self, error: Exception, pause_s: float) -> float:
        """Tell it once; gives how long to wait."""
        known = isinstance(error, SourceProblem | StreamEnded | LivesyncError | psycopg.Error | OSError)
        problem = " ".join(str(error).split()) if known else f"{type(error).__name__}: {error}"
        if self._status.problem != problem:
            _log.error("the feed cannot follow its source", reason=problem, exc_info=None if known else error)
        self._tell(phase="failing", problem=problem)
        return min(max(2 * pause_s, FEED_PAUSE_FIRST_S), FEED_PAUSE_MAX_S)

    def _session(self) -> None:
        writer = Writer(self._database)
        connection = connect(self._names.url)
        stream = None
        try:
            if connection.execute("SELECT pg_try_advisory_lock(%s)", (self._names.lock,)).fetchall() != [(True,)]:
                raise _StandBy
            self._spare(connection)
            state = writer.take_over()
            tables = inspect(connection, self._names.tables)
            published = publish(connection, self._names, tables)
            stream = open_stream(self._names, self._stop.is_set)
            system = stream.identify()
            slot = slot_of(connection, self._names.slot)
            source = Source(system.identity, system.timeline, self._names.slot, mark_of(connection, self._names))
            reason = "its publication has changed" if published and state.filled else ""
            if not reason and slot is not None and system.lsn < state.confirmed_lsn:
                reason = "it is older than it was: it was restored"
            reason = reason or self._why_anew(connection, state, tables, source, slot)
            if reason:
                _log.warning("all rows of the source are read", reason=reason, tables=len(tables))
                state = self._copy(writer, connection, stream, tables, source)
            self._on_state(state)
            self._follow(writer, connection, stream)
        finally:
            writer.rollback()
            writer.close()
            if stream is not None:
                stream.close()
            connection.close()

    def _why_anew(
        self, connection: Connection, state: State, tables: dict[str, TableState], source: Source, slot: Slot | None
    ) -> str:
        """Why the rows must be read again; empty when the log can be followed from where the history ends."""
        if not state.filled:
            return "it was never read"
        if self._again.is_set():
            return "that was asked for"
        if state.source != source:
            known = state.source
            if known is not None and msgspec.structs.replace(known, publication=source.publication) == source:
                return "its publication was changed by somebody"
            return "it is another database, or it has another history"
        if slot is None or not slot.usable:
            return "its replication slot was lost"
        if slot.confirmed_lsn > state.confirmed_lsn:
            return "its replication slot was made anew by somebody"
        if state.tables.keys() != tables.keys():
            return "the tables to follow have changed"
        for table, now in tables.items():
            before = state.tables[table]
            if (before.oid, before.key) != (now.oid, now.key):
                return f"{table} was made anew, or has another key"
            reason = unread(connection, now.oid, before.columns, now.columns) if before.columns != now.columns else None
            if reason is not None:
                return f"{table}: {reason}"
        return ""

    def _spare(self, connection: Connection) -> None:
        """Give the slot up before the source has no room for its log any more, even while nothing can be stored."""
        slot = slot_of(connection, self._names.slot)
        if slot is not None and self._is_too_much(slot):
            drop_slot(connection, self._names.slot)
            _log.error(
                "the feed gave its slot up to spare the source",
                retained_bytes=slot.retained_bytes,
                max_lag_bytes=self._retention.max_lag_bytes,
            )

    def _is_too_much(self, slot: Slot) -> bool:
        return 0 < self._retention.max_lag_bytes < slot.retained_bytes

    def _copy(
        self,
        writer: Writer,
        connection: Connection,
        stream: LogStream,
        tables: dict[str, TableState],
        source: Source,
    ) -> State:
        self._tell(phase="copying", problem="", copied=0)
        before = writer.state.epoch
        drop_slot(connection, self._names.slot)
        slot_lsn, snapshot = stream.create_slot()
        done: dict[str, int] = {}

        def progress(table: str, count: int) -> None:
            if self._stop.is_set():
                raise Stopped
            done[table] = count
            self._tell(copied=sum(done.values()))

        state = copy_all(
            writer,
            self._names,
            tables,
            source=source,
            slot_lsn=slot_lsn,
            snapshot=snapshot,
            committed_us=time.time_ns() // 1000,
            progress=progress,
        )
        self._again.clear()
        _log.info(
            "all rows of the source were read",
            rows=sum(done.values()),
            epoch=state.epoch,
            clients="fetch anew" if before and before != state.epoch else "go on",
        )
        return state

    # --- following -------------------------------------------------------------------------------------------------

    def _follow(self, writer: Writer, connection: Connection, stream: LogStream) -> None:
        lock = threading.Lock()  # of the connection, which both threads ask

        def explain(oid: int, before: object, now: object) -> str | None:
            with lock:
                return unread(connection, oid, before, now)  # type: ignore[arg-type]

        try:
            stream.start(writer.state.confirmed_lsn)
        except StreamEnded as error:
            if error.sqlstate == "55006":  # somebody still reads it
                raise _StandBy from error
            raise
        self._tell(phase="following", problem="", slot=slot_of(connection, self._names.slot))
        storing = Storing(writer, Recorder(writer, explain), self._retention, self._on_state)
        storing.start()
        told_lsn, told_s, checked_s = 0, 0.0, time.monotonic()
        tell_s = min(FEED_TELL_S, sender_timeout_of(connection) / 3)
        try:
            while not self._stop.is_set():
                if storing.error is not None:
                    raise storing.error
                if storing.has_room():
                    received = stream.receive(FEED_LOOK_UP_S)
                    if received is not None:
                        storing.put(received)
                now_s, confirmed_lsn = time.monotonic(), storing.confirmed_lsn
                moved = confirmed_lsn != told_lsn and now_s - told_s > FEED_LOOK_UP_S
                if stream.asked or moved or now_s - told_s > tell_s:
                    stream.tell(confirmed_lsn)
                    told_lsn, told_s = confirmed_lsn, now_s
                    self._tell(told_s=now_s)
                if self._again.is_set() or now_s - checked_s > FEED_CHECK_S:
                    checked_s = now_s
                    with lock:
                        self._check(connection, storing.tables, writer.state.source)
        finally:
            storing.stop()
        stream.tell(storing.confirmed_lsn)

    def _check(self, connection: Connection, known: dict[str, TableState], source: Source | None) -> None:
        """Notice what the log does not tell. Raises MustReadAgain, SourceProblem."""
        if self._again.is_set():
            raise MustReadAgain("that was asked for")
        slot = slot_of(connection, self._names.slot)
        tables = inspect(connection, self._names.tables)
        if slot is None or publish(connection, self._names, tables):
            raise MustReadAgain("the slot or the publication was changed by somebody")
        if source is not None and source.publication != mark_of(connection, self._names):
            raise MustReadAgain("the publication was changed by somebody, and changed back")
        if self._is_too_much(slot):
            raise MustReadAgain("it is further behind than max_lag_bytes allows")
        for table, now in tables.items():
            before = known[table]
            if (
                before.oid != now.oid
                or before.key != now.key
                or (before.columns != now.columns and unread(connection, now.oid, before.columns, now.columns))
            ):
                raise MustReadAgain(f"{table} has changed")
        self._tell(slot=slot)
