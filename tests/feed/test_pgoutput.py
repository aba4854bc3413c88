"""The decoder: every message it knows, and whatever else may come."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livesync_trio.feed import pgoutput
from livesync_trio.feed.pgoutput import UNCHANGED, BadMessage, decode

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
values = st.lists(st.none() | text | st.just(UNCHANGED), max_size=5).map(tuple)
oid = st.integers(0, 2**32 - 1)


def in_bytes(row: pgoutput.Values) -> bytes:
    out = struct.pack("!H", len(row))
    for value in row:
        if value is None:
            out += b"n"
        elif isinstance(value, str):
            out += b"t" + struct.pack("!I", len(value.encode())) + value.encode()
        else:
            out += b"u"
    return out


@given(oid, values, values, st.sampled_from("KO"))
def test_changes_of_rows(table: int, old: pgoutput.Values, new: pgoutput.Values, kind: str) -> None:
    head = struct.pack("!I", table)
    assert decode(b"I" + head + b"N" + in_bytes(new)) == pgoutput.Insert(table, new)
    assert decode(b"U" + head + b"N" + in_bytes(new)) == pgoutput.Update(table, "", None, new)
    both = b"U" + head + kind.encode() + in_bytes(old) + b"N" + in_bytes(new)
    assert decode(both) == pgoutput.Update(table, kind, old, new)
    assert decode(b"D" + head + kind.encode() + in_bytes(old)) == pgoutput.Delete(table, kind, old)


@given(oid, text, text, st.lists(st.tuples(text, oid, st.integers(-1, 2**31 - 1)), max_size=4))
def test_relations(table: int, schema: str, name: str, columns: list[tuple[str, int, int]]) -> None:
    data = b"R" + struct.pack("!I", table) + schema.encode() + b"\0" + name.encode() + b"\0d"
    data += struct.pack("!H", len(columns))
    for column, type_oid, modifier in columns:
        data += b"\1" + column.encode() + b"\0" + struct.pack("!Ii", type_oid, modifier)
    expected = tuple(pgoutput.SeenColumn(*column) for column in columns)
    assert decode(data) == pgoutput.Seen(table, schema or "pg_catalog", name, "d", expected)


def test_the_frame_of_a_transaction_and_the_rest() -> None:
    assert decode(b"B" + struct.pack("!QqI", 5, 1, 7)) == pgoutput.Begin(5, pgoutput.EPOCH_US + 1, 7)
    assert decode(b"C" + struct.pack("!BQQq", 0, 5, 9, 1)) == pgoutput.Committed(5, 9, pgoutput.EPOCH_US + 1)
    assert decode(b"T" + struct.pack("!IBII", 2, 0, 3, 4)) == pgoutput.Truncate((3, 4))
    assert decode(b"M" + struct.pack("!BQ", 1, 5) + b"us\0" + struct.pack("!I", 2) + b"hi") == pgoutput.Said(True, "us")
    assert decode(b"Oanything") == pgoutput.Other("O")


@settings(max_examples=200)
@given(
    st.binary(max_size=60)
    | st.tuples(st.sampled_from(b"BCRIUDTMOY"), st.binary(max_size=60)).map(lambda p: bytes([p[0]]) + p[1])
)
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    with suppress(BadMessage):
        decode(data)


@given(oid, values.filter(bool), st.data())
def test_no_part_of_a_message_is_a_message(table: int, row: pgoutput.Values, data: st.DataObject) -> None:
    whole = b"I" + struct.pack("!I", table) + b"N" + in_bytes(row)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(BadMessage):
        decode(whole[:cut])
    with pytest.raises(BadMessage):
        decode(whole + b"x")
