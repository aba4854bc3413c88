"""A store of another server over the wire, pulled as a 0.4 client would: livesync, or Cloudflare itself.

Owns nothing but the order of the questions. A server makes a store that is pulled, so each is asked for first in a way
that makes nothing; where the server cannot tell, that is said before it is pulled. The server goes on meanwhile: stop
its clients first, or what they push after the last pull stays behind.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

import httpx

from livesync_trio.archive.entries import Broken, Entry, checked_text, entry_of_text, moment_of
from livesync_trio.archive.sources import SourceStore
from livesync_trio.client import (
    BackendIdMismatch,
    BadAddress,
    BlockingBackend,
    Event,
    SyncError,
    open_backend_blocking,
)
from livesync_trio.client.address import Address
from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import PULL_ANSWER_LIMIT_S
from livesync_trio.model import BackendId, StoreId
from livesync_trio.wire.url import PRESENCE_HEADER, Presence
from livesync_trio.wording import shown_url

RESET: Final = "it was reset or replaced while it was read: begin again"
_NO_EVENTS: Final = "it has no events there: is its name mistyped?"
_NOT_LET_IN: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})

Say = Callable[[str], None]
"""Tells the operator something before it happens."""


@contextmanager
def told_as_command() -> Iterator[None]:
    """What a sync client is told ends a command in the command's own words. Raises CommandError."""
    try:
        yield
    except BadAddress as error:
        raise CommandError(Kind.BAD_CONFIG, str(error)) from None
    except SyncError as error:
        raise CommandError(Kind.SERVER_UNREACHABLE, str(error)) from error


@contextmanager
def connected(url: str, store_id: StoreId, payload: Any = None) -> Iterator[BlockingBackend]:
    """Be a client of a store for the length of a block.

    Raises:
        CommandError: the server is not there, refuses, or gives no usable answer, at any time.
    """
    with told_as_command(), open_backend_blocking(url, store_id=store_id, payload=payload) as backend:
        yield backend


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
        return f"server {shown_url(self._url)}"

    def stores(self) -> list[SourceStore]:
        """The stores that its server has, with the identity that it gives them now; see the contract."""
        found = {store_id: self._presence(store_id) for store_id in self._store_ids}
        untold = [store_id for store_id, presence in found.items() if presence is Presence.UNTOLD]
        if untold:
            self._say(
                f"{shown_url(self._url)} does not tell beforehand whether it has {', '.join(map(repr, untold))}: "
                "a name that it does not know becomes an empty store there."
            )
        return [self._store(store_id) for store_id, presence in found.items() if presence is not Presence.ABSENT]

    def _presence(self, store_id: StoreId) -> Presence | None:
        """Whether the server has a store, asked by the URL of a WebSocket that never becomes one.

        None where the server is not there, or does not let us in: the pull tells that, and makes nothing.
        """
        with told_as_command():
            address = Address.of(self._url)
            payload = None if self._payload is None else json.dumps(self._payload).encode()
            url = address.http_url(address.target("ws", store_id, payload))
        try:
            answer = httpx.get(url, timeout=PULL_ANSWER_LIMIT_S)
        except (httpx.HTTPError, httpx.InvalidURL):
            return None
        if answer.status_code in _NOT_LET_IN:
            return None
        told = answer.headers.get(PRESENCE_HEADER)
        return Presence(told) if told in {Presence.PRESENT.value, Presence.ABSENT.value} else Presence.UNTOLD

    def _store(self, store_id: StoreId) -> SourceStore:
        with connected(self._url, store_id, self._payload) as backend:
            page = next(backend.pull(), None)
        identity = "" if page is None else checked_text(page.backend_id or "", "the identity of the store")
        there = page is not None and page.events and identity
        return SourceStore(
            shown_url(self._url), store_id, BackendId(identity) or None, problems=() if there else (_NO_EVENTS,)
        )

    def entries(self, store: SourceStore) -> Iterator[Entry]:
        """Events of one store; see the contract."""
        with connected(self._url, store.store_id, self._payload) as backend:
            try:
                for page in backend.pull():
                    if page.backend_id != store.backend_id:
                        raise Broken(RESET)
                    yield from map(entry_of_event, page.events)
            except BackendIdMismatch:
                raise Broken(RESET) from None

    def close(self) -> None:
        """Nothing is held."""


def entry_of_event(event: Event) -> Entry:
    """A pulled event as it is kept. Raises Broken."""
    if event.created_at is None:
        raise Broken("the server does not say when an event was pushed")
    return entry_of_text(event.json, moment_of(event.created_at))
