"""Carrying out a client's changes: one transaction of the source, in the client's order.

Each row is locked and looked at before it is changed, and looked at again as the database made it: with the same
filters that decide what the client is sent. A change that is older than what is there, or whose row is gone, is left
out and told; one that may not be made undoes all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
import psycopg
from psycopg import sql

from livesync_trio.errors import Kind
from livesync_trio.feed.access import Sight, View
from livesync_trio.feed.echoes import Key, digest_of
from livesync_trio.feed.filters import BadFilter
from livesync_trio.feed.source import MARK, identifier
from livesync_trio.feed.tables import Relation, Row
from livesync_trio.feed.values import parser_of
from livesync_trio.feed.writes.parsing import UPDATED_AT, Write, WriteRefused
from livesync_trio.storage.postgresql.connection import Connection

FEED_WRITE_STATEMENT_LIMIT_S: Final = 20
"""How long one statement of a client's transaction may take, as in the original."""

FEED_WRITE_LOCK_LIMIT_S: Final = 5
"""How long it waits for somebody else who is changing the same row."""

_BEGIN: Final = f"""
    SELECT set_config('statement_timeout', '{FEED_WRITE_STATEMENT_LIMIT_S}s', true),
        set_config('lock_timeout', '{FEED_WRITE_LOCK_LIMIT_S}s', true),
        set_config('idle_in_transaction_session_timeout', '{FEED_WRITE_STATEMENT_LIMIT_S}s', true)
"""
_LOOKS: Final = 3
"""How often a row is looked for that somebody else inserts and deletes at the same time."""

_NOT_YOURS: Final = "You may not write this row."
_CHANGES_NOTHING: Final = "The database did not take this change."


@attrs.frozen
class Conflict:
    """A change that lost: `older` than what is there, or of a row that is `gone`."""

    write: Write
    reason: str


@attrs.define
class Outcome:
    """What became of a message.

    Attributes:
        applied: the changes that were made.
        conflicts: those that lost.
        xid: the transaction, as PostgreSQL's `pg_current_xact_id` has it; None when nothing was changed.
        rows: rows as they are now, where that is what the client expects.
    """

    applied: list[Write] = attrs.field(factory=list)
    conflicts: list[Conflict] = attrs.field(factory=list)
    xid: int | None = None
    rows: dict[Key, set[bytes]] = attrs.field(factory=dict)

    def expect(self, relation: Relation, named_by: Row, row: Row | None) -> None:
        """The client knows a row as it is now."""
        self.rows.setdefault((relation.table, relation.key_of(named_by)), set()).add(digest_of(row))


def apply_writes(
    connection: Connection, writes: Sequence[Write], view: View, before_commit: Callable[[Outcome], None]
) -> Outcome:
    """Make the changes; `before_commit` is told what was done when only the commit is left.

    Raises:
        WriteRefused: one of them may not be made, and none was.
        psycopg.Error: none was made; after `before_commit` that is not known.
    """
    outcome = Outcome()
    judges: dict[str, _Judge] = {}
    connection.execute("BEGIN")
    try:
        connection.execute(_BEGIN.encode())
        for write in writes:
            try:
                judge = judges.setdefault(write.relation.table, _Judge(view, write.relation))
                _apply(connection, write, judge, outcome)
            except psycopg.Error as error:
                raise _refusal(error, write.number) or error from None
            except BadFilter as error:
                raise WriteRefused("What you may write cannot be determined. Tell the operator.") from error
        if not outcome.applied:
            connection.execute("ROLLBACK")
            return outcome
        [(xid, _)] = connection.execute(
            "SELECT pg_current_xact_id()::text, pg_logical_emit_message(true, %s, '')::text", (MARK,)
        ).fetchall()
        outcome.xid = int(xid)
    except BaseException:
        if not connection.closed:
            connection.execute("ROLLBACK")
        raise
    before_commit(outcome)
    try:
        connection.execute("COMMIT")
    except psycopg.Error as error:  # a deferred constraint
        raise _refusal(error, None) or error from None
    return outcome


def _refusal(error: psycopg.Error, number: int | None) -> WriteRefused | None:
    """What an error of the database says to the client; None when it says nothing about its changes."""
    state, said = error.sqlstate or "", error.diag.message_primary or str(error)
    if state[:2] in ("22", "23", "44", "P0"):  # data, constraints, views, what a trigger raises
        return WriteRefused(said, number)
    if state in ("40001", "40P01", "55P03", "57014"):
        return WriteRefused("Others are changing the same rows. Send it again.", number, Kind.STORAGE_UNAVAILABLE)
    if state == "42501":
        return WriteRefused("The server may not write to this table. Tell its operator.", number, Kind.NOT_ALLOWED)
    if state in ("42703", "42P01", "42P10"):
        return WriteRefused("The table has changed meanwhile. Send it again.", number, Kind.STORAGE_UNAVAILABLE)
    return WriteRefused(said, number) if state[:2] == "42" else None


def _apply(connection: Connection, write: Write, judge: "_Judge", outcome: Outcome) -> None:
    table = _Table(connection, write)
    found = table.look()
    for _ in range(_LOOKS):
        if found is not None or write.operation != "insert":
            break
        row = table.insert()
        if row is not None:
            _made(write, judge, outcome, None, row)
            return
        found = table.look()  # somebody was faster
    if found is not None:
        _change(table, write, judge, outcome, found)
    elif write.operation == "insert":
        raise WriteRefused(_CHANGES_NOTHING, write.number)
    else:
        outcome.conflicts.append(Conflict(write, "gone"))


def _change(table: "_Table", write: Write, judge: "_Judge", outcome: Outcome, found: tuple[Row, bool]) -> None:
    """Change a row that is there; an insert comes here too, since it says how the row shall be."""
    before, is_newer = found
    if not judge.sees(before):
        if write.operation == "insert":
            raise WriteRefused(_NOT_YOURS, write.number, Kind.NOT_ALLOWED)
        outcome.conflicts.append(Conflict(write, "gone"))  # as for one that is not there
        return
    if not judge.may_write(before):
        raise WriteRefused(_NOT_YOURS, write.number, Kind.NOT_ALLOWED)
    if is_newer:
        outcome.conflicts.append(Conflict(write, "older"))
        return
    row = before if write.operation != "delete" and not write.values else table.change()
    if row is None:
        raise WriteRefused(_CHANGES_NOTHING, write.number)
    if write.operation == "delete":
        outcome.applied.append(write)
        outcome.expect(write.relation, before, None)
    else:
        _made(write, judge, outcome, before, row)


def _made(write: Write, judge: "_Judge", outcome: Outcome, before: Row | None, row: Row) -> None:
    """A row is there as the database made it: may the client have done that, and does it know how it is?"""
    if not (judge.sees(row) and judge.may_write(row)):
        raise WriteRefused(_NOT_YOURS, write.number, Kind.NOT_ALLOWED)
    outcome.applied.append(write)
    if judge.expects(write, before, row):
        outcome.expect(write.relation, row, row)


class _Judge:
    """What a client may see and write of one table."""

    def __init__(self, view: View, relation: Relation) -> None:
        self._sight = _predicate(view.sights[relation.table], relation)
        self._grant = _predicate(view.grants[relation.table], relation)
        columns = view.columns(relation.table)
        self._seen = [at for at, name in enumerate(relation.names) if columns is None or name in columns]

    def sees(self, row: Row) -> bool:
        return self._sight(row)

    def may_write(self, row: Row) -> bool:
        return self._grant(row)

    def expects(self, write: Write, before: Row | None, row: Row) -> bool:
        """Whether a row is what the client takes it for: what it set as it set it, all else as it was."""
        for at in self._seen:
            column = write.relation.columns[at]
            if column.name in write.values:
                if not _same(column.type_oid, write.values[column.name], row[at]):
                    return False
            elif at not in write.relation.key and row[at] != (None if before is None else before[at]):
                return False
        return True


def _predicate(sight: Sight, relation: Relation) -> Callable[[Row], bool]:
    if sight.filter is None:
        return lambda _: True
    holds = sight.filter.bind(relation, sight.claims).holds
    return lambda row: bool(holds(row))


def _same(type_oid: int, given: str | None, stored: str | None) -> bool:
    """Whether a value was stored as it was given; of a type that cannot be compared, whether its text was."""
    if given == stored or given is None or stored is None:
        return given == stored
    parse = parser_of(type_oid)
    try:
        return parse is not None and bool(parse(given) == parse(stored))
    except ValueError:
        return False


class _Table:
    """The statements about one row."""

    def __init__(self, connection: Connection, write: Write) -> None:
        self._connection = connection
        self._write = write
        relation = write.relation
        self._name = identifier(relation.table)
        self._columns = _list(relation.names)
        self._key = [relation.names[at] for at in relation.key]
        self._where = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in self._key)

    def look(self) -> tuple[Row, bool] | None:
        """The row, locked, and whether it is newer than the change; None when it is not there."""
        updated = self._write.updated
        newer = sql.SQL("false") if updated is None else sql.SQL("coalesce({} > %s, false)").format(_UPDATED)
        statement = sql.SQL("SELECT {}, {} FROM {} WHERE {} FOR UPDATE").format(
            self._columns, newer, self._name, self._where
        )
        row = self._row(statement, [*([] if updated is None else [updated]), *self._write.key])
        return None if row is None else (row[:-1], row[-1] == "t")

    def insert(self) -> Row | None:
        """The row as it was made; None when there is one by now."""
        values = {**dict(zip(self._key, self._write.key, strict=True)), **self._write.values}
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO NOTHING RETURNING {}").format(
            self._name, _list(values), sql.SQL(", ").join([sql.Placeholder()] * len(values)),
            _list(self._key), self._columns,
        )  # fmt: skip
        return self._row(statement, list(values.values()))

    def change(self) -> Row | None:
        """Update or delete it; gives the row as it is then, or was."""
        values = {} if self._write.operation == "delete" else self._write.values
        if not values:
            statement = sql.SQL("DELETE FROM {} WHERE {} RETURNING {}").format(self._name, self._where, self._columns)
        else:
            settings = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in values)
            statement = sql.SQL("UPDATE {} SET {} WHERE {} RETURNING {}").format(
                self._name, settings, self._where, self._columns
            )
        return self._row(statement, [*values.values(), *self._write.key])

    def _row(self, statement: sql.Composed, parameters: Sequence[Any]) -> Row | None:
        """The one row that a statement gives, as PostgreSQL writes it."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            result = cursor.pgresult
            if result is None or result.ntuples == 0:
                return None
            values = (result.get_value(0, at) for at in range(result.nfields))
            return tuple(None if value is None else bytes(value).decode() for value in values)


_UPDATED: Final = sql.Identifier(UPDATED_AT)


def _list(names: Sequence[str] | Mapping[str, Any]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))
