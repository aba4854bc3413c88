"""The messages of the change feed's WebSocket, as the clients of the original know them, in both of its dialects.

What is sent is made here, what arrives is read here. Pure.
"""

import datetime
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from livesync_trio.feed.tables import Relation, Row
from livesync_trio.feed.values import json_of

Dialect = Literal["current", "first"]
"""The messages of May 2025, or of March 2025."""

_PUBLIC: Final = "public."
encode: Final = msgspec.json.Encoder().encode


class Incoming(msgspec.Struct, frozen=True):
    """What a client may send; everything else in a message is ignored."""

    type: str
    table: str | None = None
    chunk: int | None = None
    lsn: str | None = None
    lastLSN: str | None = None  # noqa: N815 - the original's names
    messageId: str | None = None  # noqa: N815
    changes: msgspec.Raw = msgspec.Raw()


_decode: Final = msgspec.json.Decoder(Incoming).decode


def read(data: bytes) -> Incoming:
    """A client's message. Raises ValueError."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"not a message of this protocol: {error}") from None


def wire_name(table: str) -> str:
    """A table as clients know it: without the schema `public`."""
    return table.removeprefix(_PUBLIC)


def iso(us: int) -> str:
    """A moment, in microseconds since 1970."""
    moment = datetime.datetime.fromtimestamp(us / 1e6, datetime.timezone.utc)  # noqa: UP017 - as the rest
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def data_of(relation: Relation, row: Row, columns: frozenset[str] | None, *, key_only: bool = False) -> msgspec.Raw:
    """A row as it is sent."""
    wanted = relation.key if key_only else range(len(relation.columns))
    data = {
        relation.columns[at].name: json_of(relation.columns[at].type_oid, row[at])
        for at in wanted
        if columns is None or relation.columns[at].name in columns or at in relation.key
    }
    return msgspec.Raw(encode(data))


def updated_at(relation: Relation, row: Row, us: int) -> str:
    """When a row changed: what its column of that name says, else when it was committed."""
    at = relation.place("updated_at")
    return iso(us) if at is None else row[at] or iso(us)


_WORDS: Final = {"i": "insert", "u": "update", "d": "delete"}


def change(table: str, operation: str, data: msgspec.Raw, updated: str, lsn: str | None) -> Mapping[str, Any]:
    """One change of one row. `operation`: i, u or d."""
    told = {"table": wire_name(table), "operation": _WORDS[operation], "data": data, "updated_at": updated}
    return told if lsn is None else {**told, "lsn": lsn}
