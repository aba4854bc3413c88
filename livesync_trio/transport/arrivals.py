"""One task that hears for all peers whose sockets have brought something, and for other threads (decision 0005).

Trio tells the kernel anew, message by message, which socket a task waits for, and wakes that task for each. Here the
sockets stay registered in one `epoll` instance, itself a descriptor for which Trio waits: one wake-up and no
registration serve all messages of a moment, and what came is acted upon without a task switch. What the writer thread
has to say comes the same way: half as many system calls as by Trio's own way back from a thread.
"""

import os
import select
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import attrs
import outcome
import trio

from livesync_trio.limits import ARRIVALS_PER_TURN, RECEIVE_BYTES
from livesync_trio.turns import Turns


@attrs.frozen(eq=False)
class _Listening:
    """A task that is parked while its socket is listened to."""

    take: Callable[[bytes], bool]
    task: trio.lowlevel.Task


class Arrivals:
    """The sockets that are listened to. Linux only, as `select.epoll` is: ask `available` first."""

    def __init__(self, turns: Turns | None = None) -> None:
        """Must be made inside Trio. `turns`: those that it makes, of which others are told."""
        self._turns = turns or Turns()
        self._epoll = select.epoll()
        self._listening: dict[int, _Listening] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._token = trio.lowlevel.current_trio_token()
        self._running = False
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        weakref.finalize(self, os.close, self._bell)  # not when `run` ends: a thread may be about to ring it
        # Edge-triggered: that it was rung is heard once, and nobody has to read it.
        self._epoll.register(self._bell, select.EPOLLIN | select.EPOLLET)

    @staticmethod
    def available() -> bool:
        """Whether this system has what it takes."""
        return hasattr(select, "epoll") and hasattr(os, "eventfd")

    async def run(self) -> None:
        """Hear until cancelled. Sockets are only heard while this runs."""
        self._running = True
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                heard = self._epoll.poll(0, ARRIVALS_PER_TURN)
                self._turns.begin()
                self._make_calls()  # after the bell was heard, in every turn: no flood of messages delays them
                for descriptor, _ in heard:
                    self._hear(descriptor)
                self._turns.end()
        finally:
            self._running = False
            self._turns.end()
            self._make_calls()  # whoever looked at `_running` before this had left its call already

    def call_soon(self, function: Callable[[], None]) -> None:
        """Have a function called in the Trio thread, in order; from any thread, at any time until Trio ends.

        Args:
            function: must neither wait nor raise.

        Raises:
            trio.RunFinishedError: Trio has ended.
        """
        self._calls.append(function)
        if self._running:
            os.eventfd_write(self._bell, 1)
        else:
            self._token.run_sync_soon(self._make_calls)

    def _make_calls(self) -> None:
        while self._calls:
            self._calls.popleft()()

    async def flow(self, descriptor: int, take: Callable[[bytes], bool]) -> None:
        """Hand over bytes as they arrive, until `take` says that is enough for now.

        Args:
            descriptor: of a socket in non-blocking mode. Whoever closes it cancels this wait, before or after.
            take: gets the bytes, empty when the peer has gone; returns whether to go on. Called in the task of `run`,
                must not wait.

        Raises what `take` raised. Always a checkpoint; may be cancelled.
        """
        listening = _Listening(take, trio.lowlevel.current_task())
        self._epoll.register(descriptor, select.EPOLLIN)
        self._listening[descriptor] = listening

        def give_up(_: Callable[[], None]) -> trio.lowlevel.Abort:
            self._forget(descriptor, listening)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(give_up)

    def _hear(self, descriptor: int) -> None:
        listening = self._listening.get(descriptor)
        if listening is None:
            return  # given up since the kernel was asked
        ended: outcome.Outcome[None] | None = None
        try:
            data = os.read(descriptor, RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            if not listening.take(data):
                ended = outcome.Value(None)
        except Exception as error:
            ended = outcome.Error(error)
        # What was called may have cancelled the task, which is rescheduled already then.
        if ended is not None and self._forget(descriptor, listening):
            trio.lowlevel.reschedule(listening.task, ended)

    def _forget(self, descriptor: int, listening: _Listening) -> bool:
        """Stop listening, unless that has happened; the number may belong to another socket by now."""
        if self._listening.get(descriptor) is not listening:
            return False
        del self._listening[descriptor]
        with suppress(OSError):  # closed already, so the kernel has forgotten it
            self._epoll.unregister(descriptor)
        return True
