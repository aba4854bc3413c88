"""The first process of a container: a small parent that reaps, and the server as its child.

The kernel gives every process whose parent has died to process 1, which must take note of its end; else it stays as a
zombie. The server cannot do that itself: it would take away the ends of the programs that hooks wait for. So the parent
does nothing but pass on signals, reap, and end as its child does.
"""

import os
import signal
from contextlib import suppress
from typing import Final

_PASSED_ON: Final = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
)
_HEARD: Final = _PASSED_ON | {signal.SIGCHLD}


def part_if_first() -> None:
    """In process 1, become two; returns in the child only, and in any other process at once.

    To be called before there are threads.
    """
    if os.getpid() == 1:
        part()


def part() -> None:
    """Become parent and child; returns in the child only. The parent ends as the child does."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)  # a signal that comes between waits until it is heard
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)  # Ctrl-C reaches it once, by way of the parent
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        number = signal.sigwait(_HEARD)
        if number != signal.SIGCHLD:
            with suppress(ProcessLookupError):
                os.kill(child, number)
            continue
        status = _reaped(child)
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _reaped(child: int) -> int | None:
    """Take note of every process that has ended; gives how the child did, if it is among them."""
    found = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                found = status
    return found
