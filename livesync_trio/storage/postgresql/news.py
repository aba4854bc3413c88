"""What servers on one PostgreSQL database tell each other: that a store has changed, and nothing more.

Owns the channel, the text of a notification, and the lock by which servers see each other. Told by a statement of its
own, never inside an append: PostgreSQL lets transactions that notify commit only one after the other. Who hears of a
store looks into the database.

The session that listens holds a shared advisory lock, which nobody ever waits for: so whoever could hear is seen, and
whoever is gone is not. How servers use that, and why they miss nobody who is just arriving: decision 0004.
"""

import json
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import sql

from livesync_trio.errors import StorageUnavailable
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.postgresql.connection import Session
from livesync_trio.storage.postgresql.reader import PostgresReader, translating
from livesync_trio.storage.shared import Heard

NOTIFY_PAYLOAD_MAX_BYTES: Final = 7_900
"""Text of one notification; PostgreSQL takes fewer than 8,000 bytes."""

# The number of the table is the same for all servers on it, and another one in another schema.
_CHANNEL: Final = "'livesync_7_' || 'livesync_7_stores'::regclass::oid"

_LISTENERS: Final = 0x6C697374
"""First half of the number of the advisory lock ("list" in ASCII); the table's number is the second."""

# In this order: whoever is heard was seen before.
_SHOW: Final = f"""
    SELECT pg_advisory_lock_shared({_LISTENERS}::bigint << 32 | 'livesync_7_stores'::regclass::oid::bigint),
        {_CHANNEL}, pg_backend_pid()
"""

_SEEN: Final = f"""
    SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
        AND classid = {_LISTENERS} AND objid = 'livesync_7_stores'::regclass::oid
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608 - made of constants

# What is lost in a crash of the database is looked up after it, so this does not wait for the disk.
_TELL: Final = f"""
    SELECT set_config('synchronous_commit', 'off', true), pg_notify({_CHANNEL}, payload)
    FROM unnest(%s::text[]) AS payloads (payload)
"""  # noqa: S608 - made of constants


class PostgresNews:
    """Tells the other servers, and looks after what they told (`shared.News`)."""

    def __init__(self, session: Session, sender: str) -> None:
        self._session = session
        self._sender = sender

    def tell(self, store_ids: Iterable[StoreId] | None) -> None:
        """Tell the other servers that stores have changed; see the contract."""
        told = [_text(self._sender, None)] if store_ids is None else list(payloads(self._sender, store_ids))
        with translating():
            self._session.ask(_TELL, (told,))

    def alone(self, session: int) -> bool:
        """Whether nobody else listens; see the contract. Asked here, where what is told comes from.

        A listener that is connected to another database than the writers, as after a failover, is not found.
        """
        with translating():
            return [pid for (pid,) in self._session.ask(_SEEN)] == [session]

    def states(self, store_ids: Iterable[StoreId]) -> dict[StoreId, LogState]:
        """States of those of the stores that exist; see the contract."""
        return PostgresReader(self._session).states(store_ids)

    def close(self) -> None:
        """Release the handle."""
        self._session.close()


class PostgresListener:
    """Hears what the other servers tell (`shared.Listener`)."""

    def __init__(self, session: Session, sender: str) -> None:
        """Connect, be seen, listen, and say so. Raises StorageUnavailable."""
        self._session = session
        self._sender = sender
        with translating():
            [(_, channel, pid)] = session.ask(_SHOW)
            session.connection().execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            session.ask(_TELL, ([json.dumps({"from": sender, _ARRIVED: True})],))
            # Behind a pooler, whose sessions several servers share, nobody is seen: never alone, as if there were two.
            self.session: int = pid if pid == session.connection().info.backend_pid else _NOBODY

    def fileno(self) -> int:
        """Readable when there is something to hear."""
        with self._losing():
            return self._session.connection().fileno()

    def hear_nowait(self) -> Heard:
        """What others have told since it was last asked; see the contract."""
        stores: set[StoreId] = set()
        arrived = False
        with self._losing():
            for notification in self._session.connection().notifies(timeout=0):
                message = _message(notification.payload)
                if message.get("from") == self._sender:
                    continue
                if message.get(_ARRIVED) is True:
                    arrived = True
                elif isinstance(message.get("stores"), list):
                    stores.update(StoreId(str(store)) for store in message["stores"])
                else:
                    return Heard(None, arrived=True)  # whatever it was, and whatever else there is
        return Heard(stores, arrived)

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
            yield _text(sender, stores)
            stores, size_bytes = [], 0
        stores.append(store_id)
        size_bytes += needed
    if stores:
        yield _text(sender, stores)


_ARRIVED: Final = "arrived"
"""Servers of before do not know the word, and look at all stores."""

_NOBODY: Final = 0
"""No session has this number."""


def _text(sender: str, stores: list[StoreId] | None) -> str:
    return json.dumps({"from": sender, "stores": stores})


def _message(payload: str) -> dict[str, Any]:
    """What a notification says; nothing at all when it is not one of ours."""
    try:
        message = json.loads(payload)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}
