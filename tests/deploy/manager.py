"""The service manager's end of `NOTIFY_SOCKET`."""

from __future__ import annotations

import contextlib
import socket
import time

HEARD_LIMIT_S = 90.0
"""How long a word is waited for, whatever else is told meanwhile."""

Message = list[str]
"""The lines of one datagram."""


def heard_until(manager: socket.socket, wanted: str) -> list[Message]:
    """Everything that is told up to a message that begins with the line `wanted`. Too late: TimeoutError."""
    deadline = time.monotonic() + HEARD_LIMIT_S
    heard: list[Message] = []
    while not heard or heard[-1][0] != wanted:
        manager.settimeout(max(deadline - time.monotonic(), 0.001))
        heard.append(manager.recv(65536).decode().splitlines())
    return heard


def heard(manager: socket.socket, wanted: str) -> Message:
    """Wait for one message; its lines."""
    return heard_until(manager, wanted)[-1]


def forget(manager: socket.socket) -> None:
    """Drop what was told so far."""
    manager.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while manager.recv(65536):
            pass
