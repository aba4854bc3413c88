"""Rows of replaced logs go, and of an erased log every byte (`base.Writer.clear_replaced`).

Owns these statements and their order; the connection is the writer's. SQLite leaves what is deleted in free pages and
in the gaps of used ones, and old pages in the WAL. So once the rows of an erased log are gone, and those of every log
replaced before it, the file is written anew (VACUUM) and the WAL is cut to nothing. How far that is stands in the
database, so a server that is killed goes on where it was.
"""

import sqlite3
from typing import Final

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
