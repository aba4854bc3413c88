"""What servers on one PostgreSQL database tell each other: that a store has changed, and nothing more.

Owns the channel and the text of a notification. Told by a statement of its own, never inside an append: PostgreSQL
lets transactions that notify commit only one after the other. Who hears of a store looks into the database.
"""

import json
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import sql

from livesync_trio.errors import StorageUnavailable
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.postgresql.connection import Session
from livesync_trio.storage.postgresql.reader import PostgresReader, translating

NOTIFY_PAYLOAD_MAX_BYTES: Final = 7_900
"""Text of one notification; PostgreSQL takes fewer than 8,000 bytes."""

# The number of the table is the same for all servers on it, and another one in another schema.
_CHANNEL: Final = "'livesync_7_' || 'livesync_7_stores'::regclass::oid"

# What is lost in a crash of the database is looked up after it, so this does not wait for the disk.
_TELL: Final = f"""
    SELECT set_config('synchronous_commit', 'off', true), pg_notify({_CHANNEL}, payload)
    FROM unnest(%s::text[]) AS payloads (payload)
"""  # noqa: S608 - made of constants


class PostgresNews:
    """Tells the other servers, and looks after what they told (`base.News`)."""

    def __init__(self, session: Session, sender: str) -> None:
        self._session = session
        self._sender = sender

    def tell(self, store_ids: Iterable[StoreId]) -> None:
        """Tell the other servers that stores have changed; see the contract."""
        with translating():
            self._session.ask(_TELL, (list(payloads(self._sender, store_ids)),))

    def states(self, store_ids: Iterable[StoreId]) -> dict[StoreId, LogState]:
        """States of those of the stores that exist; see the contract."""
        return PostgresReader(self._session).states(store_ids)

    def close(self) -> None:
        """Release the handle."""
        self._session.close()


class PostgresListener:
    """Hears what the other servers tell (`base.Listener`)."""

    def __init__(self, session: Session, sender: str) -> None:
        """Connect and listen. Raises StorageUnavailable."""
        self._session = session
        self._sender = sender
        with translating():
            [(channel,)] = session.ask(f"SELECT {_CHANNEL}")
            session.connection().execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))

    def fileno(self) -> int:
        """Readable when there is something to hear."""
        with self._losing():
            return self._session.connection().fileno()

    def hear_nowait(self) -> set[StoreId] | None:
        """Stores others have changed since it was last asked; see the contract."""
        heard: set[StoreId] = set()
        with self._losing():
            for notification in self._session.connection().notifies(timeout=0):
                stores = _stores(notification.payload, self._sender)
                if stores is None:
                    return None
                heard |= stores
        return heard

    def check(self) -> None:
        """Find out whether anything would be heard at all; see the contract."""
        with self._losing():
            self._session.connection().execute("SELECT")

    def close(self) -> None:
        """Release the handle."""
        self._session.close()

    @contextmanager
    def _losing(self) -> Iterator[None]:
        """A listener that failed once has missed something and is of no more use."""
        try:
            yield
        except psycopg.Error as error:
            self._session.close()
            raise StorageUnavailable(f"Notifications cannot be received: {error}") from error


def new_sender() -> str:
    """A name for one server, so that it does not listen to itself."""
    return secrets.token_hex(8)


def payloads(sender: str, store_ids: Iterable[StoreId]) -> Iterator[str]:
    """Notifications that name stores: few, each short enough."""
    stores: list[StoreId] = []
    size_bytes = 0
    for store_id in store_ids:
        needed = len(json.dumps(store_id)) + 2
        if stores and size_bytes + needed > NOTIFY_PAYLOAD_MAX_BYTES - len(sender) - 32:
            yield json.dumps({"from": sender, "stores": stores})
            stores, size_bytes = [], 0
        stores.append(store_id)
        size_bytes += needed
    if stores:
        yield json.dumps({"from": sender, "stores": stores})


def _stores(payload: str, receiver: str) -> set[StoreId] | None:
    """Stores a notification names; none when it is the receiver's own, None when it cannot be read."""
    try:
        message = json.loads(payload)
        return set() if message["from"] == receiver else {StoreId(str(store)) for store in message["stores"]}
    except (ValueError, TypeError, KeyError):
        return None
