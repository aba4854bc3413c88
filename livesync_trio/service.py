"""What a running server consists of: parts that are started in order and drained in the opposite one."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs

from livesync_trio.supervision import Tasks


@attrs.frozen
class Service:
    """A part of a running server with a life of its own.

    Attributes:
        run: does its work until it is cancelled; an exception ends the server.
        drain: finishes what it has begun, while it still runs; whoever needs it has been drained before.
        reports: whether `run` takes Trio's `task_status` and reports itself started, which what comes after waits for.
    """

    run: Callable[..., Awaitable[Any]]
    drain: Callable[[], Awaitable[None]] | None = None
    reports: bool = False


async def start(services: Sequence[Service], tasks: Tasks) -> None:
    """Start services, one after the other."""
    for service in services:
        if service.reports:
            await tasks.start_ready(service.run)
        else:
            tasks.start(service.run)


async def drain(services: Sequence[Service]) -> None:
    """Have services finish what they have begun, the last one first."""
    for service in reversed(services):
        if service.drain is not None:
            await service.drain()
