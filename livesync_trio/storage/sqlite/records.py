"""Records in an SQLite file: one statement to write one, one row to read any number.

Owns these statements; the connections are those of `writer` and `reader`. The version is the number of the row, and a
record that is replaced is another row: SQLite gives no number of this table out twice.
"""

import sqlite3
from typing import Final

from livesync_trio.errors import StoreDamaged
from livesync_trio.storage.base import NO_RECORD, PutRecord, Record, RecordMoved, RecordStored

TABLE: Final = """
    CREATE TABLE livesync_7_records (
        version INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        UNIQUE (kind, key)
    )
"""

_PUT: Final = """
    INSERT OR REPLACE INTO livesync_7_records (kind, key, value) SELECT :kind, :key, :value
    WHERE coalesce((SELECT version FROM livesync_7_records WHERE kind = :kind AND key = :key), 0) = :expected
"""
_DELETE: Final = "DELETE FROM livesync_7_records WHERE kind = :kind AND key = :key AND version = :expected"

# Texts are sent in hexadecimal digits, since they may hold any character, and many records in one value (`summaries`).
RECORD: Final = """
    SELECT hex(key) || ' ' || version || ' ' || hex(value) FROM livesync_7_records WHERE kind = :kind AND key = :key
"""
RECORDS: Final = """
    SELECT group_concat(hex(key) || ' ' || version || ' ' || hex(value))
    FROM (
        SELECT * FROM livesync_7_records WHERE kind = :kind AND key >= :first ORDER BY key LIMIT :limit
    )
"""


def put(connection: sqlite3.Connection, write: PutRecord) -> RecordStored | RecordMoved:
    """Carry out one write, inside a transaction."""
    named: dict[str, object] = {"kind": write.kind, "key": write.key, "expected": write.expected}
    if write.value is None:
        changed = connection.execute(_DELETE, named).rowcount
        version = NO_RECORD
    else:
        cursor = connection.execute(_PUT, {**named, "value": write.value.decode()})
        changed, version = cursor.rowcount, cursor.lastrowid or NO_RECORD
    return RecordStored(version) if changed else RecordMoved(found(connection, write.kind, write.key))


def found(connection: sqlite3.Connection, kind: str, key: str) -> Record | None:
    """The record that is there."""
    records = records_of(connection.execute(RECORD, {"kind": kind, "key": key}).fetchone())
    return records[0] if records else None


def records_of(answer: tuple[str | None] | None) -> list[Record]:
    """The records in the row that answers `RECORD` or `RECORDS`. Raises StoreDamaged."""
    if answer is None or answer[0] is None:
        return []
    try:
        return [_record(*record.split(" ")) for record in answer[0].split(",")]
    except ValueError as error:
        raise StoreDamaged(f"The list of records is damaged ({error}): restore a backup.") from error


def _record(key: str, version: str, value: str) -> Record:
    return Record(bytes.fromhex(key).decode(), bytes.fromhex(value), int(version))
