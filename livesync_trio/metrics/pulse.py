"""How promptly the process does its work: the event loop's delay, and the pauses of the garbage collector."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import trio

from livesync_trio.telemetry import Counters

LOOP_PROBE_S: Final = 0.5
"""How often the event loop's delay is measured."""

LOOP_BLOCKED_S: Final = 0.1
"""A delay from which on the event loop counts as blocked; a busy but healthy server stays far below it."""


async def measure(counters: Counters) -> None:
    """Measure until cancelled. Costs one wake-up of the event loop each `LOOP_PROBE_S`."""
    with _collections_counted(counters):
        while True:
            wanted_s = trio.current_time() + LOOP_PROBE_S
            await trio.sleep_until(wanted_s)
            delay_s = trio.current_time() - wanted_s
            counters.loop_delay_seconds.observe(delay_s)
            if delay_s >= LOOP_BLOCKED_S:
                # A quantile of delays hides one long freeze among many prompt turns; their sum does not.
                counters.loop_blocked_seconds += delay_s


@contextmanager
def _collections_counted(counters: Counters) -> Iterator[None]:
    """Count the garbage collector's pauses; whichever thread it runs in, all of them stand still."""
    began_s = 0.0

    def note(phase: str, info: dict[str, Any]) -> None:
        nonlocal began_s
        if phase == "start":
            began_s = time.perf_counter()
        else:
            counters.gc_pause_seconds[info["generation"]].observe(time.perf_counter() - began_s)

    gc.callbacks.append(note)
    try:
        yield
    finally:
        gc.callbacks.remove(note)
