"""Stores of a database, read beside whatever server uses it."""

import time
from collections.abc import Iterator
from typing import Any, Final

from livesync_trio.archive.reading import all_stores, newest_first
from livesync_trio.cli.reading.event import Event, event_of
from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import READ_MAX_BYTES, READ_MAX_EVENTS
from livesync_trio.model import LogState, StoredEvent, StoreId
from livesync_trio.storage.base import Engine, Reader, StoreSummary
from livesync_trio.version import VERSION
from livesync_trio.wire.choice import Choice

_TAIL_LOOK_S: Final = 0.5
"""How often a tail looks for new events."""


def no_such_store(store_id: str) -> CommandError:
    """The answer when somebody names a store that is not there."""
    return CommandError(
        Kind.NO_SUCH_STORE, f"There is no store {store_id!r}: `livesync stores` lists them; names are compared exactly."
    )


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
