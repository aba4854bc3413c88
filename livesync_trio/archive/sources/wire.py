"""A store of another server over the wire, pulled as a 0.4 client would: livesync, or Cloudflare itself.

Owns nothing but the order of the questions. The server goes on meanwhile: stop its clients first, or what they push
after the last pull stays behind.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from livesync_trio.archive.entries import Broken, Entry
from livesync_trio.archive.sources.base import SourceStore
from livesync_trio.archive.sync_client import SyncClient, place_of
from livesync_trio.model import StoreId


class OverTheWire:
    """Stores of a running server (`Source`)."""

    def __init__(self, url: str, store_ids: Sequence[StoreId], payload: Any = None) -> None:
        """Nothing is opened yet.

        Args:
            url: as an application has it.
            store_ids: which stores; the protocol has no way to ask for their names.
            payload: what the application sends as `syncPayload`.
        """
        self._url = url
        self._store_ids = store_ids
        self._payload = payload

    def describe(self) -> str:
        """The server."""
        return f"server {place_of(self._url)}"

    def stores(self) -> list[SourceStore]:
        """The stores, with the identity that their server gives them now; see the contract."""
        return [self._store(store_id) for store_id in self._store_ids]

    def _store(self, store_id: StoreId) -> SourceStore:
        with SyncClient(self._url, store_id, self._payload) as client:
            backend_id, page = next(client.pull(), (None, ()))
        problem = (
            "it has no events there; a name that the server did not know is made by asking for it: is it mistyped?"
        )
        return SourceStore(
            place_of(self._url), store_id, backend_id, problems=() if page and backend_id else (problem,)
        )

    def entries(self, store: SourceStore) -> Iterator[Entry]:
        """Events of one store; see the contract."""
        with SyncClient(self._url, store.store_id, self._payload) as client:
            for backend_id, page in client.pull():
                if backend_id != store.backend_id:
                    raise Broken("it was reset or replaced while it was read: begin again")
                yield from page

    def close(self) -> None:
        """Nothing is held."""
