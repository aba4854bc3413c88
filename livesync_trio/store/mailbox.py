"""The mailbox of one store (invariant 2): commands on their way to its actor, in order, bounded.

Posted by anybody without waiting, as long as there is room; whoever waits for room is let in in the order of arrival.
Trio's memory channel would do the same; it raises an exception whenever the actor finds it empty, and is asked twice
for each command.
"""

from collections import deque

import outcome
import trio

from livesync_trio.limits import MAILBOX_COMMANDS
from livesync_trio.store.commands import Command


class Closed(Exception):
    """The actor ends, or has ended: the next one takes the command."""


class Mailbox:
    """One actor takes; anybody posts."""

    __slots__ = ("_actor", "_called", "_commands", "_held", "_limit", "_posters", "closed")

    def __init__(self) -> None:
        self._limit = MAILBOX_COMMANDS
        self._commands: list[Command] = []  # short, and a deque holds 760 bytes when it is empty
        self._posters: deque[tuple[trio.lowlevel.Task, Command]] | None = None  # who waits for room
        self._actor: trio.lowlevel.Task | None = None  # while it is parked here, and was not woken
        self._held = False  # the actor sleeps on, whatever comes
        self._called = False  # the actor is to look, though there may be no command
        self.closed = False

    def __len__(self) -> int:
        """Commands in it, without those that wait for room."""
        return len(self._commands)

    @property
    def waited_for(self) -> bool:
        """Whether the actor really waits: there is no command, and it was not woken for one."""
        return self._actor is not None and not self._held

    # --- posting ---------------------------------------------------------------------------------------------------

    def post_nowait(self, command: Command) -> bool:
        """Post a command. False: it is full.

        Raises:
            Closed: it takes nothing any more.
        """
        if self.closed:
            raise Closed
        if len(self._commands) >= self._limit:
            return False
        self._commands.append(command)
        self._wake()
        return True

    async def post(self, command: Command) -> None:
        """Post a command, waiting for room. Cancelled before it is in, it has no effect.

        Raises:
            Closed: it takes nothing any more.
        """
        if self.post_nowait(command):
            return
        if self._posters is None:
            self._posters = deque()
        posters, waiting = self._posters, (trio.lowlevel.current_task(), command)
        posters.append(waiting)

        def give_up(_: object) -> trio.lowlevel.Abort:
            posters.remove(waiting)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(give_up)

    def close(self) -> None:
        """Take nothing more; what is in it stays. Who waits for room is told. May be called again."""
        self.closed = True
        while self._posters:
            task, _ = self._posters.popleft()
            trio.lowlevel.reschedule(task, outcome.Error(Closed()))
        self._wake()

    # --- while a hand-over is under way (see `actor`) ---------------------------------------------------------------

    def hold(self) -> None:
        """Let the actor, which waits here, sleep on until `release`, whatever comes and whoever cancels it."""
        self._held = True

    def release(self, *, call: bool) -> None:
        """Undo `hold`. The actor is woken when there is something to do, and if it is called."""
        self._held = False
        self._called = self._called or call
        if self._commands or self._called or self.closed:
            self._wake()

    def only(self, kind: type[Command]) -> bool:
        """Whether there are commands in it, all of one kind."""
        return bool(self._commands) and all(type(command) is kind for command in self._commands)

    # --- taking ----------------------------------------------------------------------------------------------------

    async def wait(self) -> bool:
        """Wait until there is a command, or `release` calls. False: it was closed, and is empty."""
        while self._held or not (self._commands or self._called):
            if self.closed and not self._held:
                return False
            self._actor = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._not_awaited)
        self._called = False
        return True

    def take(self) -> list[Command]:
        """Everything that is in it. Who waited for room gets in."""
        taken, self._commands = self._commands, []
        while self._posters and len(self._commands) < self._limit:
            task, command = self._posters.popleft()
            self._commands.append(command)
            trio.lowlevel.reschedule(task)
        return taken

    def _wake(self) -> None:
        if self._held:
            return
        actor, self._actor = self._actor, None
        if actor is not None:
            trio.lowlevel.reschedule(actor)

    def _not_awaited(self, _: object) -> trio.lowlevel.Abort:
        if self._held:
            self._called = True  # cancelled as soon as it waits again
            return trio.lowlevel.Abort.FAILED
        self._actor = None
        return trio.lowlevel.Abort.SUCCEEDED
