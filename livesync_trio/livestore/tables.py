"""The program's tables: always the fold of the log by the materializers.

Owns applying an event, taking its effects back, and making all of it anew. Whoever calls holds the transaction.
"""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Final, Literal

import apsw
import attrs

from livesync_trio.livestore.datafile import DataFile
from livesync_trio.livestore.events import Bindings, LogEvent, Unknown
from livesync_trio.livestore.faults import BadQuery, BadSchema, EventFailed, StoreError, UnknownEvent
from livesync_trio.livestore.limits import STORE_LOG_READ_EVENTS
from livesync_trio.livestore.schema import Schema
from livesync_trio.livestore.statements import OWN

OnUnknown = Literal["ignore", "warn", "fail"] | Callable[[Unknown], None]
"""What happens with an event for which nothing is declared; it stays in the log in any case."""

Progress = Callable[[int, int], None]
"""Told now and then how many events of how many are done."""


def no_progress(_done: int, _total: int) -> None:
    """Nobody wants to know."""


_LAST: Final = 2**63 - 1
_log: Final = logging.getLogger(__name__)


@attrs.frozen
class _Context:
    """What a materializer may ask (`schema.Context`)."""

    client_id: str
    _file: DataFile

    def query(self, sql: str, bindings: Bindings = ()) -> list[dict[str, Any]]:
        if any(table.startswith(OWN) for table in self._file.statements.query(sql).reads):
            raise BadQuery(f"{sql!r} reads a table of the store, which is not for a materializer.")
        return self._file.query(sql, bindings)


class Tables:
    """The tables of one file."""

    def __init__(self, file: DataFile, schema: Schema, on_unknown: OnUnknown) -> None:
        self._file, self._schema, self._on_unknown = file, schema, on_unknown
        self._execute = file.connection.execute
        self._warned: set[str] = set()
        self.changed: set[str] = set()
        """Tables that may have changed since somebody last emptied this."""

    def apply(self, event: LogEvent) -> None:
        """Do what an event says.

        Raises:
            EventFailed: it cannot be done.
            UnknownEvent: nothing is declared for it, and the program wants to fail then.
        """
        try:
            decoded = self._schema.decode(event.name, event.args)
        except ValueError as error:
            raise self._failed(event, None, f"its arguments do not fit: {error}") from error
        if decoded is None:
            self._meet_unknown(event)
            return
        statement: str | None = None
        try:
            for sql, bindings in self._schema.statements(decoded, _Context(event.client_id, self._file)):
                statement = sql
                writes = self._file.statements.change(sql).writes
                before = self._file.connection.total_changes()
                self._execute(sql, bindings).fetchall()
                if self._file.connection.total_changes() != before:
                    self.changed |= writes
                statement = None
        except Exception as error:
            raise self._failed(event, statement, error) from error

    def apply_undoable(self, event: LogEvent) -> bytes:
        """Do what an event says, and give what is needed to take it back."""
        with closing(apsw.Session(self._file.connection, "main")) as session:
            session.attach()
            self.apply(event)
            return session.changeset()

    def undo(self, changes: bytes) -> None:
        """Take back what the last event did that has not been taken back.

        Raises:
            StoreError: the tables are not as that event left them: somebody else has written to the file.
        """
        if not changes:
            return
        connection = self._file.connection
        self.changed.update(change.name.lower() for change in apsw.Changeset.iter(changes))
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)  # what they did stands in the changes as well
        try:
            apsw.Changeset.apply(
                apsw.Changeset.invert(changes), connection, flags=apsw.SQLITE_CHANGESETAPPLY_FKNOACTION
            )
        except apsw.AbortError as error:
            raise StoreError("the tables are not as the log left them; open the store with rebuild=True.") from error
        finally:
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 1)

    def is_current(self) -> bool:
        """Whether they were made by the same declarations."""
        return bool(self._file.row("SELECT schema_hash IS ? FROM livesync_store", (self._schema.hash,))[0])

    def make_anew(self, progress: Progress) -> None:
        """Drop them, make them, and apply the whole log. What is interrupted is done again by the next start.

        Raises:
            BadSchema: they cannot be made, or not be kept.
            EventFailed, UnknownEvent: as `apply`.
        """
        self._execute("PRAGMA foreign_keys = OFF")  # the order of dropping does not matter then
        try:
            with self._file.transaction():
                self._execute("UPDATE livesync_store SET schema_hash = NULL")
                self._drop()
                self._create()
        finally:
            self._execute("PRAGMA foreign_keys = ON")
        self._file.statements.forget()
        with self._file.transaction():
            self._fold(progress)
            self._execute("UPDATE livesync_store SET schema_hash = ?", (self._schema.hash,))

    def _drop(self) -> None:
        for kind in ("view", "table"):
            names = "SELECT name FROM sqlite_schema WHERE type = ? AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
            for (name,) in self._file.rows(names, (kind,)):
                if not name.startswith(OWN):
                    self._execute(f'DROP {kind.upper()} "{name.replace(chr(34), 2 * chr(34))}"')
                    self.changed.add(name.lower())

    def _create(self) -> None:
        try:
            self._execute(self._schema.tables)
        except apsw.Error as error:
            raise BadSchema(f"the tables cannot be made: {error}") from error
        self._check()

    def _fold(self, progress: Progress) -> None:
        [total] = self._file.row("SELECT count(*) FROM livesync_log")
        [upstream] = self._file.row("SELECT upstream_head FROM livesync_store")
        done = 0
        for done, event in enumerate(events_after(self._file, 0), 1):
            if event.seq_num <= upstream:
                self.apply(event)
            else:
                changes = self.apply_undoable(event)
                self._execute("UPDATE livesync_log SET changes = ? WHERE seq_num = ?", (changes, event.seq_num))
            if done % STORE_LOG_READ_EVENTS == 0:
                progress(done, total)
        progress(done, total)

    def _meet_unknown(self, event: LogEvent) -> None:
        match self._on_unknown:
            case "ignore":
                pass
            case "fail":
                raise UnknownEvent(f"event {event.seq_num} is a {event.name!r}, for which nothing is declared.")
            case "warn":
                if event.name not in self._warned and len(self._warned) < STORE_LOG_READ_EVENTS:
                    self._warned.add(event.name)
                    _log.warning("no event %r is declared; such events change no table", event.name)
            case function:
                function(Unknown(event.seq_num, event.name, event.args))

    @staticmethod
    def _failed(event: LogEvent, statement: str | None, why: Exception | str) -> EventFailed:
        return EventFailed(event.name, event.args, event.seq_num, statement, why)

    def _check(self) -> None:
        """Refuse tables whose changes SQLite cannot record, and so not take back."""
        for name, sql in self._file.rows("SELECT name, sql FROM sqlite_schema WHERE type = 'table'"):
            if name.startswith("sqlite_") or name in {"livesync_log", "livesync_store"}:
                continue
            if name.startswith(OWN):
                raise BadSchema(f"{name}: names that begin with {OWN} are the store's own.")
            if re.match(r"CREATE\s+VIRTUAL", sql, re.IGNORECASE):
                raise BadSchema(f"{name} is a virtual table, whose changes cannot be taken back.")
            if re.search(r"\bAUTOINCREMENT\b", sql, re.IGNORECASE):
                raise BadSchema(f"{name}: leave out AUTOINCREMENT, which remembers what has been taken back.")
            columns = self._file.rows('SELECT name, type, "notnull", pk FROM pragma_table_info(?)', (name,))
            key = [column for column in columns if column[3]]
            if not key:
                raise BadSchema(f"{name} needs a PRIMARY KEY, by which the changes of its rows can be taken back.")
            is_rowid = len(key) == 1 and key[0][1].upper() == "INTEGER"
            for column, _, not_null, _ in key:
                if not not_null and not is_rowid:
                    raise BadSchema(f"{name}.{column} belongs to the primary key: declare it NOT NULL.")


def events_after(file: DataFile, seq_num: int, last: int | None = None) -> Iterator[LogEvent]:
    """The log behind a number and up to another, read in pieces, so that it may grow meanwhile."""
    columns = "seq_num, parent_seq_num, name, args, client_id, session_id"
    sql = f"SELECT {columns} FROM livesync_log WHERE seq_num > ? AND seq_num <= ? ORDER BY seq_num LIMIT ?"  # noqa: S608
    while rows := file.rows(sql, (seq_num, last or _LAST, STORE_LOG_READ_EVENTS)):
        yield from map(LogEvent._make, rows)
        seq_num = rows[-1][0]
