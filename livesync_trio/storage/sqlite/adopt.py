"""A staged log takes its place in an SQLite file (`base.Adopt`).

Owns those statements; the transaction is the writer's.
"""

import sqlite3
from typing import Final

from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import Adopt, Appended, HeadMoved
from livesync_trio.storage.chain import adopted
from livesync_trio.storage.sqlite.reader import STATE_OF_STORE, log_state

# An empty log leaves nothing to clear.
NOTE_REPLACED: Final = """
    INSERT INTO livesync_7_replaced (log_id, store_id, backend_id, head, event_count, created_at, erased)
    SELECT log_id, store_id, backend_id, head, event_count, created_at, :erased FROM livesync_7_stores AS stores
    WHERE store_id = :store_id
        AND EXISTS (SELECT 1 FROM livesync_7_events AS events WHERE events.log_id = stores.log_id)
"""
DELETE_STORE: Final = "DELETE FROM livesync_7_stores WHERE store_id = ?"
_MOVE: Final = "UPDATE livesync_7_stores SET store_id = ?, backend_id = ?, frozen = ? WHERE log_id = ?"


def adopt(connection: sqlite3.Connection, write: Adopt) -> Appended | HeadMoved:
    """Carry out one adoption inside a transaction."""
    found = _state(connection, write.store_id)
    if found != write.replacing or _state(connection, write.staged_id) != write.staged:
        return HeadMoved(found or write.staged)
    remove(connection, write.store_id, erased=write.erases)
    after = adopted(write)
    connection.execute(_MOVE, (write.store_id, after.backend_id, after.frozen, after.log_id))
    return Appended(after)


def remove(connection: sqlite3.Connection, store_id: StoreId, *, erased: bool = False) -> None:
    """Let there be no such store; its rows are cleared later."""
    connection.execute(NOTE_REPLACED, {"store_id": store_id, "erased": erased})
    connection.execute(DELETE_STORE, (store_id,))


def _state(connection: sqlite3.Connection, store_id: StoreId) -> LogState | None:
    row = connection.execute(STATE_OF_STORE, (store_id,)).fetchone()
    return None if row is None else log_state(row)
