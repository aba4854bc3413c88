"""What a client wants to write, from its message to columns and values. Pure.

Nothing that a client sends becomes a part of a statement: names are looked up among those of the configured tables,
values are parameters.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import attrs
import msgspec

from livesync_trio.errors import Kind
from livesync_trio.feed.access import Sight, View
from livesync_trio.feed.history.state import TableState
from livesync_trio.feed.messages import wire_name
from livesync_trio.feed.tables import Column, Relation
from livesync_trio.feed.values import JSON

FEED_WRITE_MAX_CHANGES: Final = 500
"""Changes in one message, which are one transaction; the original's clients send 50."""

FEED_CLOCK_AHEAD_S: Final = 300.0
"""How far a client's clock may be ahead: who says `updated_at` wins, and would win until then."""

UPDATED_AT: Final = "updated_at"
_MOMENTS: Final = frozenset({1114, 1184})


class WriteRefused(Exception):
    """A message cannot be carried out, and nothing of it was; the text says why, in words for the client's author.

    Attributes:
        kind: how that is told.
        change: number of the change that was the reason, from 0; None for all of them.
    """

    def __init__(self, message: str, change: int | None = None, kind: Kind = Kind.WRITE_REFUSED) -> None:
        super().__init__(message)
        self.kind = kind
        self.change = change


class _TableChange(msgspec.Struct):
    table: str
    operation: Literal["insert", "update", "delete"]
    data: dict[str, msgspec.Raw]
    updated_at: str | None = None


_decode: Final = msgspec.json.Decoder(list[_TableChange]).decode
_text: Final = msgspec.json.Decoder(str).decode


@attrs.frozen
class Write:
    """One change of one row that may be tried.

    Attributes:
        number: its place in the message, from 0.
        relation: the table as the feed knows it.
        operation: `insert`, `update` or `delete`.
        id: what names the row, as the client is told it again.
        key: values of the key's columns.
        values: what is to be set besides, by column.
        updated: when the client made the change, for tables that say when a row was changed; else None.
    """

    number: int
    relation: Relation
    operation: str
    id: Any
    key: tuple[str, ...]
    values: Mapping[str, str | None]
    updated: str | None


def read(given: bytes, view: View, tables: Mapping[str, TableState], now: datetime) -> list[Write]:
    """What a client asks for.

    Args:
        given: the `changes` of its message.
        view: what it may see and write.
        tables: the tables of the feed as they are now.
        now: by the clock of the server.

    Raises:
        WriteRefused: it may not, or it is no list of changes.
    """
    try:
        changes = _decode(given or b"[]")
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise WriteRefused(f"changes must be a list of table, operation, data and updated_at: {error}") from None
    if not changes:
        raise WriteRefused("There are no changes in this message.")
    if len(changes) > FEED_WRITE_MAX_CHANGES:
        raise WriteRefused(f"{len(changes)} changes in one message; {FEED_WRITE_MAX_CHANGES} are allowed.")
    by_name = {wire_name(table): table for table in tables if table in view.grants and table in view.sights}
    by_name |= {table: table for table in by_name.values()}
    return [_read(number, change, view, tables, by_name, now) for number, change in enumerate(changes)]


def _read(  # noqa: PLR0917 - one change and all that is known
    number: int,
    change: _TableChange,
    view: View,
    tables: Mapping[str, TableState],
    by_name: Mapping[str, str],
    now: datetime,
) -> Write:
    table = by_name.get(change.table)
    if table is None:
        raise WriteRefused(f"You may not write to {_shown(change.table)}.", number, Kind.NOT_ALLOWED)
    state, grant = tables[table], view.grants[table]
    columns = tuple(Column(column.name, column.type_oid) for column in state.columns)
    types = dict(columns)
    relation = Relation(0, table, columns, tuple(list(types).index(name) for name in state.key))
    says_when = types.get(UPDATED_AT) in _MOMENTS
    may_set = _settable(types, grant, view.columns(table)) | ({UPDATED_AT} if says_when else set())
    for name in change.data:
        if name not in state.key and name not in may_set:
            raise WriteRefused(
                f"{_shown(change.table)} has no column {_shown(name)} that you may set.", number, Kind.NOT_ALLOWED
            )
    try:
        given = {name: _value(types[name], raw) for name, raw in change.data.items()}
        updated = _moment(change, given, now) if says_when else None
    except ValueError as error:
        raise WriteRefused(str(error), number) from None
    missing = [name for name in state.key if given.get(name) is None]
    if missing:
        raise WriteRefused(f"data does not say {', '.join(missing)}, which names the row.", number)
    if updated is not None:
        given[UPDATED_AT] = updated
    raw_key = [change.data[name] for name in state.key]
    key = tuple(str(given.pop(name)) for name in state.key)
    identity = raw_key[0] if len(raw_key) == 1 else raw_key
    return Write(number, relation, change.operation, identity, key, given, updated)


def _settable(types: Mapping[str, int], grant: Sight, seen: frozenset[str] | None) -> set[str]:
    """Columns that a client may set: it sees them, and they are granted."""
    return {
        name for name in types if (seen is None or name in seen) and (grant.columns is None or name in grant.columns)
    }


def _value(type_oid: int, raw: msgspec.Raw) -> str | None:
    """A JSON value as PostgreSQL reads it; numbers keep every digit. Raises ValueError."""
    written = bytes(raw).decode()
    if written == "null":
        return None
    if type_oid in JSON:
        text = written
    elif written[0] == '"':
        text = _text(written)
    elif written[0] in "[{":
        raise ValueError("a list or an object goes into a column of type json only; write an array as text, {1,2}")
    else:
        text = written
    if "\0" in text or "\\u0000" in text:
        raise ValueError("a text holds the character 0, which PostgreSQL does not take")
    text.encode()  # half a surrogate pair is none: UnicodeEncodeError is a ValueError
    return text


def _moment(change: _TableChange, given: Mapping[str, str | None], now: datetime) -> str:
    """When the change was made, in UTC as PostgreSQL reads it. Raises ValueError."""
    said = change.updated_at or given.get(UPDATED_AT)
    if said is None:
        raise ValueError("the change does not say when it was made: updated_at")
    try:
        moment = datetime.fromisoformat(said)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("updated_at is no moment such as 2026-11-28T10:00:00.000Z") from None
    if moment > now + timedelta(seconds=FEED_CLOCK_AHEAD_S):
        raise ValueError("updated_at lies in the future: set the client's clock")
    return moment.isoformat(sep=" ")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 100 else name[:100] + "…")


def ids_of(writes: Sequence[Write]) -> list[Any]:
    """What names the rows, in the order of the changes."""
    return [write.id for write in writes]
