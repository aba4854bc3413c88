"""One log takes the place of another in an SQLite file (`base.Adopt`), and what it replaced goes.

Owns these statements and their order; the connection and its transactions are the writer's. SQLite leaves what is
deleted in free pages and in the gaps of used ones, and old pages in the WAL. So once the rows of an erased log are
gone, and those of every log replaced before it, the file is written anew (VACUUM) and the WAL is cut to nothing. How
far that is stands in the database, so a server that is killed goes on where it was.
"""

import sqlite3
from typing import Final

from livesync_trio.model import StoreId
from livesync_trio.storage.base import Adopt, Appended, HeadMoved
from livesync_trio.storage.chain import adopted
from livesync_trio.storage.sqlite.reader import state_of

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
    found = state_of(connection, write.store_id)
    if found != write.replacing or state_of(connection, write.staged_id) != write.staged:
        return HeadMoved(found or write.staged)
    remove(connection, write.store_id, erased=write.erases)
    after = adopted(write)
    connection.execute(_MOVE, (write.store_id, after.backend_id, after.frozen, after.log_id))
    return Appended(after)


def remove(connection: sqlite3.Connection, store_id: StoreId, *, erased: bool = False) -> None:
    """Let there be no such store; its rows are cleared later."""
    connection.execute(NOTE_REPLACED, {"store_id": store_id, "erased": erased})
    connection.execute(DELETE_STORE, (store_id,))


REPLACED: Final = 0
"""The log was replaced: its rows go when there is time."""
ERASED: Final = 1
"""Its rows go, then the file is written anew."""
REWRITTEN: Final = 2
"""The file was written anew; the WAL still has pages of before."""

# The erased ones last: writing the file anew once does for all that was replaced before.
_NEXT: Final = "SELECT log_id, erased FROM livesync_7_replaced ORDER BY erased, log_id LIMIT 1"
_NEXT_WITH_ROWS: Final = """
    SELECT log_id FROM livesync_7_replaced AS replaced
    WHERE EXISTS (SELECT 1 FROM livesync_7_events AS events WHERE events.log_id = replaced.log_id)
    ORDER BY erased, log_id LIMIT 1
"""
_CLEAR_EVENTS: Final = """
    DELETE FROM livesync_7_events
    WHERE rowid IN (SELECT rowid FROM livesync_7_events WHERE log_id = ? ORDER BY seq_num LIMIT ?)
"""
_FORGET: Final = "DELETE FROM livesync_7_replaced WHERE erased = ?"
_NOTE_REWRITTEN: Final = "UPDATE livesync_7_replaced SET erased = ? WHERE erased = ?"


def nothing_left(connection: sqlite3.Connection) -> bool:
    """Whether there is nothing to clear. Writes nothing."""
    return connection.execute(_NEXT).fetchone() is None


def rewrites(connection: sqlite3.Connection) -> bool:
    """Whether the next step writes the whole file anew, for as long as that takes."""
    found = connection.execute(_NEXT).fetchone()
    return found is not None and found[1] == ERASED and connection.execute(_NEXT_WITH_ROWS).fetchone() is None


def clear_rows(connection: sqlite3.Connection, limit_events: int) -> int:
    """Delete up to so many rows, inside a transaction; of logs of which none is left, forget those not erased.

    Returns:
        How many went.
    """
    cleared = 0
    while cleared < limit_events:
        row = connection.execute(_NEXT_WITH_ROWS).fetchone()
        if row is None:
            connection.execute(_FORGET, (REPLACED,))
            break
        cleared += connection.execute(_CLEAR_EVENTS, (row[0], limit_events - cleared)).rowcount
    return cleared


def rewrite(connection: sqlite3.Connection) -> None:
    """Write the file anew, without what was deleted from it, and note that; outside a transaction."""
    connection.execute("PRAGMA temp_store = FILE")  # else the copy is made in memory
    try:
        connection.execute("VACUUM")
    finally:
        connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(_NOTE_REWRITTEN, (REWRITTEN, ERASED))


def cut_wal(connection: sqlite3.Connection) -> bool:
    """Leave nothing in the WAL, and then nothing to do. False: somebody reads from it."""
    (timeout_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute("PRAGMA busy_timeout = 0")  # a backup that reads shall not hold the pushes up
    try:
        (blocked, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {timeout_ms:d}")
    if not blocked:
        connection.execute(_FORGET, (REWRITTEN,))
    return not blocked
