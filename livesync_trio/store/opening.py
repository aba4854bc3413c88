"""Opening an engine, with patience for a database that is not up yet."""

from collections.abc import Callable

import trio

from livesync_trio.errors import Kind, StartupError, StorageUnavailable
from livesync_trio.limits import STORAGE_BACKOFF_FIRST_S, STORAGE_BACKOFF_MAX_S
from livesync_trio.storage.base import Engine
from livesync_trio.telemetry import get_logger

_log = get_logger("store")


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
