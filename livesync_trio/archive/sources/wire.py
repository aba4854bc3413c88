"""A store of another server over the wire, pulled as a 0.4 client would: livesync, or Cloudflare itself.

Owns the order of the questions, and how a command is told of an answer that is none. The server goes on meanwhile: stop
its clients first, or what they push after the last pull stays behind.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from livesync_trio.archive.entries import Broken, Entry, checked_text, entry_of_text, moment_of
from livesync_trio.archive.sources.base import SourceStore
from livesync_trio.client import BadAddress, BlockingBackend, Event, SyncError, open_backend_blocking, place_of
from livesync_trio.errors import CommandError, Kind
from livesync_trio.model import BackendId, StoreId


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
        with connected(self._url, store_id, self._payload) as backend:
            page = next(backend.pull(), None)
        problem = (
            "it has no events there; a name that the server did not know is made by asking for it: is it mistyped?"
        )
        identity = "" if page is None else checked_text(page.backend_id or "", "the identity of the store")
        there = page is not None and page.events and identity
        return SourceStore(
            place_of(self._url), store_id, BackendId(identity) or None, problems=() if there else (problem,)
        )

    def entries(self, store: SourceStore) -> Iterator[Entry]:
        """Events of one store; see the contract."""
        with connected(self._url, store.store_id, self._payload) as backend:
            for page in backend.pull():
                if page.backend_id != store.backend_id:
                    raise Broken("it was reset or replaced while it was read: begin again")
                yield from map(entry_of_event, page.events)

    def close(self) -> None:
        """Nothing is held."""


def entry_of_event(event: Event) -> Entry:
    """A pulled event as it is kept. Raises Broken."""
    if event.created_at is None:
        raise Broken("the server does not say when an event was pushed")
    return entry_of_text(event.json, moment_of(event.created_at))
