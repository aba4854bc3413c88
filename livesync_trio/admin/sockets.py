"""The control plane's sockets: opening them, and cutting what Hypercorn holds on to.

Hypercorn shields its writes from cancellation and gives no handle on its connections (decision 0006). Two things keep a
peer that reads nothing from holding it for ever: the kernel gives up unacknowledged bytes after a while, and at
the end its connections are shut down from below, where they are found as what they are to the kernel: descriptors of
this process whose local address is ours.
"""

import os
import resource
import socket
import stat
from collections.abc import Iterable
from typing import Any, Final

import trio

from livesync_trio import listening
from livesync_trio.limits import DESCRIPTORS_LOOKED_AT_MAX

_DESCRIPTORS: Final = "/dev/fd"
"""The descriptors of this process, by number; Linux, macOS and the BSDs have it."""


async def open_listeners(host: str, port: int, stall_limit_ms: int) -> list[trio.SocketListener]:
    """Listen on an address.

    Args:
        host: name or address.
        port: 0 for any free one.
        stall_limit_ms: how long a connection may leave bytes untaken, where the kernel can watch that.

    Raises:
        OSError: it cannot be had.
    """
    listeners = await listening.open_listeners(host, port)
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None:
        for listener in listeners:
            listener.socket.setsockopt(socket.IPPROTO_TCP, option, stall_limit_ms)  # connections inherit it
    return listeners


def cut_connections(addresses: Iterable[Any]) -> int:
    """Shut down every connection of this process that was accepted at one of these local addresses.

    Whoever waits for such a connection finds it broken. Costs a few microseconds for each open descriptor, and needs
    none itself: there may be no more to be had.

    Returns:
        How many there were.
    """
    ports = {address[1] for address in addresses}
    cut = 0
    for number in _descriptors():
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            borrowed = socket.socket(fileno=number)
        except OSError:  # closed meanwhile, such as the one that listed them
            continue
        try:
            if _is_connection_at(ports, borrowed):
                borrowed.shutdown(socket.SHUT_RDWR)
                cut += 1
        except OSError:
            pass  # gone already
        finally:
            borrowed.detach()
    return cut


def _is_connection_at(ports: set[int], found: socket.socket) -> bool:
    if found.type != socket.SOCK_STREAM or found.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    if found.getsockname()[1] not in ports:
        return False
    try:
        found.getpeername()
    except OSError:  # it listens
        return False
    return True


def _descriptors() -> Iterable[int]:
    """The numbers of this process's descriptors; all that there may be, where they cannot be listed."""
    try:
        return [int(name) for name in os.listdir(_DESCRIPTORS)]  # noqa: PTH208 -- numbers, not paths
    except OSError:
        return range(min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], DESCRIPTORS_LOOKED_AT_MAX))
