"""Waiting for a condition, never for a span of time."""

from __future__ import annotations

import time
from collections.abc import Callable

POLL_INTERVAL_S = 0.02


def eventually(condition: Callable[[], bool], what: str, timeout_s: float = 15.0) -> None:
    """Return as soon as ``condition()`` holds; ``AssertionError`` naming ``what`` when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(POLL_INTERVAL_S)
