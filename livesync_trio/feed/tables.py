"""The nouns of the feed: tables as they were at some moment, changes of rows, commits."""

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import attrs
import msgspec

from livesync_trio.feed.position import Position

Row = tuple[str | None, ...]
"""Values of one row, as PostgreSQL writes them as text, in the order of the relation's columns."""

KEY_MAX_CHARACTERS: Final = 500
"""An index of PostgreSQL takes 2,704 bytes."""

_encode_json = msgspec.json.Encoder().encode
_decode_values = msgspec.json.Decoder(list[str | None]).decode


class Column(NamedTuple):
    """A column: its name, and the OID of its type."""

    name: str
    type_oid: int


@attrs.frozen
class Relation:
    """One version of a table.

    Attributes:
        version: number under which the history knows it.
        table: `schema.name`, as in the configuration.
        columns: in the order in which rows hold them.
        key: places of the columns that name a row.
    """

    version: int
    table: str
    columns: tuple[Column, ...]
    key: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    def place(self, name: str) -> int | None:
        """Place of a column; None when there is none of that name."""
        return next((at for at, column in enumerate(self.columns) if column.name == name), None)

    def key_of(self, values: Sequence[str | None]) -> str:
        """What names a row: its key columns as JSON; of a long one the beginning and a digest, as an index takes it."""
        key = text_of([values[at] for at in self.key] if len(self.key) > 1 else (values[self.key[0]],))
        if len(key) <= KEY_MAX_CHARACTERS:
            return key
        return key[: KEY_MAX_CHARACTERS - 65] + "#" + hashlib.sha256(key.encode()).hexdigest()

    def from_other(self, other: "Relation", row: Row) -> Row:
        """A row of another version of the table, as this one has it: what it did not know is NULL."""
        if other.columns == self.columns:
            return row
        known = dict(zip(other.names, row, strict=True))
        return tuple(known.get(name) for name in self.names)


class Change(NamedTuple):
    """One row was changed.

    Attributes:
        position: its commit, and its number in it.
        relation: version of the table.
        operation: `i`nsert, `u`pdate or `d`elete. A row whose key changes is deleted and inserted.
        key: names the row.
        row: as it is now; None when it is gone.
        old: as it was; None when it was not there.
        old_relation: version of the table that `old` is of.
    """

    position: Position
    relation: int
    operation: str
    key: str
    row: Row | None
    old: Row | None
    old_relation: int | None


class Commit(NamedTuple):
    """A transaction of the source that changed something.

    Attributes:
        commit_lsn: its place in the order.
        committed_us: when, in microseconds since 1970 by the clock of the source.
        changes: how many rows.
        xid: number of the transaction in the source; 0 for what was found by comparing.
    """

    commit_lsn: int
    committed_us: int
    changes: int
    xid: int = 0


def text_of(values: Sequence[str | None] | None) -> str:
    """Values as they are stored."""
    return _encode_json(values).decode()


def row_of(text: str | bytes) -> Row:
    """Values as they were stored."""
    return tuple(_decode_values(text))
