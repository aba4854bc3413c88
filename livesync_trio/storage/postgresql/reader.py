"""Reads logs out of PostgreSQL. Each question is one statement, hence one snapshot and one round trip."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

import psycopg

from livesync_trio.errors import LogReplaced
from livesync_trio.model import BackendId, LogState, StoredEvent, StoreId
from livesync_trio.storage.base import Rank, Record, StoreOrder, StoreSummary
from livesync_trio.storage.chain import check_continues, check_ends, check_no_hole
from livesync_trio.storage.postgresql import records
from livesync_trio.storage.postgresql.arrays import Byteas, Texts
from livesync_trio.storage.postgresql.connection import Session, translated

_STATES: Final = """
    SELECT store_id, log_id, backend_id, head, event_count, frozen FROM livesync_7_stores WHERE store_id = ANY (%s)
"""

_ALL: Final = """
    SELECT store_id, log_id, backend_id, head, event_count, frozen, text_bytes,
        to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
        to_char(last_push_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
    FROM livesync_7_stores
    WHERE {behind} AND (%(containing)s = '\\x'::bytea OR position(%(containing)s IN store_id) > 0)
    ORDER BY {order} LIMIT %(limit)s
"""
_SUMMARIES: Final = _ALL.format(behind="store_id >= %(first)s", order="store_id")


def _ranking(value: str, kind: str) -> str:
    last = f"%(last)s::{kind}"
    behind = f"({last} IS NULL OR {value} < {last} OR ({value} = {last} AND store_id >= %(first)s))"
    return _ALL.format(behind=behind, order=f"{value} DESC, store_id")


_PUSHED: Final = (
    """coalesce(to_char(last_push_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), '')"""
    ' COLLATE "C"'
)
_NOTHING: Final[Mapping[str, int | str | None]] = MappingProxyType({})
_RANKED: Final[Mapping[StoreOrder, str]] = {
    "size": _ranking("text_bytes", "bigint"),
    "head": _ranking("head", "bigint"),
    "last push": _ranking(_PUSHED, "text"),
}

# `span` looks at sizes only (octet_length reads no text that is stored out of line), so that long texts beyond the
# limit are never fetched. Whether the log is still the current one comes with the rows, or alone when there are none.
_PAGE: Final = """
    SELECT page.seq_num, page.ordinal, convert_to(page.event, 'UTF8'),
        to_char(page.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), page.pushed_by,
        page.append_id, page.parent_seq_num
    FROM (SELECT FROM livesync_7_stores WHERE log_id = %(log_id)s) AS current LEFT JOIN (
        SELECT * FROM (
            SELECT seq_num, parent_seq_num, ordinal, event, created_at, pushed_by, append_id,
                sum(octet_length(event)) OVER (ORDER BY seq_num ROWS UNBOUNDED PRECEDING) AS total_bytes
            FROM livesync_7_events
            WHERE log_id = %(log_id)s AND seq_num > %(after)s AND seq_num <= %(up_to)s
            ORDER BY seq_num LIMIT %(limit_events)s
        ) AS span
        WHERE total_bytes <= %(limit_bytes)s OR total_bytes = octet_length(event)
    ) AS page ON true
    ORDER BY page.seq_num
"""

# What stands behind an event, and where the log should end; nothing where the log is not the current one any more.
_BEHIND: Final = """
    SELECT stores.head, (
        SELECT parent_seq_num FROM livesync_7_events AS events
        WHERE events.log_id = stores.log_id AND events.seq_num > %s ORDER BY seq_num LIMIT 1
    )
    FROM livesync_7_stores AS stores WHERE stores.log_id = %s
"""


_DATABASE_BYTES: Final = "SELECT pg_database_size(current_database())"

_NUMBERS_OF_IDS: Final = """
    SELECT append_id, seq_num FROM livesync_7_append_ids
    WHERE log_id = %s AND append_id = ANY (%s) AND EXISTS (SELECT FROM livesync_7_stores WHERE log_id = %s)
"""


_LEFT_OF_LOG: Final = """
    SELECT EXISTS (SELECT FROM livesync_7_stores WHERE log_id = %s)
        OR EXISTS (SELECT FROM livesync_7_replaced WHERE log_id = %s)
"""


class PostgresReader:
    """Reads logs (`base.Reader`)."""

    def __init__(self, session: Session) -> None:
        """Nothing is opened before the first question."""
        self._session = session

    def read(self, log: LogState, after: int, up_to: int, limit_events: int, limit_bytes: int) -> list[StoredEvent]:
        """Events of one log in ascending order; see the contract."""
        with translating():
            rows = self._session.ask(
                _PAGE,
                {
                    "log_id": log.log_id,
                    "after": after,
                    "up_to": up_to,
                    "limit_events": limit_events,
                    "limit_bytes": limit_bytes,
                },
            )
        if not rows:
            raise _replaced(log)
        if rows[0][0] is None:
            self._check_end(log, after, up_to)
            return []
        check_no_hole(log, len(rows), rows[0][1], rows[-1][1])
        check_continues(log, after, rows[0][-1])
        if len(rows) < limit_events:
            self._check_end(log, rows[-1][0], up_to)
        return [StoredEvent(*row[:-1]) for row in rows]

    def _check_end(self, log: LogState, last: int, up_to: int) -> None:
        """Check that nothing is missing behind a page that ends before its range does; see `check_ends`."""
        if last >= up_to:
            return
        with translating():
            rows = self._session.ask(_BEHIND, (last, log.log_id))
        if not rows:
            raise _replaced(log)
        check_ends(log, last, *rows[0])

    def numbers_of(self, log: LogState, append_ids: Sequence[str]) -> dict[str, int]:
        """Numbers of events by their ids; see the contract."""
        question = log.log_id, Texts(append_id.encode() for append_id in append_ids), log.log_id
        with translating():
            return dict(self._session.ask(_NUMBERS_OF_IDS, question))

    def is_cleared(self, log: LogState) -> bool:
        """Whether nothing is left of a log; see the contract."""
        with translating():
            [(left,)] = self._session.ask(_LEFT_OF_LOG, (log.log_id, log.log_id))
        return not left

    def state(self, store_id: StoreId) -> LogState | None:
        """State of a store; see the contract."""
        return self.states([store_id]).get(store_id)

    def summary(self, store_id: StoreId) -> StoreSummary | None:
        """What is kept about a store; see the contract."""
        name = store_id.encode()
        found = self._summaries(name, b"", 1)
        return found[0] if found and found[0].store_id == store_id else None

    def stores(self, after: StoreId | None, limit: int, containing: str = "") -> list[StoreSummary]:
        """Stores in ascending order; see the contract."""
        first = b"" if after is None else after.encode() + b"\0"  # the first name that can come after another one
        return self._summaries(first, containing.encode(), limit)

    def ranked(self, order: StoreOrder, after: Rank | None, limit: int, containing: str = "") -> list[StoreSummary]:
        """Stores by rank; see the contract."""
        last, first = (None, b"") if after is None else (after[0], after[1].encode() + b"\0")
        return self._summaries(first, containing.encode(), limit, _RANKED[order], {"last": last})

    def _summaries(
        self,
        first: bytes,
        containing: bytes,
        limit: int,
        statement: str = _SUMMARIES,
        more: Mapping[str, int | str | None] = _NOTHING,
    ) -> list[StoreSummary]:
        with translating():
            rows = self._session.ask(statement, {"first": first, "containing": containing, "limit": limit, **more})
        return [
            StoreSummary(StoreId(row[0].decode()), log_state(row[1:6]), int(row[6]), row[7], row[8]) for row in rows
        ]

    def database_bytes(self) -> int:
        """How large the database is, with everything in it (`base.Sized`)."""
        with translating():
            [(size_bytes,)] = self._session.ask(_DATABASE_BYTES, ())
        return int(size_bytes)

    def record(self, kind: str, key: str) -> Record | None:
        """One record; see the contract."""
        with translating():
            return records.record(self._session, kind, key)

    def records(self, kind: str, after: str | None, limit: int) -> list[Record]:
        """Records of a kind in ascending order; see the contract."""
        with translating():
            return records.records(self._session, kind, after, limit)

    def states(self, store_ids: Iterable[StoreId]) -> dict[StoreId, LogState]:
        """States of those of the stores that exist.

        Raises:
            StorageUnavailable: try again later.
        """
        with translating():
            return states(self._session, [store_id.encode() for store_id in store_ids])

    def close(self) -> None:
        """Release the handle."""
        self._session.close()


def states(session: Session, store_ids: Sequence[bytes]) -> dict[StoreId, LogState]:
    """States of those of the stores that exist. Raises what `Session.ask` raises."""
    rows = session.ask(_STATES, (Byteas(store_ids),))
    return {StoreId(store_id.decode()): log_state(row) for store_id, *row in rows}


def log_state(row: Sequence[Any]) -> LogState:
    """The state of a log from its number, identity, head and count, and whether it is frozen."""
    log_id, backend_id, head, event_count, frozen = row
    return LogState(log_id, BackendId(backend_id), head, event_count, frozen)


def _replaced(log: LogState) -> LogReplaced:
    return LogReplaced(f"log {log.log_id} has been replaced")


@contextmanager
def translating() -> Iterator[None]:
    """Turn errors of psycopg into those of the contract."""
    try:
        yield
    except psycopg.Error as error:
        failure = translated(error)
        if failure is None:
            raise
        raise failure from error
