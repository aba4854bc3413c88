"""Tables of the FastAPI server as a source: PostgreSQL, `eventlog_<version>_<store>`, snake_case columns, `jsonb` args.

Owns those queries. `jsonb` has sorted the keys and normalised the numbers of `args` before we came; they are taken as
PostgreSQL writes them. That server has no identity: a store comes in with a new one.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import psycopg
from psycopg import sql

from livesync_trio.archive.entries import Columns, Entry, entry_of_columns
from livesync_trio.archive.sources.base import SourceStore
from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import PERSISTENCE_FORMAT_VERSION, READ_MAX_EVENTS
from livesync_trio.model import StoreId

_PREFIX: Final = f"eventlog_{PERSISTENCE_FORMAT_VERSION}_"
_NAME_MAX_BYTES: Final = 63
"""PostgreSQL cuts longer names."""

_TABLES: Final = """
    SELECT relname FROM pg_class
    WHERE relkind = 'r' AND pg_table_is_visible(oid) AND starts_with(relname, %s) ORDER BY relname
"""
_EVENTS: Final = """
    SELECT seq_num, parent_seq_num, name, args::text, client_id, session_id, created_at FROM {table} ORDER BY seq_num
"""


class FastApiTables:
    """A database of the FastAPI server (`Source`)."""

    def __init__(self, url: str) -> None:
        """Connect.

        Raises:
            CommandError: it cannot be reached. The message never repeats the URL, which may hold a password.
        """
        try:
            self._connection = psycopg.connect(url, autocommit=True)
            self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            self._connection.read_only = True
            self._name = self._connection.info.dbname
        except psycopg.Error as error:
            raise CommandError(Kind.BAD_ARCHIVE, f"the PostgreSQL database cannot be reached: {error}.") from None

    def describe(self) -> str:
        """The database, without secrets."""
        return f"PostgreSQL database {self._name}"

    def stores(self) -> list[SourceStore]:
        """Stores of the database; see the contract."""
        rows = self._asked(lambda: self._connection.execute(_TABLES, (_PREFIX,)).fetchall())
        return [_store(table, self._count(table)) for (table,) in rows]

    def _count(self, table: str) -> int:
        statement = sql.SQL("SELECT count(*) FROM {table}").format(table=sql.Identifier(table))
        [(events,)] = self._asked(lambda: self._connection.execute(statement).fetchall())
        return int(events)

    def entries(self, store: SourceStore) -> Iterator[Entry]:
        """Events of one store; see the contract."""
        statement = sql.SQL(_EVENTS).format(table=sql.Identifier(store.place))
        try:
            with self._connection.transaction(), self._connection.cursor("entries") as cursor:
                cursor.itersize = READ_MAX_EVENTS
                for row in cursor.execute(statement):
                    yield entry_of_columns(Columns(*row))
        except psycopg.Error as error:
            raise _unreadable(error) from error

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    @staticmethod
    def _asked(question: Any) -> list[tuple[str]]:
        try:
            found: list[tuple[str]] = question()
        except psycopg.Error as error:
            raise _unreadable(error) from error
        return found


def _store(table: str, events: int) -> SourceStore:
    name = table.removeprefix(_PREFIX)
    notes = ["no identity is recorded here: clients start over"]
    if re.search("_", name):
        notes.append("the name is that of the table; every _ in it may have been another character (--rename)")
    if len(table.encode()) >= _NAME_MAX_BYTES:
        notes.append("PostgreSQL may have cut the name")
    return SourceStore(table, StoreId(name), events=events, notes=tuple(notes))


def _unreadable(error: psycopg.Error) -> CommandError:
    return CommandError(Kind.BAD_ARCHIVE, f"the PostgreSQL database cannot be read: {' '.join(str(error).split())}.")
