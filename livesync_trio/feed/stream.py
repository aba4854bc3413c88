"""The replication connection: COPY BOTH in psycopg's own libpq, one message after the other.

Used by one thread. What is received is counted here, and what may be confirmed is told to the source by `tell`, which
must be called more often than the source's `wal_sender_timeout`, whatever else happens.
"""

import select
import struct
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import psycopg
from psycopg import pq

from livesync_trio.feed.limits import FEED_LOOK_UP_S
from livesync_trio.feed.pgoutput import EPOCH_US
from livesync_trio.feed.position import lsn_text, parse_lsn
from livesync_trio.feed.source import Names, parameters_of

_DATA: Final = struct.Struct("!QQq")
_KEEPALIVE: Final = struct.Struct("!QqB")
_STATUS: Final = struct.Struct("!cQQQqB")
_KEEPALIVE_KIND: Final = ord("k")


class StreamEnded(Exception):
    """The source has ended the stream; the message says why, `sqlstate` as PostgreSQL counts reasons."""

    def __init__(self, message: str, sqlstate: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class Stopped(Exception):
    """Nobody wants to read any more."""


class System(NamedTuple):
    """Which cluster it is, its timeline, and how far its log goes."""

    identity: str
    timeline: int
    lsn: int


class Received(NamedTuple):
    """What came: the bytes of a message; or None, and the source has nothing more up to `lsn`."""

    lsn: int
    data: bytes | None


class LogStream(Protocol):
    """A log that is read: by a `ReplicationStream`, or a `polling.PollingStream`."""

    def identify(self) -> System:
        """Which cluster this is."""

    def create_slot(self) -> tuple[int, str]:
        """Make the slot. Gives where the log will begin, and a snapshot of everything before, until `start`."""

    def start(self, lsn: int) -> None:
        """Begin behind `lsn`."""

    def receive(self, limit_s: float) -> Received | None:
        """The next message; None when none came in time."""

    @property
    def asked(self) -> bool:
        """Whether the source wants to be told at once."""

    def tell(self, confirmed_lsn: int) -> None:
        """Up to where the source may forget its log."""

    def close(self) -> None:
        """End the connection. Never raises."""


class ReplicationStream:
    """One connection to the source that streams."""

    def __init__(self, names: Names, stopping: Callable[[], bool]) -> None:
        """Connect. `stopping`: whether to give up. Raises psycopg.Error."""
        self._names = names
        self._connection = psycopg.connect(**{**parameters_of(names.url), "replication": "database"}, autocommit=True)
        self._pg = self._connection.pgconn
        self._stopping = stopping
        self._received_lsn = 0
        self._asked = False

    def identify(self) -> System:
        """Which cluster this is. Raises StreamEnded, Stopped."""
        identity, timeline, lsn, _ = self._command("IDENTIFY_SYSTEM")
        return System(identity, int(timeline), parse_lsn(lsn))

    def create_slot(self) -> tuple[int, str]:
        """Make the slot; waits for transactions that run already.

        Returns:
            Where the stream will begin, and the name of a snapshot of everything before. That holds until the next
            command of this connection.

        Raises:
            StreamEnded, Stopped.
        """
        _, lsn, snapshot, _ = self._command(slot_command(self._names.slot, self._connection.info.server_version))
        return parse_lsn(lsn), snapshot

    def start(self, lsn: int) -> None:
        """Begin to stream behind `lsn`. Raises StreamEnded, also when somebody else reads the slot."""
        options = f"proto_version '1', publication_names '\"{self._names.publication}\"'"
        if self._connection.info.server_version >= 140_000:
            options += ", messages 'true'"
        result = self._result(f'START_REPLICATION SLOT "{self._names.slot}" LOGICAL {lsn_text(lsn)} ({options})')
        if result.status != pq.ExecStatus.COPY_BOTH:
            raise _ended(result)
        self._pg.nonblocking = 1

    def receive(self, limit_s: float) -> Received | None:
        """The next message; None when none came in time. Raises StreamEnded."""
        size, data = self._pg.get_copy_data(1)
        if size == 0:
            if not select.select([self._pg.socket], [], [], limit_s)[0]:
                return None
            self._pg.consume_input()
            size, data = self._pg.get_copy_data(1)
        if size == 0:
            return None
        if size < 0:
            raise _ended(self._pg.get_result())
        kind, body = data[0], bytes(data[1:])
        if kind == _KEEPALIVE_KIND:
            lsn, _, wants_answer = _KEEPALIVE.unpack_from(body)
            self._received_lsn = max(self._received_lsn, lsn)
            self._asked = self._asked or bool(wants_answer)
            return Received(lsn, None)
        start, end, _ = _DATA.unpack_from(body)
        self._received_lsn = max(self._received_lsn, start, end)
        return Received(start, body[_DATA.size :])

    @property
    def asked(self) -> bool:
        """Whether the source wants to be told at once."""
        return self._asked

    def tell(self, confirmed_lsn: int) -> None:
        """Tell the source that we live, and up to where it may forget its log. Raises StreamEnded."""
        self._asked = False
        now_us = time.time_ns() // 1000 - EPOCH_US
        self._pg.put_copy_data(
            _STATUS.pack(b"r", max(self._received_lsn, confirmed_lsn), confirmed_lsn, confirmed_lsn, now_us, False)
        )
        while self._pg.flush():
            readable, _, _ = select.select([self._pg.socket], [self._pg.socket], [], FEED_LOOK_UP_S)
            if readable:
                self._pg.consume_input()
            if self._stopping():
                raise Stopped

    def close(self) -> None:
        """End the connection. Never raises."""
        self._connection.close()

    def _command(self, text: str) -> list[str]:
        """Carry out a command that gives one row."""
        result = self._result(text)
        if result.status != pq.ExecStatus.TUPLES_OK or result.ntuples != 1:
            raise _ended(result)
        row = [(result.get_value(0, at) or b"").decode() for at in range(result.nfields)]
        while self._pg.get_result() is not None:
            pass
        return row

    def _result(self, text: str) -> pq.abc.PGresult:
        self._pg.send_query(text.encode())
        while self._pg.is_busy():
            if select.select([self._pg.socket], [], [], FEED_LOOK_UP_S)[0]:
                self._pg.consume_input()
            if self._stopping():
                raise Stopped
        result = self._pg.get_result()
        if result is None:
            raise StreamEnded("The source closed the connection.")
        return result


def slot_command(name: str, version: int) -> str:
    """What makes a slot, in the words of a version of PostgreSQL (150004 for 15.4).

    From 17 on the slot is one that a standby may take over; before, a standby that is promoted has none, and all rows
    are compared.
    """
    how = "EXPORT_SNAPSHOT"
    if version >= 150_000:
        how = "(SNAPSHOT 'export', FAILOVER)" if version >= 170_000 else "(SNAPSHOT 'export')"
    return f'CREATE_REPLICATION_SLOT "{name}" LOGICAL pgoutput {how}'


def _ended(result: pq.abc.PGresult | None) -> StreamEnded:
    if result is None:
        return StreamEnded("The source closed the connection.")
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    message = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"the stream has ended").decode()
    return StreamEnded(message, state)
