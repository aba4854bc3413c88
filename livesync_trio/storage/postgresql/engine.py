"""Engine on PostgreSQL, for any number of servers on one database.

Owns the choice of the database's connections and what must be true of it on opening. Reading, writing and the news from
other servers are the business of `reader`, `writer` and `news`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from livesync_trio.errors import Kind, StartupError, StorageUnavailable
from livesync_trio.storage.postgresql.connection import Connection, Connector, Session, SnapshotSession, translated
from livesync_trio.storage.postgresql.news import PostgresListener, PostgresNews, new_sender
from livesync_trio.storage.postgresql.reader import PostgresReader
from livesync_trio.storage.postgresql.schema import MayNotCreate, NotOurs, migrate, pending, script
from livesync_trio.storage.postgresql.writer import PostgresWriter

POSTGRES_VERSION_MIN: Final = 130_000
"""Oldest PostgreSQL served with, as the server numbers itself: 13."""

_FOR_GOOD = (
    "invalid sslmode value",
    "password authentication failed",
    "no pg_hba.conf entry",
    "does not exist",
    "no password supplied",
)
"""What PostgreSQL says to whom it will never let in; libpq gives no code for it. When the server speaks another
language, the start goes on waiting and shows the message."""


class PostgresEngine:
    """Keeps logs in a PostgreSQL database (`shared.SharedEngine`)."""

    name = "postgresql"

    def __init__(self, url: str, listen_url: str | None = None) -> None:
        """Nothing is opened yet.

        Args:
            url: `postgresql://user:password@host:port/database?parameter=value`, with libpq's parameters.
            listen_url: where to listen for notifications, when `url` leads to a pooler in transaction mode.

        Raises:
            ValueError: libpq cannot read a URL. The message never repeats it.
        """
        self._connector = Connector(url)
        self._listen_connector = self._connector if listen_url is None else Connector(listen_url)
        self._sender = new_sender()
        self._version = ""

    def open(self) -> None:
        """Check the database and bring its tables up to date.

        Raises:
            StartupError: see the contract.
            StorageUnavailable: it cannot be reached now; the caller may wait and try again.
        """
        with self._opening() as session:
            connection = session.connection()
            self._check(connection)
            migrate(connection)

    def open_to_read(self) -> None:
        """Check that the tables are those of this version; see the contract."""
        with self._opening() as session:
            self._check(session.connection())
            missing = pending(session.connection())
            if missing.pre:
                raise self._unusable("its tables are not those of this version: run `livesync migrate` first.")

    def pending(self) -> tuple[list[str], list[str]]:
        """Steps of the schema that the database has not seen; see the contract."""
        with self._opening() as session:
            found = pending(session.connection())
            return list(map(str, found.pre)), list(map(str, found.post))

    def migrate(self, *, finish: bool) -> None:
        """Apply them; see the contract."""
        with self._opening() as session:
            self._check(session.connection())
            migrate(session.connection(), finish=finish)

    def script(self) -> str:
        """Their SQL; see the contract."""
        with self._opening() as session:
            found = pending(session.connection())
            return script(session.connection(), (*found.pre, *found.post))

    def writer(self) -> PostgresWriter:
        """A writing handle; connects when it is first used."""
        return PostgresWriter(Session(self._connector))

    def reader(self) -> PostgresReader:
        """A reading handle; connects when it is first used."""
        return PostgresReader(Session(self._connector))

    def snapshot(self) -> PostgresReader:
        """A reading handle on one moment; see the contract."""
        return PostgresReader(SnapshotSession(self._connector))

    def news(self) -> PostgresNews:
        """A handle to tell other servers; connects when it is first used."""
        return PostgresNews(Session(self._connector), self._sender)

    def listener(self) -> PostgresListener:
        """A handle that hears other servers, connected. Raises StorageUnavailable."""
        return PostgresListener(Session(self._listen_connector), self._sender)

    def describe(self) -> str:
        """Where the database is, and its version once it was reached."""
        return f"{self._connector.place}{self._version}"

    def stopping(self) -> None:
        """Nobody has to wait: several servers may use it at the same time."""

    def close(self) -> None:
        """Nothing is held but by the handles."""

    # --- on opening -------------------------------------------------------------------------------------------------

    @contextmanager
    def _opening(self) -> Iterator[Session]:
        """A session for the schema, and what its errors mean to an operator."""
        session = Session(self._connector)
        try:
            yield session
        except (NotOurs, MayNotCreate) as error:
            raise self._unusable(_advice(error)) from error
        except psycopg.Error as error:
            failure = translated(error)
            if isinstance(failure, StorageUnavailable) and not isinstance(error, psycopg.ProgrammingError):
                raise failure from error
            raise self._unusable(str(error)) from error
        except StorageUnavailable as error:
            if any(reason in str(error) for reason in _FOR_GOOD):
                raise StartupError(Kind.DATABASE_UNUSABLE, f"{error}.") from error
            raise
        finally:
            session.close()

    def _check(self, connection: Connection) -> None:
        info = connection.info
        self._version = f" (PostgreSQL {info.parameter_status('server_version')})"
        if info.server_version < POSTGRES_VERSION_MIN:
            raise self._unusable("it is older than PostgreSQL 13: upgrade it")
        encoding = info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise self._unusable(f"its encoding is {encoding}: create it with ENCODING 'UTF8' TEMPLATE template0")

    def _unusable(self, reason: str) -> StartupError:
        return StartupError(Kind.DATABASE_UNUSABLE, f"{self._connector.place} cannot be used: {reason}")


def _advice(error: NotOurs | MayNotCreate) -> str:
    if isinstance(error, MayNotCreate):
        return f"its role may not create tables. Let one that may run this, then start again:\n\n{error.script}"
    return f"{error}."
