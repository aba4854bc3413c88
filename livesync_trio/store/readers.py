"""The readers: a few handles and threads that read history for any number of pulls (design.md, law 3)."""

from collections.abc import Callable

import trio

from livesync_trio.limits import READ_MAX_BYTES, READ_MAX_EVENTS
from livesync_trio.model import LogState, StoredEvent
from livesync_trio.storage import base


class ThreadReaders:
    """A bounded pool of reading handles, each used by one thread at a time. Implements `persistence.Readers`."""

    def __init__(self, open_handle: Callable[[], base.Reader], threads: int) -> None:
        self._open_handle = open_handle
        self._limiter = trio.CapacityLimiter(threads)
        self._idle: list[base.Reader] = []

    async def read(self, log: LogState, after: int, up_to: int) -> list[StoredEvent]:
        """See `persistence.Readers.read`. Cancellation waits for the thread, whose work is bounded."""
        return await trio.to_thread.run_sync(self._read, log, after, up_to, limiter=self._limiter)

    def close(self) -> None:
        """Close the idle handles; called when nobody reads any more."""
        while self._idle:
            self._idle.pop().close()

    # --- in a thread -----------------------------------------------------------------------------------------------

    def _read(self, log: LogState, after: int, up_to: int) -> list[StoredEvent]:
        handle = self._take()
        try:
            return handle.read(log, after, up_to, READ_MAX_EVENTS, READ_MAX_BYTES)
        finally:
            self._idle.append(handle)  # after an error, too: a handle mends itself when it is asked again

    def _take(self) -> base.Reader:
        try:
            return self._idle.pop()  # atomic under CPython's lock
        except IndexError:
            return self._open_handle()
