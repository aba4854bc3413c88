"""Reads logs out of an SQLite file: a page of history, or what is known about its stores, in one step of the database.

Owns one connection that reads. Each question is one statement, hence one snapshot, and its answer is one row: Python's
`sqlite3` gives up the interpreter lock around every row and must win it back after it, which under a busy Trio thread
costs milliseconds a time. A page of 1,000 rows fetched one by one took seconds there; as one row it takes what
it takes alone (decision 0003).
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from livesync_trio.errors import LogReplaced, StorageUnavailable, StoreDamaged
from livesync_trio.limits import SQLITE_READER_CACHE_KIB
from livesync_trio.model import BackendId, LogState, StoredEvent, StoreId
from livesync_trio.storage.base import Rank, Record, StoreOrder, StoreSummary
from livesync_trio.storage.chain import check_ends
from livesync_trio.storage.sqlite.connection import Connector, translated
from livesync_trio.storage.sqlite.page import (
    BEHIND,
    CHECKSUMS,
    CUT_PAGE,
    WHOLE_PAGE,
    Page,
    changed,
    events_of,
    is_as_written,
)
from livesync_trio.storage.sqlite.records import RECORD, RECORDS, records_of

# All stores in one value, since every row costs a fight for the interpreter lock. Texts are sent in
# hexadecimal digits: a name may hold any character, the separators too.
SUMMARY: Final = """
    SELECT hex(store_id) || ' ' || log_id || ' ' || hex(backend_id) || ' ' || head || ' ' || event_count || ' ' ||
        text_bytes || ' ' || hex(created_at) || ' ' || hex(coalesce(last_push_at, '')) || ' ' || frozen
    FROM livesync_7_stores WHERE store_id = :store_id
"""
_ALL: Final = """
    SELECT group_concat(
        hex(store_id) || ' ' || log_id || ' ' || hex(backend_id) || ' ' || head || ' ' || event_count || ' ' ||
        text_bytes || ' ' || hex(created_at) || ' ' || hex(coalesce(last_push_at, '')) || ' ' || frozen
    )
    FROM (
        SELECT * FROM livesync_7_stores
        WHERE {behind} AND (:containing = '' OR instr(store_id, :containing))
        ORDER BY {order} LIMIT :limit
    )
"""
SUMMARIES: Final = _ALL.format(behind="store_id >= :first", order="store_id")


def _ranking(value: str) -> str:
    behind = f"(:last IS NULL OR {value} < :last OR ({value} = :last AND store_id >= :first))"
    return _ALL.format(behind=behind, order=f"{value} DESC, store_id")


RANKED: Final[Mapping[StoreOrder, str]] = {
    "size": _ranking("text_bytes"),
    "head": _ranking("head"),
    "last push": _ranking("coalesce(last_push_at, '')"),
}
"""The same by rank; `last` is the value behind which they begin."""


def next_name(after: str | None) -> str:
    """The first name that can come after another one: the same with a U+0000 behind it."""
    return "" if after is None else f"{after}\0"


def summaries(answer: tuple[str | None] | None) -> list[StoreSummary]:
    """The stores in the row that answers `SUMMARY` or `SUMMARIES`.

    Raises:
        StoreDamaged: what is stored is no summary.
    """
    if answer is None or answer[0] is None:
        return []
    try:
        return [_summary(store.split(" ")) for store in answer[0].split(",")]
    except ValueError as error:
        raise StoreDamaged(f"The list of stores is damaged ({error}): restore a backup.") from error


def _summary(fields: list[str]) -> StoreSummary:
    store_id, log_id, backend_id, head, event_count, text_bytes, created_at, last_push_at, frozen = fields
    state = LogState(int(log_id), BackendId(_text(backend_id)), int(head), int(event_count), frozen == "1")
    return StoreSummary(
        StoreId(_text(store_id)), state, int(text_bytes), _text(created_at), _text(last_push_at) or None
    )


def _text(digits: str) -> str:
    return bytes.fromhex(digits).decode()


# The row is asked for its name, since a bit that a disk flips in the index of names leads to another store's row.
STATE_OF_STORE: Final = """
    SELECT log_id, own.backend_id, own.head, own.event_count, own.frozen FROM livesync_7_stores AS named
    JOIN livesync_7_stores AS own USING (log_id) WHERE named.store_id = ?1 AND own.store_id = ?1
"""


# All of them in one value, since every row costs a fight for the interpreter lock (head of this file).
_NUMBERS_OF_IDS: Final = """
    SELECT json_group_object(append_id, seq_num) FROM livesync_7_events
    WHERE log_id = :log_id AND append_id IN (SELECT value FROM json_each(:append_ids))
        AND EXISTS (SELECT 1 FROM livesync_7_stores WHERE log_id = :log_id)
"""


_LEFT_OF_LOG: Final = """
    SELECT EXISTS (SELECT 1 FROM livesync_7_stores WHERE log_id = :log_id)
        OR EXISTS (SELECT 1 FROM livesync_7_replaced WHERE log_id = :log_id)
"""


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
        page = Page(*self._ask(WHOLE_PAGE, question))
        if not page.events:  # nothing in the range, or too much for one answer
            page = Page(*self._ask(CUT_PAGE, question))
        if not page.is_current:
            raise _replaced(log)
        if not page.events:
            self._check_end(log, after, up_to)
            return []
        events = events_of(page, log, after, up_to)
        if not is_as_written(page, log, events):
            span = {"log_id": log.log_id, "first": events[0].seq_num, "last": events[-1].seq_num}
            raise changed(log, events, self._ask(CHECKSUMS, span)[0])
        if len(events) < limit_events:
            self._check_end(log, events[-1].seq_num, up_to)
        return events

    def _check_end(self, log: LogState, last: int, up_to: int) -> None:
        """Check that nothing is missing behind a page that ends before its range does; see `check_ends`."""
        if last >= up_to:
            return
        behind = self._ask(BEHIND, {"log_id": log.log_id, "last": last})
        if behind is None:
            raise _replaced(log)
        check_ends(log, last, *behind)

    def state(self, store_id: StoreId) -> LogState | None:
        """State of a store; see the contract."""
        row = self._ask(STATE_OF_STORE, (store_id,))
        return None if row is None else log_state(row)

    def numbers_of(self, log: LogState, append_ids: Sequence[str]) -> dict[str, int]:
        """Numbers of events by their ids; see the contract."""
        question = {"log_id": log.log_id, "append_ids": msgspec.json.encode(append_ids).decode()}
        numbers: dict[str, int] = msgspec.json.decode(self._ask(_NUMBERS_OF_IDS, question)[0])
        return numbers

    def is_cleared(self, log: LogState) -> bool:
        """Whether nothing is left of a log; see the contract."""
        (left,) = self._ask(_LEFT_OF_LOG, {"log_id": log.log_id})
        return not left

    def summary(self, store_id: StoreId) -> StoreSummary | None:
        """What is kept about a store; see the contract."""
        found = summaries(self._ask(SUMMARY, {"store_id": store_id}))
        return found[0] if found else None

    def stores(self, after: StoreId | None, limit: int, containing: str = "") -> list[StoreSummary]:
        """Stores in ascending order; see the contract."""
        question = {"first": next_name(after), "containing": containing, "limit": limit}
        return summaries(self._ask(SUMMARIES, question))

    def ranked(self, order: StoreOrder, after: Rank | None, limit: int, containing: str = "") -> list[StoreSummary]:
        """Stores by rank; see the contract."""
        last, name = (None, None) if after is None else after
        question = {"last": last, "first": next_name(name), "containing": containing, "limit": limit}
        return summaries(self._ask(RANKED[order], question))

    def record(self, kind: str, key: str) -> Record | None:
        """One record; see the contract."""
        found = records_of(self._ask(RECORD, {"kind": kind, "key": key}))
        return found[0] if found else None

    def records(self, kind: str, after: str | None, limit: int) -> list[Record]:
        """Records of a kind in ascending order; see the contract."""
        return records_of(self._ask(RECORDS, {"kind": kind, "first": next_name(after), "limit": limit}))

    def _begin(self, connection: sqlite3.Connection) -> None:
        """What is done with a new connection: nothing, each question is a moment of its own."""

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
                self._begin(self._connection)
            return self._connection.execute(statement, parameters).fetchone()
        except sqlite3.Error as error:
            self.close()
            failure = translated(error, self._connector.path)
            if failure is None:
                raise
            raise failure from error


class SqliteSnapshot(SqliteReader):
    """Reads logs as they are at one moment: everything in one transaction, begun with the first question."""

    def __init__(self, connector: Connector) -> None:
        """Nothing is opened before the first question."""
        super().__init__(connector)
        self._begun = False

    def _begin(self, connection: sqlite3.Connection) -> None:
        if self._begun:
            raise StorageUnavailable("The snapshot is lost after an error: begin again.")
        self._begun = True
        connection.execute("BEGIN")


def log_state(row: tuple[int, str, int, int, int]) -> LogState:
    """The state of a log from a row of `STATE_OF_STORE`."""
    log_id, backend_id, head, event_count, frozen = row
    return LogState(log_id, BackendId(backend_id), head, event_count, bool(frozen))


def state_of(connection: sqlite3.Connection, store_id: StoreId) -> LogState | None:
    """The state of a store's log as this connection sees it; None when there is no such store."""
    row = connection.execute(STATE_OF_STORE, (store_id,)).fetchone()
    return None if row is None else log_state(row)


def _replaced(log: LogState) -> LogReplaced:
    return LogReplaced(f"log {log.log_id} has been replaced")
