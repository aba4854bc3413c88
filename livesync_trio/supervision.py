"""Where tasks are born and how they die.

The only module that opens nurseries (invariant 6). A module that needs tasks gets a `Tasks`, which starts them under a
name; the policy for a crash is chosen where the scope is opened. Also the policy for actors that crash again and again.
"""

import errno
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVarTuple

import attrs
import trio

from livesync_trio.limits import CRASH_BACKOFF_FIRST_S, CRASH_BACKOFF_MAX_S, CRASH_WINDOW_S
from livesync_trio.telemetry import get_logger

CRASHES_BEFORE_FENCE: Final = 8
"""Crashes within `CRASH_WINDOW_S` after which a store is fenced: refused and shown in /health until the window ends."""

ACCEPT_RETRY_S: Final = 0.1
"""Pause after a connection that could not be accepted, for want of descriptors."""

Ts = TypeVarTuple("Ts")

_log = get_logger("supervision")

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""With what accepting fails when there is no room for another connection; it passes."""


class Tasks:
    """A scope of tasks that end together. Made by `open_tasks` only."""

    __slots__ = ("_name", "_nursery", "crash")

    def __init__(self, name: str, nursery: trio.Nursery) -> None:
        self._name = name
        self._nursery = nursery
        self.crash: Exception | None = None
        """The exception that ended the scope, if one did."""

    def start(self, fn: Callable[[*Ts], Awaitable[None]], *args: *Ts) -> None:
        """Start a task; an exception in it is logged and ends the whole scope.

        Never waits. Raises RuntimeError when the scope has already ended (Trio's own rule).
        """
        self._nursery.start_soon(self._guard, fn, args, name=f"{self._name}: {getattr(fn, '__name__', fn)}")

    async def _guard(self, fn: Callable[[*Ts], Awaitable[None]], args: tuple[*Ts]) -> None:
        try:
            await fn(*args)
        except Exception as error:
            self.note_crash(error)

    async def start_ready(self, fn: Callable[..., Awaitable[None]]) -> None:
        """Start a task and wait until it reports itself ready (Trio's `task_status`); raises what it raised before."""
        await self._nursery.start(fn, name=f"{self._name}: {getattr(fn, '__name__', fn)}")

    async def accept(
        self, handler: Callable[[trio.SocketStream], Awaitable[None]], listeners: list[trio.SocketListener]
    ) -> None:
        """Accept connections until cancelled; each is served by a task of this scope."""
        async with trio.open_nursery() as accepting:
            for listener in listeners:
                accepting.start_soon(self._accept, handler, listener)

    async def _accept(
        self, handler: Callable[[trio.SocketStream], Awaitable[None]], listener: trio.SocketListener
    ) -> None:
        """Accept at one address.

        One descriptor is kept in reserve: when there is no other left, it is given up for the moment in which the next
        in the queue is accepted and closed. So clients are told at once instead of waiting in the kernel's queue.
        """
        reserve, refused = _Reserve(), 0
        try:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in _EXHAUSTED:
                        raise
                    if not refused:
                        _log.error("connections are refused: no descriptors left", reason=error.strerror)
                    refused += await reserve.refuse_one(listener)
                    await trio.sleep(ACCEPT_RETRY_S)
                    continue
                if refused and reserve.filled():
                    _log.warning("connections are accepted again", refused=refused)
                    refused = 0
                self._nursery.start_soon(_serve, handler, stream, name=f"{self._name}: connection")
        finally:
            reserve.close()
            await trio.aclose_forcefully(listener)

    def note_crash(self, error: Exception) -> None:
        """Log an exception and end the scope because of it."""
        if self.crash is None:
            self.crash = error
        _log.error("task crashed", scope=self._name, exc_info=error)
        self.cancel()

    def cancel(self) -> None:
        """End every task of the scope."""
        self._nursery.cancel_scope.cancel()

    @property
    def count(self) -> int:
        """Tasks running now."""
        return len(self._nursery.child_tasks)


async def _serve(handler: Callable[[trio.SocketStream], Awaitable[None]], stream: trio.SocketStream) -> None:
    try:
        await handler(stream)
    finally:
        await trio.aclose_forcefully(stream)


class _Reserve:
    """One descriptor that is kept for the time when there is no other."""

    def __init__(self) -> None:
        self._descriptor = -1
        self.filled()

    def filled(self) -> bool:
        """Whether there is one, opened anew if need be."""
        if self._descriptor < 0:
            try:
                self._descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return False
        return True

    async def refuse_one(self, listener: trio.SocketListener) -> int:
        """Close the connection that waits longest, without serving it. Gives how many were: one or none."""
        self.close()
        refused = 0
        try:
            with trio.move_on_after(ACCEPT_RETRY_S):
                stream = await listener.accept()
                refused = 1
                await trio.aclose_forcefully(stream)
        except OSError:
            pass  # somebody else took the descriptor
        self.filled()
        return refused

    def close(self) -> None:
        """Give it up."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@asynccontextmanager
async def open_tasks(name: str) -> AsyncIterator[Tasks]:
    """Open a scope of tasks.

    Leaving the block waits for the tasks; cancelling the scope from inside ends block and tasks alike. An exception in
    a task or in the block is logged, ends the scope and is left in `Tasks.crash`; it does not travel further, so
    the caller decides what it means to those outside.
    """
    async with trio.open_nursery() as nursery:
        tasks = Tasks(name, nursery)
        try:
            yield tasks
        except Exception as error:
            tasks.note_crash(error)


@asynccontextmanager
async def lent_nursery() -> AsyncIterator[trio.Nursery]:
    """Lend a nursery to a library that starts tasks of its own; they end with the block.

    What one of them raises ends the block, and is raised as if the block had: bare, not in a group.
    """
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        failed = group.subgroup(lambda error: not isinstance(error, trio.Cancelled))
        while isinstance(failed, BaseExceptionGroup) and len(failed.exceptions) == 1:
            failed = failed.exceptions[0]
        if failed is None:
            raise
        raise failed from failed.__cause__


@attrs.define
class CrashHistory:
    """When the actor of one store crashed, and what follows from it (invariant 6)."""

    _times_s: deque[float] = attrs.field(factory=deque)

    def note(self, now_s: float) -> None:
        """An actor crashed at `now_s` (Trio's clock)."""
        self._times_s.append(now_s)
        self._forget(now_s)

    def backoff_s(self, now_s: float) -> float:
        """How long to wait from now until the next generation may serve; 0 without crashes in the window."""
        self._forget(now_s)
        if not self._times_s:
            return 0.0
        pause_s = min(CRASH_BACKOFF_FIRST_S * 2.0 ** (len(self._times_s) - 1), CRASH_BACKOFF_MAX_S)
        return max(0.0, self._times_s[-1] + pause_s - now_s)

    def fenced(self, now_s: float) -> bool:
        """Whether the store crashed so often that it is refused until the window has passed."""
        self._forget(now_s)
        return len(self._times_s) >= CRASHES_BEFORE_FENCE

    def recent(self, now_s: float) -> bool:
        """Whether any crash lies within the window."""
        self._forget(now_s)
        return bool(self._times_s)

    def _forget(self, now_s: float) -> None:
        while self._times_s and self._times_s[0] < now_s - CRASH_WINDOW_S:
            self._times_s.popleft()
