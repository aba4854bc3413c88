"""Arrays as parameters of PostgreSQL statements, in its binary form.

Owns four kinds of list that psycopg sends as one value each. Many rows travel so in one statement, and event texts
without being escaped: that makes a group of appends one round trip (decision 0004).
"""

import struct
from collections.abc import Sequence
from typing import Final

import psycopg
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.pq import Format


class Bigints(list[int]):
    """`bigint[]`."""


class Texts(list[bytes]):
    """`text[]`; each element is UTF-8."""


class OptionalTexts(list[bytes | None]):
    """`text[]` in which an element may be NULL."""


class Byteas(list[bytes]):
    """`bytea[]`."""


_BYTEA_OID, _BIGINT_OID, _TEXT_OID = 17, 20, 25
_BYTEAS_OID, _BIGINTS_OID, _TEXTS_OID = 1001, 1016, 1009  # PostgreSQL's catalogue, pg_type.dat


_NULL: Final = b"\xff" * 4
"""Length of an element that is NULL: -1."""


def _head(element_oid: int, length: int, *, nulls: bool = False) -> bytes:
    """One dimension, with or without NULLs, indexes from 1; an empty array has no dimension."""
    return struct.pack("!5i", 1, nulls, element_oid, length, 1) if length else struct.pack("!3i", 0, 0, element_oid)


def _of_bytes(element_oid: int, elements: Sequence[bytes | None]) -> bytes:
    parts = [_head(element_oid, len(elements), nulls=None in elements)]
    for element in elements:
        if element is None:
            parts.append(_NULL)
        else:
            parts.append(len(element).to_bytes(4))
            parts.append(element)
    return b"".join(parts)


class _BigintsDumper(Dumper):
    format = Format.BINARY
    oid = _BIGINTS_OID

    def dump(self, obj: Bigints) -> bytes:
        sized = [value for number in obj for value in (8, number)]
        return _head(_BIGINT_OID, len(obj)) + struct.pack("!" + "iq" * len(obj), *sized)


class _TextsDumper(Dumper):
    format = Format.BINARY
    oid = _TEXTS_OID

    def dump(self, obj: Texts | OptionalTexts) -> bytes:
        return _of_bytes(_TEXT_OID, obj)


class _ByteasDumper(Dumper):
    format = Format.BINARY
    oid = _BYTEAS_OID

    def dump(self, obj: Byteas) -> bytes:
        return _of_bytes(_BYTEA_OID, obj)


ADAPTERS: Final = AdaptersMap(psycopg.adapters)
"""psycopg's own ways to send values, and these."""
for _kind, _dumper in (
    (Bigints, _BigintsDumper),
    (Texts, _TextsDumper),
    (OptionalTexts, _TextsDumper),
    (Byteas, _ByteasDumper),
):
    ADAPTERS.register_dumper(_kind, _dumper)
