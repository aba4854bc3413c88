"""Tables of the FastAPI server as a source: PostgreSQL, `eventlog_<version>_<store>`, snake_case columns, `jsonb` args.

Owns those queries. `jsonb` has sorted the keys and normalised the numbers of `args` before we came; they are taken as
PostgreSQL writes them. That server has no identity: a store comes in with a new one.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import psycopg
from psycopg import sql

from livesync_trio.archive.entries import Columns, Entry, entry_of_columns
from livesync_trio.archive.sources import SourceStore
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
_HAS_WORKSPACES: Final = """
    SELECT count(*) FROM pg_attribute
    WHERE attrelid = to_regclass('workspaces') AND attname = 'database_name' AND NOT attisdropped
"""
_WORKSPACES: Final = "SELECT database_name FROM workspaces ORDER BY database_name"
_STORES_TABLE: Final = f"livesync_{PERSISTENCE_FORMAT_VERSION}_stores"
_HAS_STORES: Final = f"SELECT to_regclass('{_STORES_TABLE}') IS NOT NULL"
_ANY_STORE: Final = f"SELECT 1 FROM {_STORES_TABLE} LIMIT 1"  # noqa: S608 -- a constant
_LOOK_LIMIT_S: Final = 5
_EVENTS: Final = """
    SELECT seq_num, parent_seq_num, name, args::text, client_id, session_id, created_at FROM {table} ORDER BY seq_num
"""


class FastApiTables:
    """A database of the FastAPI server (`Source`)."""

    def __init__(self, url: str, store_ids: Sequence[StoreId] = ()) -> None:
        """Connect.

        Args:
            url: of the database.
            store_ids: true names of stores that the operator knows.

        Raises:
            CommandError: it cannot be reached. The message never repeats the URL, which may hold a password.
        """
        self._named = tuple(store_ids)
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
        named, workspaces = _by_table(self._named), _by_table(self._workspaces())
        return [_store(table, named.get(table) or workspaces.get(table, ()), self._count(table)) for (table,) in rows]

    def _workspaces(self) -> list[str]:
        """The names of the stores that its table of workspaces keeps; none where there is no such table."""
        [(there,)] = self._asked(lambda: self._connection.execute(_HAS_WORKSPACES).fetchall())
        if not there:
            return []
        return [name for (name,) in self._asked(lambda: self._connection.execute(_WORKSPACES).fetchall()) if name]

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


def table_of(store_id: str) -> str:
    """The table in which that server keeps a store: other signs become `_`, capitals small, and PostgreSQL cuts it."""
    return (_PREFIX + re.sub(r"[^A-Za-z0-9]", "_", store_id)).lower()[:_NAME_MAX_BYTES]


def _by_table(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name in dict.fromkeys(names):
        table = table_of(name)
        found[table] = (*found.get(table, ()), name)
    return found


def _store(table: str, names: Sequence[str], events: int) -> SourceStore:
    """A store, under its true name if that is known."""
    if len(names) == 1:
        return SourceStore(table, StoreId(names[0]), events=events)
    name = StoreId(table.removeprefix(_PREFIX))
    if names:
        told = f"several stores share this table ({', '.join(map(repr, names))}): nobody can tell their events apart"
        return SourceStore(table, name, events=events, problems=(told,))
    notes = []
    if re.search("_", name):
        notes.append("every _ in the name may have been another character")
    if re.search("[a-z]", name):
        notes.append("every letter may have been a capital")
    if len(table.encode()) >= _NAME_MAX_BYTES:
        notes.append("PostgreSQL may have cut the name")
    if notes:
        notes.append("if it was another name, give it by --store or --rename")
    return SourceStore(table, name, events=events, notes=tuple(notes))


def logs_left_behind(url: str) -> list[str]:
    """Tables of that server with events, in a database that has no store of ours yet; none where it cannot be asked.

    Whoever starts there has probably forgotten to import them.
    """
    try:
        with psycopg.connect(url, connect_timeout=_LOOK_LIMIT_S, autocommit=True) as connection:
            tables = [name for (name,) in connection.execute(_TABLES, (_PREFIX,)).fetchall()]
            if not tables:
                return []
            [(ours,)] = connection.execute(_HAS_STORES).fetchall()
            if ours and connection.execute(_ANY_STORE).fetchall():
                return []
            return [name for name in tables if connection.execute(_any_event(name)).fetchall()]
    except psycopg.Error:
        return []  # the server will say why


def _any_event(table: str) -> sql.Composed:
    return sql.SQL("SELECT 1 FROM {table} LIMIT 1").format(table=sql.Identifier(table))


def _unreadable(error: psycopg.Error) -> CommandError:
    return CommandError(Kind.BAD_ARCHIVE, f"the PostgreSQL database cannot be read: {' '.join(str(error).split())}.")
