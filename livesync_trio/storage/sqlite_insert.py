"""Appends as rows, and rows as few statements: the hot path of the SQLite engine.

Owns the one INSERT and how appends are laid out for it. Pure but for `insert`; the caller owns the transaction.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

from livesync_trio.limits import SQLITE_INSERT_MAX_BYTES, SQLITE_INSERT_MAX_ROWS
from livesync_trio.storage.base import Append
from livesync_trio.storage.chain import chained_events

Row = tuple[str | None, int, int, int, int, str, bytes]
"""One event as it is bound: store id (with the first event of an append, else None), log id, number, parent, ordinal,
time, text."""

# The log is looked up together with the store's name where that is given: a log of another store is not found, NULL
# continues no head, and the trigger refuses. Rows of NULLs fill the statement up to its length.
_INSERT: Final = """
    WITH rows (store_id, log_id, seq_num, parent_seq_num, ordinal, created_at, event) AS (VALUES {rows})
    INSERT INTO livesync_7_events (log_id, seq_num, parent_seq_num, ordinal, size_bytes, created_at, event)
    SELECT
        CASE WHEN store_id IS NULL THEN log_id ELSE (
            SELECT stores.log_id FROM livesync_7_stores AS stores
            WHERE stores.log_id = rows.log_id AND stores.store_id = rows.store_id
        ) END,
        seq_num, parent_seq_num, ordinal, length(event), created_at, CAST(event AS TEXT)
    FROM rows WHERE log_id IS NOT NULL
"""
_PARAMETERS: Final = "(?, ?, ?, ?, ?, ?, ?)"
_FILLER: Final = (None,) * 7
_STATEMENTS: Final[dict[int, str]] = {}
"""The INSERT by its number of rows, a power of two."""


def add_rows(rows: list[Row], append: Append) -> None:
    """Add the events of an append to `rows`.

    Raises:
        ValueError: they are not a chain.
    """
    log_id, created_at = append.expected.log_id, append.created_at
    store_id: str | None = append.store_id
    for ordinal, event in enumerate(chained_events(append), append.expected.event_count + 1):
        rows.append((store_id, log_id, event.seq_num, event.parent_seq_num, ordinal, created_at, event.json))
        store_id = None


def chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Cut rows into statements, each bounded in rows and bytes; a single larger event is one of its own."""
    start, size_bytes = 0, 0
    for index, row in enumerate(rows):
        size_bytes += len(row[-1])
        if index > start and (index - start == SQLITE_INSERT_MAX_ROWS or size_bytes > SQLITE_INSERT_MAX_BYTES):
            yield rows[start:index]
            start, size_bytes = index, len(row[-1])
    if start < len(rows):
        yield rows[start:]


def insert(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Insert one chunk of rows; the trigger moves the heads.

    There is a statement for each power of two, so that a dozen of them, compiled once, serve every number of rows:
    to compile one costs twice as much as to run it (decision 0003).

    Raises:
        sqlite3.IntegrityError: a row does not continue the head of its log. None was inserted.
    """
    length = 1 << (len(rows) - 1).bit_length()
    parameters = [value for row in rows for value in row]
    parameters += _FILLER * (length - len(rows))
    connection.execute(_statement(length), parameters)


def _statement(length: int) -> str:
    statement = _STATEMENTS.get(length)
    if statement is None:
        statement = _STATEMENTS[length] = _INSERT.format(rows=", ".join([_PARAMETERS] * length))
    return statement
