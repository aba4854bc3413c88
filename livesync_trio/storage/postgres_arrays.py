"""Arrays as parameters of PostgreSQL statements, in its binary form.

Owns three kinds of list that psycopg sends as one value each. Many rows travel so in one statement, and event texts
without being escaped: that makes a group of appends one round trip (decision 0004).
"""

import struct
from typing import Final

import psycopg
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.pq import Format


class Bigints(list[int]):
    """`bigint[]`."""


class Texts(list[bytes]):
    """`text[]`; each element is UTF-8."""


class Byteas(list[bytes]):
    """`bytea[]`."""


_BYTEA_OID, _BIGINT_OID, _TEXT_OID = 17, 20, 25
_BYTEAS_OID, _BIGINTS_OID, _TEXTS_OID = 1001, 1016, 1009  # PostgreSQL's catalogue, pg_type.dat


def _head(element_oid: int, length: int) -> bytes:
    """One dimension, no NULLs, indexes from 1; an empty array has no dimension."""
    return struct.pack("!5i", 1, 0, element_oid, length, 1) if length else struct.pack("!3i", 0, 0, element_oid)


def _of_bytes(element_oid: int, elements: list[bytes]) -> bytes:
    parts = [_head(element_oid, len(elements))]
    for element in elements:
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

    def dump(self, obj: Texts) -> bytes:
        return _of_bytes(_TEXT_OID, obj)


class _ByteasDumper(Dumper):
    format = Format.BINARY
    oid = _BYTEAS_OID

    def dump(self, obj: Byteas) -> bytes:
        return _of_bytes(_BYTEA_OID, obj)


ADAPTERS: Final = AdaptersMap(psycopg.adapters)
"""psycopg's own ways to send values, and these."""
for _kind, _dumper in ((Bigints, _BigintsDumper), (Texts, _TextsDumper), (Byteas, _ByteasDumper)):
    ADAPTERS.register_dumper(_kind, _dumper)
