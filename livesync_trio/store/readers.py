"""The database under a server: opened with patience, read by a few threads, watched.

Readers are handles and threads that read history for any number of pulls (invariant 3). `watch` looks whether database
threads hang, and whether what could not be read can be read again: it says so once, and changes nothing, since a
thread that hangs can be helped by nobody in this process.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

import trio

from livesync_trio.errors import Kind, StartupError, StorageUnavailable
from livesync_trio.limits import READ_MAX_BYTES, READ_MAX_EVENTS, STORAGE_BACKOFF_FIRST_S, STORAGE_BACKOFF_MAX_S
from livesync_trio.model import LogState, StoredEvent, StoreId
from livesync_trio.storage import base
from livesync_trio.storage.base import Engine
from livesync_trio.store.persistence import Writer
from livesync_trio.telemetry import Counters, get_logger


async def open_engine(engine: Engine, patience_s: float, on_attempt: Callable[[], object] = lambda: None) -> None:
    """Open an engine, waiting for a database that cannot be used yet; each attempt that fails says so in the log.

    Args:
        engine: which.
        patience_s: for how long.
        on_attempt: told before each attempt.

    Raises:
        StartupError: it cannot be used, or was not reached in time.
    """
    deadline_s = trio.current_time() + patience_s
    pause_s = STORAGE_BACKOFF_FIRST_S
    while True:
        on_attempt()
        try:
            await trio.to_thread.run_sync(engine.open)
            return
        except StorageUnavailable as error:
            left_s = deadline_s - trio.current_time()
            if left_s <= 0:
                told = str(error).rstrip(".?! ")
                raise StartupError(Kind.DATABASE_UNUSABLE, f"{told}. Gave up after {patience_s:g} s.") from error
            _log.warning("waiting for the database", reason=str(error), seconds_left=round(left_s))
            await trio.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, STORAGE_BACKOFF_MAX_S)


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


STORAGE_SLOW_S: Final = 10.0
"""A transaction under way for longer than this is told of in /health and the log. PostgreSQL has given up by then."""

STORAGE_WATCH_S: Final = 1.0
"""How often it is looked whether database threads hang, and whether what could not be read can be read again."""

_log = get_logger("store")


def hangs(writer: Writer) -> bool:
    """Whether a transaction takes so long that nobody should wait for it."""
    return not writer.alive or writer.turn_age_s >= STORAGE_SLOW_S


async def watch(writer: Writer, readers: ThreadReaders) -> None:
    """Look until cancelled."""
    hung, readable = False, True
    while True:
        await trio.sleep(STORAGE_WATCH_S)
        if hung != hangs(writer):
            hung = not hung
            if hung:
                _log.error("a database thread hangs", seconds=round(writer.turn_age_s))
            else:
                _log.info("the database thread goes on")
        if not readers.healthy:
            if readable:
                readable = False
                _log.error("storage cannot be read")
            try:
                await readers.ask(lambda handle: handle.state(PROBE_STORE))
            except StorageUnavailable:
                continue
        if not readable and readers.healthy:
            readable = True
            _log.info("storage can be read again")
