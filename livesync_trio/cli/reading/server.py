"""Stores of a running server, by way of its control plane."""

from collections.abc import Iterator
from typing import Any

from livesync_trio.cli.reading.control_plane import ControlPlane
from livesync_trio.cli.reading.event import Event, read_event
from livesync_trio.limits import ADMIN_PAGE_MAX
from livesync_trio.model import StoreId
from livesync_trio.wire.choice import Choice
from livesync_trio.wire.reading import plain


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
