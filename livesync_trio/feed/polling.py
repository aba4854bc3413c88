"""Reading the log with SQL functions, where no replication connection is allowed: same messages, same decoder.

What there is, is looked at (*peek*), stored, and only then let go of (*advance*), so that a crash repeats nothing that
is stored. It costs more than a stream: a look at the log begins where it was let go of, each time, and nothing comes
before somebody looks.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from psycopg import sql

from livesync_trio.feed.pgoutput import Begin, Committed, decode
from livesync_trio.feed.position import lsn_text, parse_lsn
from livesync_trio.feed.source import Names, connect, leave_mark
from livesync_trio.feed.stream import Received, Stopped, StreamEnded, System
from livesync_trio.storage.postgresql.connection import Connection

FEED_POLL_S: Final = 0.2
"""Pause between two looks that found nothing."""

FEED_POLL_CHANGES: Final = 10_000
"""Messages after which a look ends with the transaction that it is in."""

FEED_POLL_FETCH: Final = 100
"""Messages that are held in memory here, of whatever size; the source keeps the others of a look."""

FEED_SNAPSHOT_TRIES: Final = 100
"""How often a moment is looked for that lies between two commits."""

_BEGIN_KIND, _COMMIT_KIND = b"B"[0], b"C"[0]
_PEEK: Final = sql.SQL("SELECT lsn::text, data FROM pg_logical_slot_peek_binary_changes({}, NULL, {}, VARIADIC {})")


class Snapshot(NamedTuple):
    """Which transactions a snapshot of PostgreSQL sees, as `pg_current_snapshot` says it."""

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def of(cls, text: str) -> "Snapshot":
        """Read `xmin:xmax:running,running`."""
        xmin, xmax, running = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(map(int, filter(None, running.split(",")))))

    def sees(self, xid: int) -> bool:
        """Whether it sees a transaction that has committed; of `xid` the log has the lower 32 bits only."""
        distance = (xid - self.xmax + 2**31) % 2**32 - 2**31
        whole = self.xmax + distance
        return whole < self.xmin or (whole < self.xmax and whole not in self.running)


class PollingStream:
    """As `stream.ReplicationStream`, by SQL. Used by one thread."""

    def __init__(self, names: Names, stopping: Callable[[], bool]) -> None:
        """Connect. `stopping`: whether to give up. Raises psycopg.Error."""
        self._names = names
        self._stopping = stopping
        self._connection: Connection = connect(names.url)
        self._options = ["proto_version", "1", "publication_names", f'"{names.publication}"']
        if self._connection.info.server_version >= 140_000:
            self._options += ["messages", "true"]
        self._coming: Iterator[Received] = iter(())
        self._seen_lsn = 0  # the last commit that was given
        self._advanced_lsn = 0
        self._next_look_s = 0.0

    def identify(self) -> System:
        """Which cluster this is. Raises psycopg.Error."""
        [(identity, timeline, lsn)] = self._connection.execute(
            "SELECT system_identifier::text, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), "
            "pg_current_wal_lsn()::text FROM pg_control_system()"
        ).fetchall()
        return System(identity, int(timeline, 16), parse_lsn(lsn))

    def create_slot(self) -> tuple[int, str]:
        """Make the slot, and find a moment between two commits.

        A slot that is made by SQL comes without a snapshot. So one is taken behind it, and the log says which commits
        lie between the two. When those that the snapshot sees came before all that it does not see, it is the state
        behind the last of them; else another one is taken.

        Returns:
            Where the stream will begin, and the name of a snapshot of everything before. That holds until `start`.

        Raises:
            psycopg.Error, StreamEnded, Stopped.
        """
        name = self._names.slot
        with connect(self._names.url) as other:
            failover = ", false, false, true" if other.info.server_version >= 170_000 else ""
            statement = f"SELECT lsn::text FROM pg_create_logical_replication_slot(%s, 'pgoutput'{failover})"  # noqa: S608
            [(text,)] = other.execute(statement.encode(), (name,)).fetchall()
            other.execute("SET synchronous_commit = on")  # so that what the mark is behind can be read
            for _ in range(FEED_SNAPSHOT_TRIES):
                if self._stopping():
                    raise Stopped
                self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                [(snapshot, visible)] = self._connection.execute(
                    "SELECT pg_export_snapshot(), pg_current_snapshot()::text"
                ).fetchall()
                leave_mark(other)  # behind everything that the snapshot sees
                begins = sql.SQL("{} WHERE get_byte(data, 0) = {}").format(self._peek(None), _BEGIN_KIND)
                begun = [_begin(data) for _, data in other.execute(begins, binary=True)]
                seen = [Snapshot.of(visible).sees(begin.xid) for begin in begun]
                count = sum(seen)
                if all(seen[:count]):
                    # Between two records, which begin at multiples of eight.
                    return (begun[count - 1].commit_lsn + 2 if count else parse_lsn(text)), snapshot
                self._connection.execute("ROLLBACK")
        raise StreamEnded("The source commits too much to be copied by polling: allow a replication connection.")

    def start(self, lsn: int) -> None:
        """Begin behind `lsn`. Raises psycopg.Error."""
        self._connection.execute("ROLLBACK")  # of the snapshot
        self.tell(lsn)

    def receive(self, limit_s: float) -> Received | None:
        """The next message; None when none came in time. Raises psycopg.Error."""
        received = next(self._coming, None)
        if received is not None:
            return received
        wait_s = self._next_look_s - time.monotonic()
        if wait_s > 0:
            time.sleep(min(wait_s, limit_s))
        if time.monotonic() < self._next_look_s:
            return None
        self._coming = self._look()
        return next(self._coming, None)

    asked = False
    """Nobody waits for an answer."""

    def tell(self, confirmed_lsn: int) -> None:
        """Let the source forget its log up to here. Raises psycopg.Error."""
        if confirmed_lsn > self._advanced_lsn:
            self._connection.execute(
                "SELECT pg_replication_slot_advance(slot_name, least(%s::pg_lsn, pg_current_wal_flush_lsn())) "
                "FROM pg_replication_slots WHERE slot_name = %s AND confirmed_flush_lsn < %s::pg_lsn",
                (lsn_text(confirmed_lsn), self._names.slot, lsn_text(confirmed_lsn)),
            )
            self._advanced_lsn = confirmed_lsn

    def close(self) -> None:
        """End the connection. Never raises."""
        self._connection.close()

    def _look(self) -> Iterator[Received]:
        """What there is that was not given yet; at last that there is nothing more."""
        [(text,)] = self._connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchall()
        known, count, given = False, 0, False
        self._connection.execute("BEGIN")
        try:
            self._connection.execute(
                sql.SQL("DECLARE livesync_look NO SCROLL CURSOR FOR {}").format(self._peek(FEED_POLL_CHANGES))
            )
            fetch = f"FETCH {FEED_POLL_FETCH} FROM livesync_look".encode()
            while rows := self._connection.execute(fetch, binary=True).fetchall():
                count += len(rows)
                for lsn, data in rows:
                    if data[0] == _BEGIN_KIND:
                        known = _begin(data).commit_lsn <= self._seen_lsn
                    if not known:
                        given = True
                        yield Received(parse_lsn(lsn), data)
                    if data[0] == _COMMIT_KIND and not known:
                        committed = decode(data)
                        assert isinstance(committed, Committed)
                        self._seen_lsn = committed.commit_lsn
        finally:
            if not self._connection.closed:
                self._connection.execute("ROLLBACK")
        is_all = count < FEED_POLL_CHANGES
        if is_all or not given:  # else what was given is not stored yet, and is seen again
            self._next_look_s = time.monotonic() + FEED_POLL_S
        if is_all:
            yield Received(parse_lsn(text), None)

    def _peek(self, limit: int | None) -> sql.Composed:
        return _PEEK.format(sql.Literal(self._names.slot), sql.Literal(limit), sql.Literal(self._options))


def _begin(data: bytes) -> Begin:
    message = decode(data)
    assert isinstance(message, Begin)
    return message


def may_use_slots(connection: Connection) -> bool:
    """Whether the role may use a replication slot at all."""
    rows = connection.execute(
        "SELECT 1 FROM pg_roles WHERE rolname = current_user AND (rolreplication OR rolsuper)"
    ).fetchall()
    return bool(rows)
