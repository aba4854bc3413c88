"""Reads logs out of an SQLite file: a page of history in one step of the database.

Owns one connection that reads. Each question is one statement, hence one snapshot, and its answer is one row: Python's
`sqlite3` gives up the interpreter lock around every row and must win it back after it, which under a busy Trio thread
costs milliseconds a time. A page of 1,000 rows fetched one by one took seconds there; as one row it takes what
it takes alone (decision 0003).
"""

import sqlite3
from collections.abc import Mapping
from itertools import accumulate, count, pairwise, starmap
from operator import lt
from typing import Any, Final

from livesync_trio.errors import LogReplaced, StoreDamaged
from livesync_trio.limits import SQLITE_READER_CACHE_KIB
from livesync_trio.model import BackendId, LogState, StoredEvent, StoreId
from livesync_trio.storage.chain import check_continues, check_no_hole
from livesync_trio.storage.sqlite_connection import Connector, translated

STATE_OF_STORE: Final = """
    SELECT log_id, backend_id, head, event_count FROM livesync_7_stores WHERE store_id = ?
"""

# All events of the range up to the limit in number, if all their texts are within the limit in bytes; else none. Their
# sizes are asked first, so that long texts beyond the limit are never fetched.
_WHOLE_PAGE: Final = """
    SELECT
        EXISTS (SELECT 1 FROM livesync_7_stores WHERE log_id = :log_id),
        count(*), min(parent_seq_num), min(ordinal), max(ordinal),
        group_concat(seq_num), group_concat(size_bytes), group_concat(created_at),
        CAST(group_concat(event, '') AS BLOB)
    FROM (
        SELECT seq_num, parent_seq_num, ordinal, size_bytes, created_at, event FROM livesync_7_events
        WHERE log_id = :log_id AND seq_num > :after AND seq_num <= :up_to AND :limit_bytes >= (
            SELECT sum(size_bytes) FROM (
                SELECT size_bytes FROM livesync_7_events
                WHERE log_id = :log_id AND seq_num > :after AND seq_num <= :up_to
                ORDER BY seq_num LIMIT :limit_events
            )
        )
        ORDER BY seq_num LIMIT :limit_events
    )
"""

# The same for a range that exceeds the limit in bytes: cut at it by a running total, which costs twice as much. Rows
# come in the order of the index, and CROSS JOIN keeps SQLite from turning the join round: the texts do, too.
_CUT_PAGE: Final = """
    WITH span AS (
        SELECT rowid AS id, seq_num, parent_seq_num, ordinal, size_bytes, created_at,
            sum(size_bytes) OVER (ORDER BY seq_num ROWS UNBOUNDED PRECEDING) AS total_bytes
        FROM livesync_7_events
        WHERE log_id = :log_id AND seq_num > :after AND seq_num <= :up_to
        ORDER BY seq_num LIMIT :limit_events
    )
    SELECT
        EXISTS (SELECT 1 FROM livesync_7_stores WHERE log_id = :log_id),
        count(*), min(span.parent_seq_num), min(span.ordinal), max(span.ordinal),
        group_concat(span.seq_num), group_concat(span.size_bytes), group_concat(span.created_at),
        CAST(group_concat(event, '') AS BLOB)
    FROM span CROSS JOIN livesync_7_events AS events ON events.rowid = span.id
    WHERE span.total_bytes <= :limit_bytes OR span.total_bytes = span.size_bytes
"""
_SEPARATOR: Final = ","
"""What `group_concat` puts between two values."""


class SqliteReader:
    """Reads logs (`base.Reader`)."""

    def __init__(self, connector: Connector) -> None:
        """Nothing is opened before the first question."""
        self._connector = connector
        self._connection: sqlite3.Connection | None = None

    def read(self, log: LogState, after: int, up_to: int, limit_events: int, limit_bytes: int) -> list[StoredEvent]:
        """Events of one log in ascending order; see the contract."""
        question = {
            "log_id": log.log_id,
            "after": after,
            "up_to": up_to,
            "limit_events": limit_events,
            "limit_bytes": limit_bytes,
        }
        row = self._ask(_WHOLE_PAGE, question)
        if not row[1]:  # nothing in the range, or too much for one answer
            row = self._ask(_CUT_PAGE, question)
        is_current, events, first_parent, first_ordinal, last_ordinal, seq_nums, sizes, created_ats, texts = row
        if not is_current:
            raise LogReplaced(f"log {log.log_id} has been replaced")
        if not events:
            return []
        check_no_hole(log, events, first_ordinal, last_ordinal)
        check_continues(log, after, first_parent)
        try:
            bounds = list(accumulate(map(int, sizes.split(_SEPARATOR)), initial=0))
            numbers = list(map(int, seq_nums.split(_SEPARATOR)))
        except ValueError:
            raise _damaged(log) from None
        moments = created_ats.split(_SEPARATOR)
        if bounds[-1] != len(texts) or not len(bounds) - 1 == len(numbers) == len(moments) == events:
            raise _damaged(log)
        if not (after < numbers[0] and numbers[-1] <= up_to and all(map(lt, numbers, numbers[1:]))):
            raise _damaged(log)
        return list(
            map(
                StoredEvent,
                numbers,
                count(first_ordinal),
                map(texts.__getitem__, starmap(slice, pairwise(bounds))),
                moments,
            )
        )

    def state(self, store_id: StoreId) -> LogState | None:
        """State of a store; see the contract."""
        row = self._ask(STATE_OF_STORE, (store_id,))
        return None if row is None else log_state(row)

    def close(self) -> None:
        """Release the handle."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, statement: str, parameters: tuple[object, ...] | Mapping[str, object]) -> Any:
        """The only row of an answer, None when there is none.

        Raises:
            StorageUnavailable, StoreDamaged: the next question is asked on a new connection.
        """
        try:
            if self._connection is None:
                self._connection = self._connector.connect(SQLITE_READER_CACHE_KIB)
                self._connection.execute("PRAGMA query_only = ON")
            return self._connection.execute(statement, parameters).fetchone()
        except sqlite3.Error as error:
            self.close()
            failure = translated(error, self._connector.path)
            if failure is None:
                raise
            raise failure from error


def _damaged(log: LogState) -> StoreDamaged:
    return StoreDamaged(
        f"Log {log.log_id} is damaged: what is stored beside its events does not fit them. "
        "Restore a backup, or reset the store."
    )


def log_state(row: tuple[int, str, int, int]) -> LogState:
    """The state of a log from a row of `STATE_OF_STORE`."""
    log_id, backend_id, head, event_count = row
    return LogState(log_id, BackendId(backend_id), head, event_count)
