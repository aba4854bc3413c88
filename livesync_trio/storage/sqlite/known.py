"""Whose a log is, as the SQLite writer has met it: so that an append need not ask.

Owns that memory of one writer. The trigger of the schema knows logs only; that the log an append expects is one of its
store is looked up here, and in the database when it is not known.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import Adopt, Append, Appended, Outcome, PutRecord, Write

SQLITE_KNOWN_LOGS: Final = 16_384
"""Logs of which the writer remembers whose they are; an append to another one asks first."""

STORE_OF_LOG: Final = "SELECT store_id FROM livesync_7_stores WHERE log_id = ?"


class KnownLogs:
    """The stores of the logs that were met last.

    It is right as long as it hears of every write: nobody else writes to the file, the number of a log is never given
    out again, and a log goes to another store by an adoption only. When the outcome of a write is not known, `forget`.
    """

    def __init__(self) -> None:
        self._stores: dict[int, StoreId] = {}

    def __len__(self) -> int:
        return len(self._stores)

    def fits(self, connection: sqlite3.Connection, append: Append) -> bool:
        """Whether the log that an append expects is, or was, one of its store."""
        log_id = append.expected.log_id
        store_id = self._stores.get(log_id)
        if store_id is None:
            row = connection.execute(STORE_OF_LOG, (log_id,)).fetchone()
            if row is None:
                return False
            store_id = StoreId(row[0])
            self._learn(log_id, store_id)
        return store_id == append.store_id

    def learn(self, writes: Sequence[Write], outcomes: Iterable[Outcome | Exception]) -> None:
        """Take note of what has become durable."""
        for write, outcome in zip(writes, outcomes, strict=True):
            if isinstance(write, PutRecord):
                continue
            if isinstance(outcome, LogState):
                self._learn(outcome.log_id, write.store_id)
            elif isinstance(write, Adopt) and isinstance(outcome, Appended):
                self._learn(outcome.state.log_id, write.store_id)

    def forget(self) -> None:
        """Know nothing any more."""
        self._stores.clear()

    def _learn(self, log_id: int, store_id: StoreId) -> None:
        if log_id not in self._stores and len(self._stores) >= SQLITE_KNOWN_LOGS:
            del self._stores[next(iter(self._stores))]
        self._stores[log_id] = store_id
