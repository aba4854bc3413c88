"""A store of another server over the wire, pulled as a 0.4 client would: livesync, or Cloudflare itself.

Owns nothing but the order of the questions. A server makes a store that is pulled, so each is asked for first in a way
that makes nothing; where the server cannot tell, that is said before it is pulled. The server goes on meanwhile: stop
its clients first, or what they push after the last pull stays behind.
"""

from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from livesync_trio.archive.entries import Broken, Entry
from livesync_trio.archive.sources.base import SourceStore
from livesync_trio.archive.sync_client import RESET, SyncClient, place_of, sync_url
from livesync_trio.limits import PULL_ANSWER_LIMIT_S
from livesync_trio.model import StoreId
from livesync_trio.wire.url import PRESENCE_HEADER, Presence

_NO_EVENTS: Final = "it has no events there: is its name mistyped?"
_NOT_LET_IN: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})

Say = Callable[[str], None]
"""Tells the operator something before it happens."""


class OverTheWire:
    """Stores of a running server (`Source`)."""

    def __init__(self, url: str, store_ids: Sequence[StoreId], payload: Any = None, say: Say = lambda _: None) -> None:
        """Nothing is opened yet.

        Args:
            url: as an application has it.
            store_ids: which stores; the protocol has no way to ask for their names.
            payload: what the application sends as `syncPayload`.
            say: told before a store is pulled that may be made by that.
        """
        self._url = url
        self._store_ids = store_ids
        self._payload = payload
        self._say = say

    def describe(self) -> str:
        """The server."""
        return f"server {place_of(self._url)}"

    def stores(self) -> list[SourceStore]:
        """The stores that its server has, with the identity that it gives them now; see the contract."""
        found = {store_id: self._presence(store_id) for store_id in self._store_ids}
        untold = [store_id for store_id, presence in found.items() if presence is Presence.UNTOLD]
        if untold:
            self._say(
                f"{place_of(self._url)} does not tell beforehand whether it has {', '.join(map(repr, untold))}: "
                "a name that it does not know becomes an empty store there."
            )
        return [self._store(store_id) for store_id, presence in found.items() if presence is not Presence.ABSENT]

    def _presence(self, store_id: StoreId) -> Presence | None:
        """Whether the server has a store, asked by the URL of a WebSocket that never becomes one.

        None where the server is not there, or does not let us in: the pull tells that, and makes nothing.
        """
        parts = urlsplit(sync_url(self._url, store_id, self._payload))
        url = parts._replace(scheme={"ws": "http", "wss": "https"}[parts.scheme]).geturl()
        try:
            answer = httpx.get(url, timeout=PULL_ANSWER_LIMIT_S)
        except (httpx.HTTPError, httpx.InvalidURL):
            return None
        if answer.status_code in _NOT_LET_IN:
            return None
        told = answer.headers.get(PRESENCE_HEADER)
        return Presence(told) if told in {Presence.PRESENT.value, Presence.ABSENT.value} else Presence.UNTOLD

    def _store(self, store_id: StoreId) -> SourceStore:
        with SyncClient(self._url, store_id, self._payload) as client:
            backend_id, page = next(client.pull(), (None, ()))
        problems = () if page and backend_id else (_NO_EVENTS,)
        return SourceStore(place_of(self._url), store_id, backend_id, problems=problems)

    def entries(self, store: SourceStore) -> Iterator[Entry]:
        """Events of one store; see the contract."""
        with SyncClient(self._url, store.store_id, self._payload) as client:
            for backend_id, page in client.pull():
                if backend_id != store.backend_id:
                    raise Broken(RESET)
                yield from page

    def close(self) -> None:
        """Nothing is held."""
