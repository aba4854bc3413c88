"""What becomes of a store as a whole in PostgreSQL (`base.Adopt`, `Delete`, `Freeze`).

Each is one transaction: the rows are locked, compared after that, and changed.
"""

from typing import Final

import psycopg

from livesync_trio.errors import StorageUnavailable
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import Adopt, Appended, Delete, Freeze, HeadMoved, NoStore
from livesync_trio.storage.chain import adopted
from livesync_trio.storage.postgresql.arrays import Byteas
from livesync_trio.storage.postgresql.connection import Connection, Session, is_unclear
from livesync_trio.storage.postgresql.reader import log_state, states

_DURABLY: Final = "SELECT livesync_7_durably()"
_LOCK: Final = """
    SELECT store_id, log_id, backend_id, head, event_count, frozen FROM livesync_7_stores
    WHERE store_id = ANY (%s) ORDER BY log_id FOR UPDATE
"""
_NOTE_REPLACED: Final = """
    INSERT INTO livesync_7_replaced (log_id, store_id, backend_id, head, event_count, created_at)
    SELECT log_id, store_id, backend_id, head, event_count, created_at FROM livesync_7_stores WHERE store_id = %s
"""
_DELETE_STORE: Final = "DELETE FROM livesync_7_stores WHERE store_id = %s"
_MOVE: Final = "UPDATE livesync_7_stores SET store_id = %s, backend_id = %s, frozen = %s WHERE log_id = %s"
_FREEZE: Final = "UPDATE livesync_7_stores SET frozen = %s WHERE store_id = %s"


def adopt(session: Session, write: Adopt) -> Appended | HeadMoved:
    """Carry out one adoption.

    Raises:
        ValueError: a name is not Unicode.
        psycopg.Error: it failed, and has had no effect.
        StorageUnavailable: nobody can tell now whether it happened.
    """
    try:
        connection = session.connection()
        with connection.transaction():
            return _adopted(connection, write)
    except psycopg.errors.UniqueViolation:  # made by another server since we looked
        return HeadMoved(states(session, [write.store_id.encode()]).get(write.store_id, write.staged))
    except psycopg.Error as error:
        session.close()
        if not is_unclear(error):
            raise
        if states(session, [write.store_id.encode()]).get(write.store_id) == adopted(write):
            return Appended(adopted(write))
        raise StorageUnavailable("The database was lost before it answered: look whether it was done.") from error


def _adopted(connection: Connection, write: Adopt) -> Appended | HeadMoved:
    store_id, staged_id = write.store_id.encode(), write.staged_id.encode()
    connection.execute(_DURABLY)
    rows = connection.execute(_LOCK, (Byteas([store_id, staged_id]),), binary=True).fetchall()
    found: dict[StoreId, LogState] = {StoreId(name.decode()): log_state(row) for name, *row in rows}
    if found.get(write.store_id) != write.replacing or found.get(write.staged_id) != write.staged:
        return HeadMoved(found.get(write.store_id, write.staged))
    if write.replacing is not None:
        connection.execute(_NOTE_REPLACED, (store_id,))
        connection.execute(_DELETE_STORE, (store_id,))
    after = adopted(write)
    connection.execute(_MOVE, (store_id, after.backend_id, after.frozen, after.log_id))
    return Appended(after)


def delete(session: Session, write: Delete) -> NoStore:
    """Let there be no such store. Raises as `adopt`."""
    store_id = write.store_id.encode()
    try:
        connection = session.connection()
        with connection.transaction():
            connection.execute(_DURABLY)
            if connection.execute(_LOCK, (Byteas([store_id]),)).fetchall():
                connection.execute(_NOTE_REPLACED, (store_id,))
                connection.execute(_DELETE_STORE, (store_id,))
        return NoStore()
    except psycopg.Error as error:
        session.close()
        if not is_unclear(error):
            raise
        if not states(session, [store_id]):
            return NoStore()
        raise StorageUnavailable("The database was lost before it answered: look whether it was done.") from error


def freeze(session: Session, write: Freeze) -> LogState | NoStore:
    """Let a store take no more events, or take them again. Raises as `adopt`."""
    store_id = write.store_id.encode()
    try:
        connection = session.connection()
        with connection.transaction():
            connection.execute(_DURABLY)
            connection.execute(_FREEZE, (write.frozen, store_id))
            rows = connection.execute(_LOCK, (Byteas([store_id]),), binary=True).fetchall()
        return log_state(rows[0][1:]) if rows else NoStore()
    except psycopg.Error as error:
        session.close()
        if not is_unclear(error):
            raise
        found = states(session, [store_id]).get(write.store_id)
        if found is not None and found.frozen == write.frozen:
            return found
        raise StorageUnavailable("The database was lost before it answered: look whether it was done.") from error
