"""Listening sockets for whatever a host setting stands for: an address, a name, or every address of the machine."""

import errno
import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import trio

from livesync_trio.errors import Kind, StartupError
from livesync_trio.limits import UNIX
from livesync_trio.telemetry import get_logger

LISTEN_ATTEMPTS_MAX: Final = 5
"""How often a free port is looked for that is free on every address."""

UNIX_SOCKET_MODE: Final = 0o660
"""Who may connect to a Unix socket: the server's user and group, such as those of a reverse proxy."""

LISTEN_BACKLOG: Final = 1_024
"""Connections that the kernel keeps until they are accepted; it may keep fewer (`somaxconn`)."""

_log = get_logger("app")

_EVERY_IPV6: Final = "::"
_EVERY_IPV4: Final = "0.0.0.0"  # noqa: S104 - what the operator asked for
_LOOPBACK_IPV6: Final = "::1"
_NOT_OF_THIS_MACHINE: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})
"""The family is switched off, or the address is on no interface."""


async def open_listeners(host: str, port: int) -> list[trio.SocketListener]:
    """Listen on a host, or at a path (`unix:/…`).

    `::` is every address of both families: two sockets, so that an IPv4 client is seen under its own address and not
    as an IPv6 one. A name may stand for several addresses. Those that this machine does not have are logged and left
    out.

    Args:
        host: an address or a name.
        port: 0 for any free one, the same for all.

    Returns:
        One listener for each address, at least one.

    Raises:
        OSError: none of them can be had, or another program has one.
        UnicodeError: a name that DNS cannot have.
    """
    if host.startswith(UNIX):
        return [_open_unix(host.removeprefix(UNIX))]
    addresses = await _addresses(host, port)
    for attempts_left in reversed(range(LISTEN_ATTEMPTS_MAX)):
        try:
            return await _open(addresses, port)
        except OSError as error:  # the free port of the first address need not be free on the second
            if port != 0 or error.errno != errno.EADDRINUSE or not attempts_left:
                raise
    raise AssertionError("the last attempt returns or raises")


async def listen(host: str, port: int, named: str) -> list[trio.SocketListener]:
    """`open_listeners` for the start of the server.

    Args:
        host: an address or a name.
        port: 0 for any free one.
        named: both as messages name them, with where they were given.

    Raises:
        StartupError: it cannot be had; the message says what to do.
    """
    try:
        return await open_listeners(host, port)
    except (OSError, UnicodeError) as error:
        raise _cannot_listen(named, error) from error


def check_name(host: str, named: str) -> None:
    """See that a name of this machine stands for an address, before anything else is said of it; for commands.

    Raises:
        StartupError: as `listen`.
    """
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise _cannot_listen(named, error) from error


def _cannot_listen(named: str, error: OSError | UnicodeError) -> StartupError:
    reason = getattr(error, "strerror", None) or str(error)
    hint = ""
    if isinstance(error, socket.gaierror | UnicodeError):
        hint = " No address has this name; if another program has set HOST, set LIVESYNC_HOST."
    elif error.errno == errno.EADDRINUSE:
        hint = " Another program listens there; choose another --port."
    elif error.errno in (errno.EACCES, errno.EPERM):
        hint = (
            " Ports below 1024 are for root: put a reverse proxy in front, or allow it with systemd's"
            " AmbientCapabilities=CAP_NET_BIND_SERVICE."
        )
    elif error.errno in _NOT_OF_THIS_MACHINE:
        hint = " This machine does not have that address."
    return StartupError(Kind.CANNOT_LISTEN, f"cannot listen on {named}: {reason}.{hint}")


async def _addresses(host: str, port: int) -> list[str]:
    """The numeric addresses that a host stands for, in the resolver's order, each once."""
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    numeric = [_numeric(address) for _, _, _, _, address in found]
    if _EVERY_IPV6 in numeric:
        numeric.append(_EVERY_IPV4)
    return list(dict.fromkeys(numeric))


def _numeric(address: tuple[Any, ...]) -> str:
    """What stands for an address of the resolver as a text; a link-local one has the number of its interface."""
    text, scope = str(address[0]), address[3] if len(address) == 4 else 0
    return f"{text}%{scope}" if scope and "%" not in text else text


async def _open(addresses: list[str], port: int) -> list[trio.SocketListener]:
    opened: list[trio.SocketListener] = []
    missing: list[tuple[str, OSError]] = []
    try:
        for address in addresses:
            try:
                if address == _EVERY_IPV6:
                    await _check_ipv6()
                (listener,) = await trio.open_tcp_listeners(port, host=address)
            except OSError as error:
                if error.errno not in _NOT_OF_THIS_MACHINE:
                    raise
                missing.append((address, error))
            else:
                opened.append(listener)
                port = listener.socket.getsockname()[1]
        if not opened:
            raise missing[0][1]
    except BaseException:
        for listener in opened:
            listener.socket.close()
        raise
    for address, cause in missing:
        _log.warning("an address cannot be listened on", address=address, reason=cause.strerror or str(cause))
    return opened


def _open_unix(path: str) -> trio.SocketListener:
    """Listen at a path. What a server that has ended left there is taken away; one that answers keeps it.

    Raises:
        OSError: it cannot be had.
    """
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(Path(path).stat().st_mode):
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(ConnectionRefusedError):
                    probe.setblocking(False)
                    probe.connect(path)
                    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
                Path(path).unlink()
        opened.bind(path)
        Path(path).chmod(UNIX_SOCKET_MODE)  # before it listens: nobody gets in earlier
        opened.listen(LISTEN_BACKLOG)
        return trio.SocketListener(trio.socket.from_stdlib_socket(opened))
    except BaseException:
        opened.close()
        raise


def inherited_listeners(descriptors: Iterable[int]) -> list[socket.socket]:
    """The listening sockets that were handed over, such as by systemd (`systemd.inherited`).

    Raises:
        StartupError: one of them is no listening stream socket.
    """
    found: list[socket.socket] = []
    for descriptor in descriptors:
        try:
            handed = socket.socket(fileno=descriptor)
            listens = handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            reason = f"{error.strerror}"
        else:
            if listens and handed.type == socket.SOCK_STREAM:
                handed.set_inheritable(False)
                found.append(handed)
                continue
            handed.detach()
            reason = "it does not listen for connections (systemd: Accept=no, ListenStream=)"
        raise StartupError(
            Kind.CANNOT_LISTEN, f"descriptor {descriptor} that was handed over cannot be used: {reason}."
        )
    return found


def address_of(listening: socket.socket) -> tuple[str, int]:
    """Host and port of a socket as settings name them; of a Unix socket `unix:` and its path, and 0."""
    name = listening.getsockname()
    return (f"{UNIX}{name}", 0) if listening.family == socket.AF_UNIX else (str(name[0]), int(name[1]))


async def _check_ipv6() -> None:
    """Whether there is IPv6 at all: `::` can be bound where it is switched off, and nobody would ever come.

    Raises:
        OSError: there is none.
    """
    with trio.socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        await probe.bind((_LOOPBACK_IPV6, 0))  # the one address that every machine with IPv6 has
