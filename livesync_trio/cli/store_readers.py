"""Looking at stores: one `StoreReader`, of a database or of a running server.

Owns the questions; the commands print the answers. A database is read beside whatever server uses it; a running server
is asked by its control plane.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import attrs
import msgspec

from livesync_trio.archive.reading import all_stores, newest_first
from livesync_trio.cli.control_plane import ControlPlane
from livesync_trio.cli.resources import database_to_read, no_such_store
from livesync_trio.config import load
from livesync_trio.limits import ADMIN_PAGE_MAX, READ_MAX_BYTES, READ_MAX_EVENTS
from livesync_trio.model import LogState, StoredEvent, StoreId
from livesync_trio.storage.base import Engine, Reader, StoreSummary
from livesync_trio.version import VERSION
from livesync_trio.wire.choice import Choice
from livesync_trio.wire.reading import plain, read


class _Members(msgspec.Struct):
    seqNum: int  # noqa: N815 -- the wire's names
    parentSeqNum: int  # noqa: N815
    name: msgspec.Raw
    args: msgspec.Raw
    clientId: msgspec.Raw  # noqa: N815
    sessionId: msgspec.Raw  # noqa: N815
    createdAt: str = ""  # noqa: N815
    user: str | None = None


_members: Final = msgspec.json.Decoder(_Members)


@attrs.frozen
class Event:
    """One event.

    Attributes:
        text: JSON with the members of the wire, `createdAt`, and `user` where it is known; `args` byte for byte.
        seq_num: its number.
        name: its name.
        args: its arguments, as JSON text.
        client_id: the client that pushed it.
        session_id: that client's session.
        created_at: when it was pushed.
    """

    text: bytes
    seq_num: int
    name: str
    args: str
    client_id: str
    session_id: str
    created_at: str


def read_event(text: bytes) -> Event:
    """Read the text of an event, with `createdAt`."""
    members, restore = read(_members, text)
    name, client_id, session_id = (
        str(plain(restore(raw))) for raw in (members.name, members.clientId, members.sessionId)
    )
    args = restore(members.args).decode()
    return Event(text, members.seqNum, name, args, client_id, session_id, members.createdAt)


def event_of(event: StoredEvent) -> Event:
    """An event as storage gives it."""
    user = b"" if event.user is None else b',"user":%b' % msgspec.json.encode(event.user)
    return read_event(b'%b,"createdAt":"%b"%b}' % (event.json[:-1], event.created_at.encode(), user))


class StoreReader(Protocol):
    """Where stores can be looked at. Everything raises CommandError, also when there is no such store."""

    def stores(self, containing: str) -> Iterator[dict[str, Any]]:
        """Every store whose name has this text in it, in the order of their names."""

    def events(self, store_id: StoreId, after: int, choice: Choice) -> Iterator[Event]:
        """Wanted events of a store behind a number, oldest first."""

    def newest(self, store_id: StoreId, choice: Choice) -> Iterator[Event]:
        """Wanted events of a store, newest first."""

    def tail(self, store_id: StoreId, after: int | None) -> Iterator[Event]:
        """Events as they come, without end; from the head on when `after` is None."""

    def info(self) -> dict[str, Any]:
        """What it is."""


@contextmanager
def reading(url: str | None, flags: dict[str, Any]) -> Iterator[StoreReader]:
    """The running server at `url`, or the database that the flags name. Raises StartupError or CommandError."""
    config = load(flags, os.environ)
    if url is not None:
        plane = ControlPlane(url, config.admin_secret)
        with plane.understood():
            yield ServerReader(plane)
        return
    with database_to_read(config) as engine:
        reader = engine.reader()
        try:
            yield DatabaseReader(engine, reader)
        finally:
            reader.close()


_TAIL_LOOK_S: Final = 0.5
"""How often a tail looks for new events."""


class DatabaseReader:
    """A database (`StoreReader`)."""

    def __init__(self, engine: Engine, reader: Reader) -> None:
        """`engine` is open for reading; `reader` is closed by who made it."""
        self._engine = engine
        self._reader = reader

    def stores(self, containing: str) -> Iterator[dict[str, Any]]:
        """See `StoreReader`."""
        return map(_as_json, all_stores(self._reader, containing))

    def events(self, store_id: StoreId, after: int, choice: Choice) -> Iterator[Event]:
        """See `StoreReader`."""
        return map(event_of, filter(choice.takes, self._behind(self._state(store_id), after)))

    def newest(self, store_id: StoreId, choice: Choice) -> Iterator[Event]:
        """See `StoreReader`."""
        return map(event_of, filter(choice.takes, newest_first(self._reader, self._state(store_id))))

    def tail(self, store_id: StoreId, after: int | None) -> Iterator[Event]:
        """See `StoreReader`; looks at the database again and again."""
        state = self._state(store_id)
        seen = state.head if after is None else after
        while True:
            found = self._state(store_id)
            if found.log_id != state.log_id:
                state, seen = found, 0
            for event in self._behind(found, seen):
                seen = event.seq_num
                yield event_of(event)
            time.sleep(_TAIL_LOOK_S)

    def info(self) -> dict[str, Any]:
        """See `StoreReader`: version, database, totals."""
        stores = events = size_bytes = 0
        for summary in all_stores(self._reader):
            stores += 1
            events += summary.state.event_count
            size_bytes += summary.text_bytes
        return {
            "version": VERSION,
            "engine": self._engine.name,
            "database": self._engine.describe(),
            "stores": stores,
            "events": events,
            "bytes": size_bytes,
        }

    def _state(self, store_id: StoreId) -> LogState:
        try:
            state = self._reader.state(store_id)
        except UnicodeEncodeError:
            state = None
        if state is None:
            raise no_such_store(store_id)
        return state

    def _behind(self, log: LogState, after: int) -> Iterator[StoredEvent]:
        while after < log.head:
            events = self._reader.read(log, after, log.head, READ_MAX_EVENTS, READ_MAX_BYTES)
            if not events:
                return
            yield from events
            after = events[-1].seq_num


def _as_json(summary: StoreSummary) -> dict[str, Any]:
    return {
        "storeId": summary.store_id,
        "head": summary.state.head,
        "backendId": summary.state.backend_id,
        "events": summary.state.event_count,
        "bytes": summary.text_bytes,
        "createdAt": summary.created_at,
        "lastPushAt": summary.last_push_at,
        "frozen": summary.state.frozen,
    }


class ServerReader:
    """A running server (`StoreReader`). It chooses what is wanted; pages follow each other as they are taken."""

    def __init__(self, plane: ControlPlane) -> None:
        """`plane`: its control plane."""
        self._plane = plane

    def stores(self, containing: str) -> Iterator[dict[str, Any]]:
        """See `StoreReader`."""
        texts = self._plane.all("/stores", "stores", containing=containing or None, limit=ADMIN_PAGE_MAX)
        return map(plain, texts)

    def events(self, store_id: StoreId, after: int, choice: Choice) -> Iterator[Event]:
        """See `StoreReader`."""
        return self._events(store_id, choice, after=after)

    def newest(self, store_id: StoreId, choice: Choice) -> Iterator[Event]:
        """See `StoreReader`."""
        return self._events(store_id, choice, order="descending")

    def _events(self, store_id: StoreId, choice: Choice, **query: str | int | None) -> Iterator[Event]:
        wanted = {
            "name": choice.name,
            "clientId": choice.client_id,
            "sessionId": choice.session_id,
            "since": choice.since,
            "until": choice.until,
        }
        texts = self._plane.all("/store/events", "events", storeId=store_id, limit=ADMIN_PAGE_MAX, **wanted, **query)
        return map(read_event, texts)

    def tail(self, store_id: StoreId, after: int | None) -> Iterator[Event]:
        """See `StoreReader`; ends when the server does."""
        for kind, data in self._plane.messages("/store/tail", storeId=store_id, after=after):
            if kind == "message":
                yield read_event(data)
            elif kind == "end":
                return

    def info(self) -> dict[str, Any]:
        """See `StoreReader`: what the server says of itself."""
        return self._plane.get("/info")
