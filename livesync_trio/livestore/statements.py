"""What an SQL text reads and writes, found by SQLite's authorizer and remembered.

Owns the rules which statements a materializer and a query may use. They are held before the first execution of each
text, so that an execution costs one look-up more.
"""

from collections.abc import Callable
from typing import Final

import apsw
import apsw.ext
import attrs

from livesync_trio.livestore.faults import BadQuery, BadSchema
from livesync_trio.livestore.limits import STORE_STATEMENTS_KEPT

OWN: Final = "livesync_"
"""How the names of the store's own tables begin."""

_READING: Final = frozenset({apsw.SQLITE_READ, apsw.SQLITE_SELECT, apsw.SQLITE_FUNCTION, apsw.SQLITE_RECURSIVE})
_WRITING: Final = frozenset({apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE})


@attrs.frozen
class Access:
    """The tables that a statement touches, those of views and triggers included, and the columns that it gives."""

    reads: frozenset[str]
    writes: frozenset[str]
    columns: tuple[str, ...] = ()


class Statements:
    """The texts that a connection has seen."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._queries: dict[str, Access] = {}
        self._changes: dict[str, Access] = {}

    def query(self, sql: str) -> Access:
        """What a query touches. Raises BadQuery when it does more than read, or is not one statement."""
        return self._known(self._queries, sql, self._examine_query)

    def change(self, sql: str) -> Access:
        """What a statement of a materializer touches.

        Raises:
            BadSchema: it does more than reading and writing rows of the program's tables.
            apsw.Error: it is no SQL that this database understands.
        """
        return self._known(self._changes, sql, self._examine_change)

    def forget(self) -> None:
        """The tables are others now."""
        self._queries.clear()
        self._changes.clear()

    @staticmethod
    def _known(known: dict[str, Access], sql: str, examine: Callable[[str], Access]) -> Access:
        access = known.get(sql)
        if access is None:
            if len(known) >= STORE_STATEMENTS_KEPT:
                del known[next(iter(known))]
            access = known[sql] = examine(sql)
        return access

    def _examine_query(self, sql: str) -> Access:
        try:
            access, other = self._examine(sql)
        except apsw.Error as error:
            raise BadQuery(f"{sql!r}: {error}") from error
        if other or access.writes:
            raise BadQuery(f"{sql!r} does more than read: tables are changed by events only.")
        return access

    def _examine_change(self, sql: str) -> Access:
        access, other = self._examine(sql)
        if other:
            raise BadSchema(f"{other} is not for a materializer, which only reads and writes rows.")
        own = sorted(table for table in access.reads | access.writes if table.startswith(OWN))
        if own:
            raise BadSchema(f"{own[0]} is the store's own, and not for a materializer.")
        return access

    def _examine(self, sql: str) -> tuple[Access, str]:
        """What it touches, and the name of what it does besides; empty when nothing."""
        details = apsw.ext.query_info(self._connection, sql, actions=True)
        if details.query_remaining and details.query_remaining.strip(" \t\r\n;"):
            return Access(frozenset(), frozenset()), "a second statement"
        reads, writes, other = set[str](), set[str](), ""
        for action in details.actions or ():
            if action.table_name is not None and action.action == apsw.SQLITE_READ:
                reads.add(action.table_name.lower())
            elif action.table_name is not None and action.action in _WRITING:
                writes.add(action.table_name.lower())
            elif action.action not in _READING:
                other = other or action.action_name.removeprefix("SQLITE_")
        columns = tuple([column[0] for column in details.description])
        return Access(frozenset(reads), frozenset(writes), columns), other
