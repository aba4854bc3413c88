"""The readers: a few handles and threads that read history for any number of pulls (invariant 3)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

import trio

from livesync_trio.errors import StorageUnavailable
from livesync_trio.limits import READ_MAX_BYTES, READ_MAX_EVENTS
from livesync_trio.model import LogState, StoredEvent, StoreId
from livesync_trio.storage import base
from livesync_trio.telemetry import Counters

T = TypeVar("T")

PROBE_STORE: Final = StoreId("")
"""A store that does not exist, for a question that costs nothing."""


class ThreadReaders:
    """A bounded pool of reading handles, each used by one thread at a time. Implements `persistence.Readers`."""

    def __init__(self, open_handle: Callable[[], base.Reader], threads: int, counters: Counters | None = None) -> None:
        """`open_handle` is called in a thread, up to `threads` times. `counters`: where failures are counted."""
        self._open_handle = open_handle
        self._counters = counters or Counters()
        self._threads = threads
        self._limiter = trio.CapacityLimiter(threads)
        self._idle: list[base.Reader] = []
        self.healthy = True
        """Whether the last question that reached the database was answered."""

    async def open(self) -> None:
        """Open all handles and have each reach the database, so that pulls do not meet what is used up later.

        Raises:
            StorageUnavailable: one of them cannot; what was opened is closed again.
        """
        try:
            await trio.to_thread.run_sync(self._open_all, limiter=self._limiter)
        except StorageUnavailable:
            self.close()
            raise

    async def read(self, log: LogState, after: int, up_to: int) -> list[StoredEvent]:
        """See `persistence.Readers.read`. Cancellation waits for the thread, whose work is bounded."""
        return await self.ask(lambda handle: handle.read(log, after, up_to, READ_MAX_EVENTS, READ_MAX_BYTES))

    async def numbers_of(self, log: LogState, append_ids: Sequence[str]) -> dict[str, int]:
        """See `persistence.Readers.numbers_of`."""
        return await self.ask(lambda handle: handle.numbers_of(log, append_ids))

    async def summary(self, store_id: StoreId) -> base.StoreSummary | None:
        """See `persistence.Readers.summary`."""
        return await self.ask(lambda handle: handle.summary(store_id))

    async def ask(self, question: Callable[[base.Reader], T]) -> T:
        """Put a question to a handle, in a thread; its work must be bounded, since cancellation waits for it.

        Raises what the question raises.
        """
        try:
            answer = await trio.to_thread.run_sync(self._put, question, limiter=self._limiter)
        except StorageUnavailable:
            self._counters.storage_errors["read"] += 1
            self.healthy = False
            raise
        self.healthy = True
        return answer

    def close(self) -> None:
        """Close the idle handles; called when nobody reads any more."""
        while self._idle:
            self._idle.pop().close()

    # --- in a thread -----------------------------------------------------------------------------------------------

    def _put(self, question: Callable[[base.Reader], T]) -> T:
        handle = self._take()
        try:
            with _ending_nothing_else():
                return question(handle)
        finally:
            self._idle.append(handle)  # after an error, too: a handle mends itself when it is asked again

    def _open_all(self) -> None:
        for _ in range(self._threads):
            handle = self._open_handle()
            self._idle.append(handle)
            with _ending_nothing_else():
                handle.state(PROBE_STORE)

    def _take(self) -> base.Reader:
        try:
            return self._idle.pop()  # atomic under CPython's lock
        except IndexError:
            return self._open_handle()


@contextmanager
def _ending_nothing_else() -> Iterator[None]:
    """What would end a thread, such as a library's `SystemExit`, ends the question and not the server."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        raise StorageUnavailable(f"reading ended with {type(error).__name__}") from error
