"""What the service manager is told (sd_notify(3)), and which sockets it hands over (sd_listen_fds(3)).

Told: ready, reloading, stopping, still alive, and how it goes.

Owns the datagrams to `NOTIFY_SOCKET`. Decides nothing about the server: `app` says what has happened, and `watch` asks
two questions. A manager that cannot be told never disturbs the server.

Forty lines of our own instead of a package: those on PyPI have not been kept for years, know no watchdog, or need
libsystemd.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Final

import attrs
import trio

from livesync_trio.telemetry import get_logger

WATCHDOG_PINGS_PER_PERIOD: Final = 3
"""Signs of life in a period of systemd's watchdog; sd_watchdog_enabled(3) asks for two, so one may come late."""

MANAGER_STATUS_EVERY_S: Final = 10.0
"""How often `systemctl status` is brought up to date."""

_log = get_logger("systemd")

NOTIFY_SOCKET: Final = "NOTIFY_SOCKET"
WATCHDOG_USEC: Final = "WATCHDOG_USEC"
WATCHDOG_PID: Final = "WATCHDOG_PID"
LISTEN_PID: Final = "LISTEN_PID"
LISTEN_FDS: Final = "LISTEN_FDS"
LISTEN_FDNAMES: Final = "LISTEN_FDNAMES"
FIRST_INHERITED: Final = 3
"""The first descriptor that is handed over, behind the standard ones."""


def inherited(environ: MutableMapping[str, str]) -> list[int]:
    """Descriptors of sockets that were opened for us (sd_listen_fds(3)); the variables about them are taken out."""
    given = {name: environ.pop(name, "") for name in (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES)}
    # Of the single executable the manager knows the parent, which unpacks it and waits.
    if given[LISTEN_PID] not in (str(os.getpid()), str(os.getppid())) or not given[LISTEN_FDS].isdecimal():
        return []
    return list(range(FIRST_INHERITED, FIRST_INHERITED + int(given[LISTEN_FDS])))


@attrs.frozen
class ServiceManager:
    """Whoever started us and wants to know.

    Attributes:
        address: of its datagram socket; empty when nobody wants to know, and then nothing here does anything.
        watchdog_s: time without a sign of life after which it restarts us; None when it does not watch.
    """

    address: str = ""
    watchdog_s: float | None = None

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> "ServiceManager":
        """What the variables say. They are taken out, so that programs which hooks start do not speak for us."""
        given = {name: environ.pop(name, "") for name in (NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID)}
        address = given[NOTIFY_SOCKET]
        if address and address[0] not in "/@":
            _log.warning("the service manager cannot be told", reason=f"{NOTIFY_SOCKET} is neither a path nor abstract")
            address = ""
        # Of the single executable the manager knows the parent, which unpacks it and waits.
        ours = given[WATCHDOG_PID] in ("", str(os.getpid()), str(os.getppid()))
        period_us = int(given[WATCHDOG_USEC]) if ours and given[WATCHDOG_USEC].isdecimal() else 0
        return cls(address, period_us / 1e6 or None)

    def starting(self, limit_s: float) -> None:
        """The database is being opened, which may take so long from now: a new version brings its tables up to date."""
        self._tell(f"EXTEND_TIMEOUT_USEC={int(limit_s * 1e6)}", "STATUS=opening the database")

    def ready(self) -> None:
        """Clients may connect."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1", "STATUS=draining")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """What is done inside is a reload; afterwards the server is ready again, whatever came of it."""
        # The time is what `Type=notify-reload` (systemd 253) tells this reload by.
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self.ready()

    async def watch(self, alive: Callable[[], bool], status: Callable[[], str]) -> None:
        """Give signs of life until cancelled. They come from this task, so a loop that is blocked gives none.

        Args:
            alive: whether a restart would *not* help. A database that is down is no reason: restarting would only cut
                the clients that wait for it.
            status: one line for `systemctl status`.
        """
        if not self.address:
            return
        every_s = MANAGER_STATUS_EVERY_S
        if self.watchdog_s is not None:
            every_s = min(every_s, self.watchdog_s / WATCHDOG_PINGS_PER_PERIOD)
        said = False
        while True:
            if alive():
                self._tell("WATCHDOG=1", f"STATUS={status()}")
                said = False
            elif not said:
                said = True
                _log.critical("no sign of life for the service manager: the database thread hangs or has ended")
            if said:
                self._tell(f"STATUS={status()}; the database thread hangs or has ended")
            await trio.sleep(every_s)

    def _tell(self, *assignments: str) -> None:
        if not self.address:
            return
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto("\n".join(assignments).encode(), address)
        except OSError as error:
            _log.warning("the service manager was not told", reason=str(error), message=assignments[0])
