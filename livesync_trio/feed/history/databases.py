"""The tables of the history, the two kinds of databases they lie in, and what little those do differently.

SQLite: a file of its own beside the server's database, for a transaction of millions of rows must not keep the one
writer of the logs waiting (decision 0016). PostgreSQL: tables of their own in the server's database.
"""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

import psycopg

from livesync_trio.errors import Kind, LivesyncError, StartupError, StorageUnavailable
from livesync_trio.feed.limits import FEED_STATEMENT_LIMIT_S
from livesync_trio.feed.tables import text_of
from livesync_trio.limits import SQLITE_BUSY_TIMEOUT_MS
from livesync_trio.storage.postgresql import connection as postgresql
from livesync_trio.storage.postgresql.arrays import Bigints, OptionalTexts, Texts
from livesync_trio.storage.sqlite import connection as sqlite

FORMAT: Final = 1
COMPACTED_FORMAT: Final = 2
FORMATS: Final = (FORMAT, COMPACTED_FORMAT)
"""Numbers of the layout below: as it is made, and once changes were left out of it, which earlier versions must not
serve. Another number is refused."""

TABLES: Final = (
    """
    CREATE TABLE IF NOT EXISTS livesync_feed_state (
        id bigint PRIMARY KEY, format bigint NOT NULL, generation bigint NOT NULL, epoch text NOT NULL,
        source text NOT NULL, tables text NOT NULL, head_lsn bigint NOT NULL, confirmed_lsn bigint NOT NULL,
        floor_lsn bigint NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS livesync_feed_relations (
        version bigint PRIMARY KEY, name text NOT NULL, columns text NOT NULL, key text NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS livesync_feed_commits (
        commit_lsn bigint PRIMARY KEY, committed_us bigint NOT NULL, changes bigint NOT NULL, xid bigint NOT NULL,
        size_bytes bigint NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS livesync_feed_changes (
        commit_lsn bigint NOT NULL, seq bigint NOT NULL, relation bigint NOT NULL, operation text NOT NULL,
        key text NOT NULL, row text, old text, old_relation bigint, PRIMARY KEY (commit_lsn, seq)
    ) {without_rowid}
    """,
    """
    CREATE TABLE IF NOT EXISTS livesync_feed_rows (
        name text NOT NULL, key text {bytewise} NOT NULL, relation bigint NOT NULL, row text NOT NULL,
        changed_lsn bigint NOT NULL, PRIMARY KEY (name, key)
    ) {without_rowid}
    """,
    """
    CREATE TABLE IF NOT EXISTS livesync_feed_seen (
        name text NOT NULL, key text {bytewise} NOT NULL, PRIMARY KEY (name, key)
    ) {without_rowid}
    """,
    """
    CREATE TABLE IF NOT EXISTS livesync_feed_horizon (
        id bigint PRIMARY KEY, lsn bigint NOT NULL, done_lsn bigint NOT NULL, done_seq bigint NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS livesync_feed_last (
        name text NOT NULL, key text NOT NULL, commit_lsn bigint NOT NULL, seq bigint NOT NULL, PRIMARY KEY (name, key)
    ) {without_rowid}
    """,
    "CREATE INDEX IF NOT EXISTS livesync_feed_last_place ON livesync_feed_last (commit_lsn, seq)",
)
"""`rows` holds every row of the tables as of the head: it fills in what an UPDATE left unsaid, says how a row was
before, and is the initial state. `seen` is only ever filled inside of the transaction that compares with the source.
`horizon` and `last` are of `compacting`: how far it has come, and the last change of each key up to there."""

NAMES: Final = ("state", "relations", "commits", "changes", "rows", "seen", "horizon", "last")

Rows = list[tuple[Any, ...]]

_LOCK: Final = 0x6C697665_66656564
"""Number of the advisory lock under which the tables are made: "livefeed" in ASCII."""

_NUMBERS: Final = frozenset(
    {"commit_lsn", "committed_us", "changes", "xid", "size_bytes", "seq", "relation", "changed_lsn"}
)
_NUMBERS_OR_NULL: Final = frozenset({"old_relation"})
"""Columns that rows are inserted into by the many and that are `bigint`; the others are text."""


class Session(Protocol):
    """One connection: outside of a transaction each statement is one. Used by one thread at a time.

    Statements have `%s` where parameters go. Every method raises `StorageUnavailable`, `StorageFull` or `StoreDamaged`;
    after the first the connection is opened anew when it is next needed, and an open transaction is gone.
    """

    def ask(self, statement: str, parameters: Sequence[object] = ()) -> Rows:
        """Carry out a statement; gives its rows."""

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]], then: str = "") -> None:
        """Insert rows. `then`: what follows, such as ON CONFLICT."""

    def among(self, column: str, texts: Collection[str]) -> tuple[str, object]:
        """A condition that a column is one of these texts, and its parameter."""

    def begin(self) -> None:
        """Begin a transaction that writes."""

    def commit(self) -> None:
        """Make it durable. When this raises, it may be or not: look."""

    def rollback(self) -> None:
        """Give it up, if one is open. Never raises."""

    def close(self) -> None:
        """Give up the connection. Never raises."""


class Database(Protocol):
    """Where a history lies."""

    place: str
    """For the operator; without secrets."""
    bytewise: str
    """How a text is said to be ordered by its bytes."""

    def open(self) -> None:
        """Make the tables that are not there. Raises StartupError, StorageUnavailable."""

    def session(self) -> Session:
        """A session; connects when it is first asked."""


class SqliteDatabase:
    """A file beside the server's database."""

    bytewise = ""

    def __init__(self, path: Path) -> None:
        """Nothing is opened yet."""
        self.place = str(path)
        self._path = path

    def open(self) -> None:
        """See `Database`."""
        try:
            self._path.touch(mode=0o600)
        except OSError as error:
            raise StartupError(Kind.DATABASE_UNUSABLE, f"{self._path} cannot be made: {error.strerror}") from error
        session = self.session()
        try:
            session.ask("PRAGMA journal_mode = WAL")
            for table in TABLES:
                session.ask(table.format(without_rowid="WITHOUT ROWID", bytewise=self.bytewise))
        finally:
            session.close()

    def session(self) -> Session:
        """See `Database`."""
        return _SqliteSession(self._path)


class _SqliteSession:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def ask(self, statement: str, parameters: Sequence[object] = ()) -> Rows:
        with self._translating():
            return self._opened().execute(statement.replace("%s", "?"), parameters).fetchall()

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]], then: str = "") -> None:
        marks = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) {then}"  # noqa: S608 - our names
        with self._translating():
            self._opened().executemany(statement, rows)

    def among(self, column: str, texts: Collection[str]) -> tuple[str, object]:
        return f"{column} IN (SELECT value FROM json_each(%s))", text_of(list(texts))  # noqa: S608 - our names

    def begin(self) -> None:
        self.ask("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.ask("COMMIT")

    def rollback(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(
                self._path.as_uri() + "?mode=rw",
                uri=True,
                timeout=SQLITE_BUSY_TIMEOUT_MS / 1000,
                isolation_level=None,
                check_same_thread=False,  # one thread at a time, which may be another each time
            )
            for pragma in sqlite.PRAGMAS:
                self._connection.execute(pragma)
            self._connection.execute("PRAGMA temp_store = FILE")  # what a comparison sorts may be large
        return self._connection

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _known(sqlite.translated(error, self._path), error) from error


class PostgresDatabase:
    """Tables in the server's database."""

    bytewise = 'COLLATE "C"'

    def __init__(self, url: str) -> None:
        """Nothing is opened yet. Raises ValueError as `Connector`."""
        self._connector = postgresql.Connector(url)
        self.place = self._connector.place

    def open(self) -> None:
        """See `Database`."""
        session = self.session()
        try:
            session.begin()
            session.ask("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            for table in TABLES:
                session.ask(table.format(without_rowid="", bytewise=self.bytewise))
            session.commit()
        except psycopg.Error as error:
            reason = " ".join(str(error).split())
            raise StartupError(Kind.DATABASE_UNUSABLE, f"{self.place} cannot hold the feed: {reason}") from error
        finally:
            session.rollback()
            session.close()

    def session(self) -> Session:
        """See `Database`."""
        return _PostgresSession(self._connector)


class _PostgresSession:
    def __init__(self, connector: postgresql.Connector) -> None:
        self._connector = connector
        self._connection: postgresql.Connection | None = None
        self._inside = False  # of a transaction

    def ask(self, statement: str, parameters: Sequence[object] = ()) -> Rows:
        with self._translating():
            cursor = self._opened().execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]], then: str = "") -> None:
        if rows:
            names = ", ".join(columns)
            wanted = ", ".join(f"{name}::bigint" if name in _NUMBERS_OR_NULL else name for name in columns)
            marks = ", ".join(["%s"] * len(columns))
            statement = f"INSERT INTO {table} ({names}) SELECT {wanted} FROM unnest({marks}) AS given ({names}) {then}"  # noqa: S608
            self.ask(
                statement, [_array(name, column) for name, column in zip(columns, zip(*rows, strict=True), strict=True)]
            )

    def among(self, column: str, texts: Collection[str]) -> tuple[str, object]:
        return f"{column} = ANY (%s)", Texts(text.encode() for text in texts)

    def begin(self) -> None:
        self.ask("BEGIN")
        self._inside = True

    def commit(self) -> None:
        self._inside = False
        self.ask("COMMIT")

    def rollback(self) -> None:
        if self._inside and self._connection is not None:
            self._inside = False
            try:
                self._connection.execute("ROLLBACK")
            except psycopg.Error:
                self.close()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        self._inside = False
        if connection is not None:
            connection.close()

    def _opened(self) -> postgresql.Connection:
        if self._connection is None:
            if self._inside:
                self._inside = False
                raise StorageUnavailable("The connection was lost in the middle of a transaction.")
            self._connection = self._connector.connect()
            self._connection.answer_limit_s = FEED_STATEMENT_LIMIT_S
        return self._connection

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            connection = self._connection
            if connection is not None and (connection.broken or connection.closed):
                connection.close()
                self._connection = None
            known = postgresql.translated(error)
            raise _known(known if isinstance(known, LivesyncError) else None, error) from error


def _array(column: str, values: Sequence[Any]) -> Bigints | OptionalTexts:
    """A column of many rows, as one value that is not escaped."""
    if column in _NUMBERS:
        return Bigints(values)
    if column in _NUMBERS_OR_NULL:
        return OptionalTexts(None if value is None else b"%d" % value for value in values)
    return OptionalTexts(None if value is None else value.encode() for value in values)


def _known(found: LivesyncError | None, error: Exception) -> Exception:
    return error if found is None else found
