"""The end of the process, whatever hangs.

An orderly end waits: for commits, for readers, for the event loop to come round. A disk, a database or a hook that
hangs would make it wait for ever. So a thread of its own, which waits for nothing but time and signals, ends the
process when a limit has passed. A thread inside a system call that cannot be interrupted keeps even that from
happening: then only the kernel ends the process, when the call returns.

For a process that is a server and nothing else; a program that embeds the server decides about its own end.
"""

import os
import select
import signal
import socket
import threading
import time
from contextlib import suppress
from typing import Final

import trio

from livesync_trio.telemetry import flush_standard_streams, get_logger

END_GRACE_S: Final = 10.0
"""From the end of `drain_limit_s` until a process that has not ended is ended, whatever hangs."""

END_AT_ONCE_S: Final = 3.0
"""The same after a second signal."""

_log = get_logger("ending")

FORCED_EXIT_CODE: Final = 1
_STOPS: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_BEGIN: Final = 0
"""Sent instead of a signal's number: the server ends for another reason."""


class Ending:
    """Sees to it that the process ends once it was told to, or once the server has begun to end by itself."""

    def __init__(self, drain_limit_s: float) -> None:
        """Nothing happens before `watch`. `drain_limit_s`: what an orderly end may take."""
        self._limit_s = drain_limit_s + END_GRACE_S
        self._told, self._bell = socket.socketpair()
        self._bell.setblocking(False)

    async def watch(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch from now on, in Trio's main thread; the scope in which this task ends is the server's end."""
        # Python notes a signal in its C handler and carries it out in the main thread, when that comes round. Here the
        # number arrives at once, also when the main thread hangs. It takes the place of Trio's own use of it, which
        # only wakes the event loop; the thread does that instead.
        token = trio.lowlevel.current_trio_token()
        signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._run, args=(token,), name="livesync ending", daemon=True).start()
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self._bell.send(bytes([_BEGIN]))

    def _run(self, token: trio.lowlevel.TrioToken) -> None:
        stops, deadline_s = 0, float("inf")
        while (left_s := deadline_s - time.monotonic()) > 0:
            readable, _, _ = select.select([self._told], [], [], None if deadline_s == float("inf") else left_s)
            if not readable:
                continue
            for number in self._told.recv(64):
                self._wake(token)
                if number == _BEGIN:
                    deadline_s = min(deadline_s, time.monotonic() + self._limit_s)
                elif number in _STOPS:
                    stops += 1
                    limit_s = self._limit_s if stops == 1 else END_AT_ONCE_S
                    deadline_s = min(deadline_s, time.monotonic() + limit_s)
        _log.critical("something hangs: the process is ended")
        flush_standard_streams(END_AT_ONCE_S / 6)
        os._exit(FORCED_EXIT_CODE)

    @staticmethod
    def _wake(token: trio.lowlevel.TrioToken) -> None:
        with suppress(trio.RunFinishedError):  # the end is near
            token.run_sync_soon(_nothing)


def _nothing() -> None:
    """The event loop comes round, which is all."""
