"""What is to be seen of stores, in a database or of a running server: one face for both.

Owns the questions; the commands show the answers.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

from livesync_trio.archive.reading import all_stores
from livesync_trio.cli.control_plane import ControlPlane
from livesync_trio.cli.shown import Shown, shown, shown_of
from livesync_trio.cli.where import configured, database_to_read
from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import ADMIN_PAGE_MAX, READ_MAX_BYTES, READ_MAX_EVENTS, TAIL_LOOK_S
from livesync_trio.model import LogState, StoredEvent, StoreId
from livesync_trio.storage.base import Engine, Reader, StoreSummary
from livesync_trio.version import VERSION
from livesync_trio.wire.choice import Choice
from livesync_trio.wire.reading import plain


class Looking(Protocol):
    """A place that can be looked at."""

    def stores(self, containing: str) -> Iterator[dict[str, Any]]:
        """Every store whose name has this text in it, in the order of their names."""

    def events(self, store_id: StoreId, after: int, choice: Choice) -> Iterator[Shown]:
        """Wanted events of a store behind a number, in order. Raises CommandError when there is no such store."""

    def tail(self, store_id: StoreId, after: int | None) -> Iterator[Shown]:
        """Events as they come, without end; from the head on when `after` is None. Raises CommandError."""

    def info(self) -> dict[str, Any]:
        """What it is."""


@contextmanager
def looking(url: str | None, flags: dict[str, Any]) -> Iterator[Looking]:
    """The place that the flags mean."""
    config = configured(flags)
    if url is not None:
        plane = ControlPlane(url, config.admin_secret)
        with plane.understood():
            yield ServerLooking(plane)
        return
    with database_to_read(config) as engine:
        reader = engine.reader()
        try:
            yield DatabaseLooking(engine, reader)
        finally:
            reader.close()


def no_such_store(store_id: str) -> CommandError:
    """The answer to who names a store that is not there."""
    return CommandError(
        Kind.NO_SUCH_STORE, f"There is no store {store_id!r}: `livesync stores` lists them; names are compared exactly."
    )


class DatabaseLooking:
    """A database, read beside whatever server uses it (`Looking`)."""

    def __init__(self, engine: Engine, reader: Reader) -> None:
        """`engine` is open for reading; `reader` is closed by who made it."""
        self._engine = engine
        self._reader = reader

    def stores(self, containing: str) -> Iterator[dict[str, Any]]:
        """Every store; see the contract."""
        return map(_as_json, all_stores(self._reader, containing))

    def events(self, store_id: StoreId, after: int, choice: Choice) -> Iterator[Shown]:
        """Wanted events; see the contract."""
        return map(shown_of, filter(choice.takes, self._behind(self._state(store_id), after)))

    def tail(self, store_id: StoreId, after: int | None) -> Iterator[Shown]:
        """Events as they come; looks at the database again and again."""
        state = self._state(store_id)
        seen = state.head if after is None else after
        while True:
            found = self._state(store_id)
            if found.log_id != state.log_id:
                state, seen = found, 0
            for event in self._behind(found, seen):
                seen = event.seq_num
                yield shown_of(event)
            time.sleep(TAIL_LOOK_S)

    def info(self) -> dict[str, Any]:
        """Version, database, totals."""
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
    }


_NO_MORE: Final = "end"


class ServerLooking:
    """A running server (`Looking`)."""

    def __init__(self, plane: ControlPlane) -> None:
        """`plane`: its control plane."""
        self.plane = plane

    def stores(self, containing: str) -> Iterator[dict[str, Any]]:
        """Every store; see the contract."""
        texts = self.plane.all("/stores", "stores", containing=containing or None, limit=ADMIN_PAGE_MAX)
        return map(plain, texts)

    def events(self, store_id: StoreId, after: int, choice: Choice) -> Iterator[Shown]:
        """Wanted events; the server chooses."""
        texts = self.plane.all(
            "/store/events",
            "events",
            storeId=store_id,
            after=after,
            limit=ADMIN_PAGE_MAX,
            name=choice.name,
            clientId=choice.client_id,
            sessionId=choice.session_id,
            since=choice.since,
            until=choice.until,
        )
        return map(shown, texts)

    def tail(self, store_id: StoreId, after: int | None) -> Iterator[Shown]:
        """Events as they come, until the server ends."""
        for kind, data in self.plane.messages("/store/tail", storeId=store_id, after=after):
            if kind == "message":
                yield shown(data)
            elif kind == _NO_MORE:
                return

    def info(self) -> dict[str, Any]:
        """What the server says of itself."""
        return self.plane.get("/info")
