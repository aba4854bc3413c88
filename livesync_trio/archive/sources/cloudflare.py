"""Tables of `@livestore/sync-cf` as a source: SQLite files of D1 and of Durable Objects, one or a directory of them.

Owns what belongs together. A store's events stand in `eventlog_7_<name>`, where every character but letters and digits
of the name became `_`; its true name, head and identity in `context_7`, which is always in the file of its Durable
Object. The 0.4 server keeps the events there, too, or in a D1 database; the 0.3 server keeps them in D1 and has no
`context_7` at all.
"""

import re
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from livesync_trio.archive.entries import Broken, Columns, Entry, entry_of_columns
from livesync_trio.archive.sources import SourceStore
from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import ARCHIVE_LINE_MAX_BYTES, PERSISTENCE_FORMAT_VERSION
from livesync_trio.model import BackendId, StoreId

_TABLE: Final = re.compile(r"eventlog_([0-9]{1,9})_([a-zA-Z0-9_]*)")
_EVENTS: Final = (
    'SELECT seqNum, parentSeqNum, name, args, clientId, sessionId, createdAt FROM "{table}" ORDER BY seqNum'
)
_CONTEXTS: Final = "SELECT storeId, currentHead, backendId FROM context_7"


def table_name(store_id: str) -> str:
    """The name that sync-cf gives the table of a store."""
    return f"eventlog_{PERSISTENCE_FORMAT_VERSION}_{re.sub('[^a-zA-Z0-9]', '_', store_id)}"


@attrs.frozen
class _Context:
    """A row of `context_7`; `problems`: why it tells nothing."""

    path: Path
    store_id: StoreId
    head: int
    backend_id: BackendId | None
    problems: tuple[str, ...] = ()


class CloudflareFiles:
    """SQLite files that belong to one deployment (`Source`)."""

    def __init__(self, paths: Sequence[Path], what: str) -> None:
        """Open the files for reading.

        Args:
            paths: SQLite files; those without tables of sync-cf are passed over.
            what: what they are, for the operator.

        Raises:
            CommandError: one cannot be read.
        """
        self._what = what
        self._files: dict[Path, sqlite3.Connection] = {}
        for path in paths:
            self._files[path] = _open(path)
        self._tables: dict[str, tuple[Path, str]] = {}

    def describe(self) -> str:
        """What it is."""
        return self._what

    def stores(self) -> list[SourceStore]:
        """Stores of all files; see the contract."""
        contexts, tables = self._contexts(), self._found_tables()
        by_table: dict[str, list[_Context]] = defaultdict(list)
        for context in contexts:
            by_table[table_name(context.store_id).lower()].append(context)
        stores = [self._store(path, table, by_table[table.lower()]) for path, table in tables]
        stores += self._other_formats()
        stores += [
            _promised(context)
            for name, found in by_table.items()
            for context in found
            if name not in {table.lower() for _, table in tables}
        ]
        return sorted(stores, key=lambda store: store.store_id)

    def _store(self, path: Path, table: str, contexts: list[_Context]) -> SourceStore:
        """What is known of one table."""
        place = f"{path}: {table}"
        self._tables[place] = (path, table)
        [(events,)] = _asked(self._files[path], path, f'SELECT count(*) FROM "{table}"')  # noqa: S608 - a table found
        at_home = [context for context in contexts if context.path == path]
        contexts = at_home or contexts
        if not contexts:
            name = table.removeprefix(f"eventlog_{PERSISTENCE_FORMAT_VERSION}_")
            odd = "; every _ in it may have been another character (--rename)" if "_" in name else ""
            note = (
                f"no identity is recorded here, and the name is that of the table{odd}; stores whose names differ by "
                "capital letters only share one table"
            )
            return SourceStore(place, StoreId(name), events=events, notes=(note,))
        if len(contexts) > 1:
            names = ", ".join(repr(context.store_id) for context in contexts)
            problem = f"the stores {names} share this table: their events cannot be told apart"
            return SourceStore(place, contexts[0].store_id, problems=(problem,))
        (context,) = contexts
        return SourceStore(place, context.store_id, context.backend_id, context.head, events, context.problems)

    def entries(self, store: SourceStore) -> Iterator[Entry]:
        """Events of one store; see the contract."""
        if store.place not in self._tables:
            return
        path, table = self._tables[store.place]
        try:
            for row in self._files[path].execute(_EVENTS.format(table=table)):
                yield entry_of_columns(Columns(*row))
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise Broken(f"{path.name} cannot be read any further: {error}") from None

    def close(self) -> None:
        """Close the files."""
        for connection in self._files.values():
            connection.close()

    def _contexts(self) -> list[_Context]:
        found = []
        for path, connection in self._files.items():
            if "context_7" in _tables(connection, path):
                rows = _asked(connection, path, _CONTEXTS)
                found += [_context(path, *row) for row in rows]
        return found

    def _found_tables(self) -> list[tuple[Path, str]]:
        return [(path, table) for path, table, version, _ in self._eventlogs() if version == PERSISTENCE_FORMAT_VERSION]

    def _other_formats(self) -> list[SourceStore]:
        problem = "it has format {}, which sync-cf itself no longer reads: only format {} comes in"
        return [
            SourceStore(
                f"{path}: {table}", StoreId(name), problems=(problem.format(version, PERSISTENCE_FORMAT_VERSION),)
            )
            for path, table, version, name in self._eventlogs()
            if version != PERSISTENCE_FORMAT_VERSION
        ]

    def _eventlogs(self) -> Iterator[tuple[Path, str, int, str]]:
        """Tables of events in all files: file, table, format, name of the store as far as the table has it."""
        for path, connection in self._files.items():
            for table in _tables(connection, path):
                match = _TABLE.fullmatch(table)
                if match:
                    yield path, table, int(match[1]), match[2]


def _context(path: Path, name: object, head: object, identity: object) -> _Context:
    """A row as it should be, or what is wrong with it: SQLite keeps anything in any column."""
    if isinstance(name, str) and type(head) is int and isinstance(identity, str) and identity:
        return _Context(path, StoreId(name), head, BackendId(identity))
    problem = f"context_7 gives it the name {name!r}, the head {head!r} and the identity {identity!r}"
    store_id = StoreId(name if isinstance(name, str) else repr(name))
    return _Context(path, store_id, 0, None, (f"{problem}: not a text, a whole number and a text",))


def _promised(context: _Context) -> SourceStore:
    """A store whose events are not in any of the files."""
    problems = [f"its events up to e{context.head} are in no file here: export the D1 database, too"]
    return SourceStore(
        str(context.path),
        context.store_id,
        context.backend_id,
        context.head,
        problems=(*context.problems, *(problems if context.head else ())),
    )


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.Error as error:
        connection.close()
        raise _unreadable(path, error) from error
    return connection


def _tables(connection: sqlite3.Connection, path: Path) -> list[str]:
    rows = _asked(connection, path, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    return [name for (name,) in rows if isinstance(name, str)]


def _asked(connection: sqlite3.Connection, path: Path, statement: str) -> list[tuple[Any, ...]]:
    try:
        return connection.execute(statement).fetchall()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CommandError:
    advice = (
        "stop its server, and copy the file together with those named -wal and -shm beside it to where you may write"
    )
    return CommandError(Kind.BAD_ARCHIVE, f"{path} cannot be read ({error}): {advice}.")


# --- the text that `wrangler d1 export` writes ------------------------------------------------------------------------


_ALLOWED: Final = frozenset(
    {
        sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_REINDEX,
    }
)
_FUNCTIONS: Final = frozenset({"char", "replace", "unistr", "unhex"})
"""What dumps use to write line breaks and the like."""

_GROWTH: Final = 8
"""A database may be that many times as large as its dump: indexes, half-filled pages. What grows more is no dump."""
_ROOM_BYTES: Final = 1_048_576


class SqlDump(CloudflareFiles):
    """A dump of a D1 database (`Source`)."""

    def __init__(self, path: Path) -> None:
        """Carry out the dump. Raises CommandError when it is not one."""
        self._directory = tempfile.TemporaryDirectory(prefix="livesync-dump-")
        database = Path(self._directory.name) / path.with_suffix(".sqlite").name
        try:
            _carry_out(path, database)
            super().__init__([database], f"SQL dump {path}")
        except BaseException:
            self._directory.cleanup()
            raise

    def close(self) -> None:
        """Remove the database made of it."""
        super().close()
        self._directory.cleanup()


def _carry_out(dump: Path, database: Path) -> None:
    begins = 1
    connection = sqlite3.connect(database, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, ARCHIVE_LINE_MAX_BYTES)
        [page_bytes] = connection.execute("PRAGMA page_size").fetchone()
        most_bytes = dump.stat().st_size * _GROWTH + _ROOM_BYTES
        connection.execute(f"PRAGMA max_page_count = {most_bytes // page_bytes}")
        connection.execute("BEGIN")
        connection.set_authorizer(_may)
        statement, number = "", 0
        with dump.open(encoding="utf-8", newline="") as file:
            for line in file:
                number += 1
                statement += line
                if line.rstrip().endswith(";") and sqlite3.complete_statement(statement):
                    if not _is_frame(statement):
                        connection.execute(statement)
                    statement, begins = "", number + 1
        if statement.strip():
            raise sqlite3.OperationalError("the last statement has no end")
        connection.set_authorizer(None)
        connection.execute("COMMIT")
    except (OSError, ValueError) as error:  # no UTF-8, or U+0000 in a statement
        raise CommandError(Kind.BAD_ARCHIVE, f"{dump} cannot be read: {error}.") from error
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise CommandError(
            Kind.BAD_ARCHIVE, f"{dump}, statement in line {begins}: {error}; is it what `wrangler d1 export` wrote?"
        ) from error
    finally:
        connection.close()


def _is_frame(statement: str) -> bool:
    """What stands round the statements of a dump and says nothing about data."""
    return statement.split(None, 1)[0].upper() in {"PRAGMA", "BEGIN", "COMMIT", "PRAGMA;", "BEGIN;", "COMMIT;"}


def _may(action: int, *names: str | None) -> int:
    if action in _ALLOWED or (action == sqlite3.SQLITE_FUNCTION and (names[1] or "").lower() in _FUNCTIONS):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY
