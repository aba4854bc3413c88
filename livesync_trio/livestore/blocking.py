"""A store for programs without Trio: the same methods, which wait, from any thread.

Owns the thread in which Trio runs. It ends with the store; a store that nobody closes ends with the process.
"""

import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import trio

from livesync_trio.livestore.events import Bindings, Confirmed, SyncStatus
from livesync_trio.livestore.faults import StoreClosed
from livesync_trio.livestore.notices import Live
from livesync_trio.livestore.schema import Schema
from livesync_trio.livestore.store import Store, open_store

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def open_store_blocking(path: str | Path, schema: Schema, **options: Any) -> "BlockingStore":
    """Open a store, as `open_store` does; use it as a context manager, or call `close`.

    Raises:
        StoreInUse, WrongFile, BadSchema, EventFailed, UnknownEvent: as `open_store`.
    """
    return BlockingStore(path, schema, options)


class BlockingStore:
    """An open store. Its methods do what those of `Store` do; any thread may call them, at any time.

    They wait for a turn of the store's own thread, a fraction of a millisecond. In a program on asyncio call them by
    `asyncio.to_thread`.
    """

    def __init__(self, path: str | Path, schema: Schema, options: dict[str, Any]) -> None:
        """Made by `open_store_blocking`."""
        ready: Future[tuple[Store, trio.lowlevel.TrioToken, trio.Event]] = Future()

        async def serve() -> None:
            async with open_store(path, schema, **options) as store:
                closing = trio.Event()
                ready.set_result((store, trio.lowlevel.current_trio_token(), closing))
                await closing.wait()

        def run() -> None:
            try:
                trio.run(serve)
            except BaseException as error:
                if ready.done():
                    raise
                ready.set_exception(error)

        self._thread = threading.Thread(target=run, name=f"livestore {path}", daemon=True)
        self._thread.start()
        self._store, self._token, self._closing = ready.result()

    def __enter__(self) -> "BlockingStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; what is pending stays in the file. Does nothing the second time."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._closing.set)
        self._thread.join()

    @property
    def client_id(self) -> str:
        """How this client is called in the log."""
        return self._store.client_id

    @property
    def sync_status(self) -> SyncStatus:
        """Where the store stands with its server."""
        return self._call(lambda: self._store.sync_status)

    def commit(self, *events: object) -> None:
        """See `Store.commit`."""
        self._call(self._store.commit, *events)

    def query(self, sql: str, bindings: Bindings = ()) -> list[dict[str, Any]]:
        """See `Store.query`."""
        return self._call(self._store.query, sql, bindings)

    def synced(self, timeout_s: float | None = None) -> None:
        """See `Store.synced`. Raises TimeoutError after `timeout_s` seconds."""

        async def wait() -> None:
            with trio.move_on_after(float("inf") if timeout_s is None else timeout_s) as limit:
                await self._store.synced()
            if limit.cancelled_caught:
                raise TimeoutError(f"not synced within {timeout_s} s: {self._store.sync_status}")

        self._wait(wait)

    def watch(self, sql: str, bindings: Bindings = ()) -> Iterator[list[dict[str, Any]]]:
        """See `Store.watch`. An iterator; whoever waits in it is let go when the store is closed."""
        return self._iterate(self._call(self._store.watch, sql, bindings))

    def events(self, after: int = 0) -> Iterator[Confirmed]:
        """See `Store.events`. An iterator; whoever waits in it is let go when the store is closed."""
        return self._iterate(self._call(self._store.events, after))

    def _iterate(self, live: Live[T]) -> Iterator[T]:
        async def take() -> tuple[T, ...]:
            try:
                return (await anext(live),)
            except StopAsyncIteration:  # cannot leave a coroutine as it is
                return ()

        with suppress(StoreClosed):
            while taken := self._wait(take):
                yield taken[0]

    def _call(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        try:
            return trio.from_thread.run_sync(fn, *args, trio_token=self._token)
        except trio.RunFinishedError:
            raise StoreClosed("the store is closed.") from None

    def _wait(self, fn: Callable[[], Awaitable[T]]) -> T:
        try:
            return trio.from_thread.run(fn, trio_token=self._token)
        except (trio.RunFinishedError, trio.Cancelled):
            raise StoreClosed("the store is closed.") from None
