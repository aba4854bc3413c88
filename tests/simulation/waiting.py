"""Waiting for something that nobody announces: it is looked at again and again, within a limit."""

from __future__ import annotations

from collections.abc import Callable

import trio


async def until(condition: Callable[[], bool], limit_s: float, every_s: float = 0.02) -> bool:
    """Wait until something is so. False: it was not within the limit."""
    with trio.move_on_after(limit_s):
        while not condition():  # noqa: ASYNC110 -- what is waited for happens in another process, or in many places
            await trio.sleep(every_s)
        return True
    return False
