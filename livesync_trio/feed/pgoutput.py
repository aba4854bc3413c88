"""What PostgreSQL's `pgoutput` says, protocol version 1, values as text: bytes in, messages out.

Knows no sockets. Whatever the bytes are, the answer is a message or `BadMessage`.
"""

import struct
from typing import Final, NamedTuple

EPOCH_US: Final = 946_684_800_000_000
"""PostgreSQL counts microseconds from 2000; this is that moment since 1970."""


class BadMessage(ValueError):
    """Bytes that are no message of the protocol."""


class Unchanged:
    """A large value that an UPDATE did not touch and that is therefore not sent (TOAST)."""

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged()
Value = str | None | Unchanged
Values = tuple[Value, ...]


class Begin(NamedTuple):
    """A transaction begins; it will commit at `commit_lsn`."""

    commit_lsn: int
    committed_us: int
    xid: int


class Committed(NamedTuple):
    """It is over; `end_lsn` is behind its record."""

    commit_lsn: int
    end_lsn: int
    committed_us: int


class SeenColumn(NamedTuple):
    """A column of a relation. `modifier`: of its type, such as the length of a `varchar`; -1 for none."""

    name: str
    type_oid: int
    modifier: int


class Seen(NamedTuple):
    """What a relation looks like from now on. `identity`: `d`efault, `n`othing, `f`ull, `i`ndex."""

    oid: int
    schema: str
    name: str
    identity: str
    columns: tuple[SeenColumn, ...]


class Insert(NamedTuple):
    """A row came."""

    oid: int
    new: Values


class Update(NamedTuple):
    """A row changed. `old`: its key (`old_kind` K) if that changed, or all of it (O) with a full identity."""

    oid: int
    old_kind: str
    old: Values | None
    new: Values


class Delete(NamedTuple):
    """A row went; of `old` only the key is there with `old_kind` K."""

    oid: int
    old_kind: str
    old: Values


class Truncate(NamedTuple):
    """Tables were emptied."""

    oids: tuple[int, ...]


class Said(NamedTuple):
    """A message that somebody put into the log with `pg_logical_emit_message`."""

    transactional: bool
    prefix: str


class Other(NamedTuple):
    """An origin or a type: of no use here."""

    kind: str


Message = Begin | Committed | Seen | Insert | Update | Delete | Truncate | Said | Other

_BEGIN: Final = struct.Struct("!QqI")
_COMMIT: Final = struct.Struct("!BQQq")
_OID: Final = struct.Struct("!I")
_COUNT: Final = struct.Struct("!H")
_COLUMN: Final = struct.Struct("!Ii")
_TRUNCATE: Final = struct.Struct("!IB")
_SAID: Final = struct.Struct("!BQ")
_LENGTH: Final = _OID.unpack_from
_TEXT, _NULL, _UNCHANGED = b"tnu"


def decode(data: bytes) -> Message:
    """The message that `data` is. Raises BadMessage."""
    try:
        message, end = _decode(data)
    except (struct.error, IndexError, ValueError) as error:
        raise BadMessage(f"a message of kind {data[:1]!r} cannot be read: {error}") from error
    if end not in (len(data), _ANYWHERE):
        raise BadMessage(f"a message of kind {data[:1]!r} has {len(data) - end} bytes too many")
    return message


_ANYWHERE: Final = -1


def _decode(data: bytes) -> tuple[Message, int]:
    match data[:1]:
        case b"I":
            return _insert(data)
        case b"U":
            return _update(data)
        case b"D":
            return _delete(data)
        case b"B":
            commit_lsn, us, xid = _BEGIN.unpack_from(data, 1)
            return Begin(commit_lsn, us + EPOCH_US, xid), 21
        case b"C":
            _, commit_lsn, end_lsn, us = _COMMIT.unpack_from(data, 1)
            return Committed(commit_lsn, end_lsn, us + EPOCH_US), 26
        case b"R":
            return _seen(data)
        case b"T":
            count, _ = _TRUNCATE.unpack_from(data, 1)
            end = 6 + 4 * count
            if end > len(data):
                raise ValueError("it is cut off")
            return Truncate(struct.unpack_from(f"!{count}I", data, 6)), end
        case b"M":
            flags, _ = _SAID.unpack_from(data, 1)
            prefix, at = _text(data, 10)
            (length,) = _OID.unpack_from(data, at)
            return Said(bool(flags & 1), prefix), at + 4 + length
        case b"O" | b"Y":
            return Other(data[:1].decode()), _ANYWHERE
        case _:
            raise ValueError("there is no such kind")


def _insert(data: bytes) -> tuple[Message, int]:
    (oid,) = _OID.unpack_from(data, 1)
    _expect(data, 5, b"N")
    new, end = _values(data, 6)
    return Insert(oid, new), end


def _update(data: bytes) -> tuple[Message, int]:
    (oid,) = _OID.unpack_from(data, 1)
    at, kind, old = 5, "", None
    if data[5:6] in (b"K", b"O"):
        kind = data[5:6].decode()
        old, at = _values(data, 6)
    _expect(data, at, b"N")
    new, end = _values(data, at + 1)
    return Update(oid, kind, old, new), end


def _delete(data: bytes) -> tuple[Message, int]:
    (oid,) = _OID.unpack_from(data, 1)
    kind = data[5:6]
    if kind not in (b"K", b"O"):
        raise ValueError("a deleted row is neither key nor old")
    old, end = _values(data, 6)
    return Delete(oid, kind.decode(), old), end


def _seen(data: bytes) -> tuple[Message, int]:
    (oid,) = _OID.unpack_from(data, 1)
    schema, at = _text(data, 5)
    name, at = _text(data, at)
    identity = data[at : at + 1].decode("ascii")
    (count,) = _COUNT.unpack_from(data, at + 1)
    at += 3
    columns = []
    for _ in range(count):
        column, at = _text(data, at + 1)
        columns.append(SeenColumn(column, *_COLUMN.unpack_from(data, at)))
        at += 8
    return Seen(oid, schema or "pg_catalog", name, identity, tuple(columns)), at


def _values(data: bytes, at: int) -> tuple[Values, int]:
    (count,) = _COUNT.unpack_from(data, at)
    at += 2
    # Of an ASCII message the values are slices of one text, which is most of what is ever read.
    text = data[at:].decode("ascii") if data.isascii() else None
    values: list[Value] = []
    add = values.append
    begin = at
    for _ in range(count):
        kind = data[at]
        if kind == _TEXT:
            end = at + 5 + _LENGTH(data, at + 1)[0]
            if end > len(data):
                raise ValueError("a value is cut off")
            add(data[at + 5 : end].decode() if text is None else text[at + 5 - begin : end - begin])
            at = end
            continue
        if kind == _NULL:
            add(None)
        elif kind == _UNCHANGED:
            add(UNCHANGED)
        else:
            raise ValueError(f"a value of kind {kind:#x}")
        at += 1
    return tuple(values), at


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(0, at)
    return data[at:end].decode(), end + 1


def _expect(data: bytes, at: int, kind: bytes) -> None:
    if data[at : at + 1] != kind:
        raise ValueError(f"{kind!r} is missing")
