"""Connections of the PostgreSQL engine: how each is set up, how long it is waited for, and what its errors mean.

Owns the settings of a connection, the pause between two attempts, and the translation of errors; nothing above sees a
`psycopg.Error`. Every statement is a transaction of its own and leaves nothing behind in its session, so that a pooler
in transaction mode may stand in between.
"""

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict

from livesync_trio import limits
from livesync_trio.errors import LivesyncError, StorageFull, StorageUnavailable, StoreDamaged
from livesync_trio.storage.postgresql.arrays import ADAPTERS

RV = TypeVar("RV")

_POLL_S: Final = 1.0
"""How often a wait looks up for signals; psycopg's own 0.1 s are meant for its main-thread users."""

DEFAULTS: Final[Mapping[str, Any]] = {
    "application_name": "livesync",
    "client_encoding": "UTF8",
    "connect_timeout": limits.POSTGRES_CONNECT_LIMIT_S,
    "keepalives": 1,
    "keepalives_idle": limits.POSTGRES_KEEPALIVE_IDLE_S,
    "keepalives_interval": limits.POSTGRES_KEEPALIVE_INTERVAL_S,
    "keepalives_count": limits.POSTGRES_KEEPALIVE_PROBES,
    "tcp_user_timeout": limits.POSTGRES_UNSENT_LIMIT_MS,
}
"""Parameters that hold unless the URL says otherwise."""


_ISOLATION: Final = """
    SELECT set_config('default_transaction_isolation', 'read committed', false)
    WHERE current_setting('default_transaction_isolation') <> 'read committed'
"""
"""Who waited for a row must see what is there by then. Under a stricter default, which a role or a database may have,
a lost race would be an error instead of an answer."""
_ASKED_AGAIN: Final = 4
"""How often a statement that met such an error is asked again: behind a pooler a session may be another one."""


def _may_exist(host: str) -> bool:
    """Whether a host may be found some day; a name that is not known yet may come, as those of containers do."""
    if not host or host[0] in "/@" or ":" in host:  # a socket's directory, or an IPv6 address
        return True
    labels = host.removesuffix(".").split(".")
    return labels[-1].lower() != "invalid" and all(re.fullmatch(r"[A-Za-z0-9_-]{1,63}", label) for label in labels)


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection on which no answer is awaited for ever."""

    answer_limit_s: float = limits.POSTGRES_ANSWER_LIMIT_S

    def wait(self, gen: PQGen[RV], interval: float = _POLL_S, timeout: float | None = None) -> RV:
        """Wait for the database; psycopg passes here whatever it is asked to do.

        Raises:
            psycopg.OperationalError: no answer in time. What was asked may still be carried out.
        """
        return super().wait(gen, interval, self.answer_limit_s if timeout is None else timeout)


class Connector:
    """Opens connections to one database. Used by any thread."""

    def __init__(self, url: str) -> None:
        """Nothing is opened yet.

        Raises:
            ValueError: libpq does not understand the URL. The message never repeats it, for it may hold a password.
        """
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error as error:
            raise ValueError(_advice_on_url(str(error))) from None
        if not re.fullmatch(r"[0-9,]*", str(given.get("port", ""))) or "@" in str(given.get("dbname", "")):
            raise ValueError(_UNESCAPED)  # a password with a slash is read as port and database
        if not all(map(_may_exist, str(given.get("host", "")).split(","))):
            raise ValueError("no computer can have the name that stands there as the host")
        self._parameters: dict[str, Any] = {**DEFAULTS, **given}
        self._pause_s = 0.0
        self._not_before_s = 0.0
        self._reason = ""
        self.knocks = 0
        """Attempts to connect, in all."""

    @property
    def place(self) -> str:
        """Where the database is, without secrets."""
        known = self._parameters
        user = f"{known['user']}@" if known.get("user") else ""
        hosts = str(known.get("host") or known.get("hostaddr") or "").split(",")
        ports = str(known.get("port") or "").split(",")
        ports = ports * len(hosts) if len(ports) == 1 else ports
        where = ",".join(f"{host}:{port}" if port else host for host, port in zip(hosts, ports, strict=False))
        return f"postgresql://{user}{where}/{known.get('dbname') or known.get('user') or ''}"

    def connect(self) -> Connection:
        """A connection in autocommit mode, that prepares no statements.

        Raises:
            StorageUnavailable: it cannot be reached now, or an attempt failed only a moment ago.
        """
        if time.monotonic() < self._not_before_s:
            raise StorageUnavailable(self._reason)
        self.knocks += 1
        try:
            connection = Connection.connect(
                **self._parameters, autocommit=True, prepare_threshold=None, context=ADAPTERS
            )
            try:
                connection.execute(_ISOLATION)
            except BaseException:
                connection.close()
                raise
        except psycopg.Error as error:
            self._pause_s = min(max(2 * self._pause_s, limits.POSTGRES_BACKOFF_FIRST_S), limits.POSTGRES_BACKOFF_MAX_S)
            self._not_before_s = time.monotonic() + self._pause_s
            self._reason = f"{self.place} cannot be reached: {_one_line(error)}"
            raise StorageUnavailable(self._reason) from error
        self._pause_s = self._not_before_s = 0.0
        return connection


class Session:
    """One connection, opened when it is first needed and again after it failed. Used by one thread at a time."""

    def __init__(self, connector: Connector) -> None:
        self.connector = connector
        self._connection: Connection | None = None

    def ask(self, statement: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """Carry out one statement as a transaction of its own; gives its rows.

        Raises:
            StorageUnavailable: no connection; the statement was not sent.
            psycopg.Error: see `translated`. After those that mean trouble the next statement has a new connection.
        """
        for _ in range(_ASKED_AGAIN):
            try:
                return self._carried_out(statement, parameters).fetchall()
            except psycopg.errors.SerializationFailure:
                pass  # it had no effect; with a new snapshot it is decided by what is there now
        return self._carried_out(statement, parameters).fetchall()

    def do(self, statement: str) -> None:
        """Carry out one statement that gives no rows. Raises as `ask`."""
        self._carried_out(statement, ())

    def _carried_out(
        self, statement: str, parameters: Sequence[object] | Mapping[str, object]
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        connection = self.connection()
        try:
            return connection.execute(statement, parameters, binary=True)
        except psycopg.Error as error:
            if connection.broken or connection.closed or isinstance(translated(error), StorageUnavailable | None):
                self.close()
            raise

    def connection(self) -> Connection:
        """The connection itself, for what is not one statement."""
        if self._connection is None:
            self._connection = self.connector.connect()
        return self._connection

    def close(self) -> None:
        """Give the connection up; whatever was under way is rolled back, or has happened."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class SnapshotSession(Session):
    """A session that is one read-only transaction: everything it is asked, it answers as of its first question."""

    def __init__(self, connector: Connector) -> None:
        super().__init__(connector)
        self._begun = False

    def connection(self) -> Connection:
        """The connection; a second one would show another moment."""
        if self._connection is None and self._begun:
            raise StorageUnavailable("The connection on which a snapshot was read is lost: begin again.")
        connection = super().connection()
        if not self._begun:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            self._begun = True
        return connection


# --- what errors mean ------------------------------------------------------------------------------------------------

_DISK_FULL: Final = "53100"
_DAMAGED: Final = frozenset({"XX001", "XX002"})
_PASSING: Final = frozenset({"08", "25", "40", "42", "53", "55", "57", "58", "XX", "3D", "3F", "28", "26", "0A"})
"""Classes of SQLSTATE that say nothing about what was asked, but much about the database: connection, read-only,
deadlock, missing tables or rights, no resources, locks, shutdown, its disk (postgresql.org, appendix A)."""
_CUT: Final = frozenset({"08", "57"})
"""Of these, the classes after which an outcome is not known."""


_APPEND_IDS: Final = "livesync_7_append_ids"
"""The table that gives an id to one event only."""


def translated(error: psycopg.Error) -> LivesyncError | ValueError | None:
    """What an error of PostgreSQL means for the caller of the engine.

    Returns:
        `StorageFull`, `StorageUnavailable`, `StoreDamaged`, or ValueError for a value that cannot be stored; None when
        it is none of these but a fault of ours.
    """
    code = error.sqlstate or ""
    if code == _DISK_FULL:
        return StorageFull(f"The database has no room left ({_one_line(error)}): free some space; nothing was lost.")
    if isinstance(error, psycopg.errors.UniqueViolation) and error.diag.table_name == _APPEND_IDS:
        return ValueError(f"the log has an event of one of these ids already ({error.diag.message_detail})")
    if code in _DAMAGED or isinstance(error, psycopg.IntegrityError):
        return StoreDamaged(f"A store is damaged ({_one_line(error)}): restore a backup, or reset the store.")
    if isinstance(error, psycopg.DataError):
        return ValueError(_one_line(error))
    if not code or code[:2] in _PASSING:
        return StorageUnavailable(f"The database cannot be used now: {_one_line(error)}")
    return None


def is_unclear(error: psycopg.Error) -> bool:
    """Whether a statement that failed so may have been carried out all the same.

    No answer came, or the session was ended from outside; what the database itself refused did not happen.
    """
    return not error.sqlstate or error.sqlstate[:2] in _CUT


_UNESCAPED: Final = "PostgreSQL's client library cannot read it; write special characters of the password as %xx"


def _one_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _advice_on_url(message: str) -> str:
    """A parser's message may repeat parts of the password; only the name of an unknown parameter is passed on."""
    unknown = re.search(r'invalid (?:URI query parameter|connection option)[: ]+"([a-z_]+)"', message)
    if unknown:
        return f"PostgreSQL's client library knows no parameter {unknown[1]}"
    return _UNESCAPED
