"""Bytes to and from a TCP socket in as few system calls and task switches as there can be (docs/performance.md).

`trio.SocketStream` tries to read before it waits and yields after each write. For a server most reads would find
nothing and most writes go through at once, so the socket is waited for first when reading, and written to first when
writing. Only Trio's public `wait_readable` and `wait_writable` are used. Other streams (TLS, the tests' memory streams)
keep their own methods.
"""

import os
from collections.abc import Awaitable, Callable
from socket import AF_UNIX
from typing import Final

import trio

from livesync_trio.limits import RECEIVE_BYTES, VECTOR_MAX, WRITE_SLICE_BYTES
from livesync_trio.transport.arrivals import Arrivals

THIS_MACHINE: Final = "127.0.0.1:0"

NOTHING: Final = memoryview(b"")


class PeerGone(Exception):
    """The bytes cannot be delivered. `stalled`: the peer is there, but took none for the stall limit."""

    def __init__(self, message: str, *, stalled: bool) -> None:
        super().__init__(message)
        self.stalled = stalled


def peer_address(stream: trio.abc.Stream) -> str:
    """`host:port` of the peer, empty where the stream has none (in tests).

    At the other end of a Unix socket is a program on this machine, and so it counts as one.
    """
    socket = getattr(stream, "socket", None)
    if socket is None:
        return ""
    if socket.family == AF_UNIX:
        return THIS_MACHINE
    try:
        host, port = socket.getpeername()[:2]
    except OSError:  # gone already
        return ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def receive(stream: trio.abc.Stream) -> bytes:
    """The next bytes from a stream; empty when the peer has gone, however it went. Always a checkpoint."""
    try:
        if not isinstance(stream, trio.SocketStream):
            return bytes(await stream.receive_some(RECEIVE_BYTES))
        while True:
            await trio.lowlevel.wait_readable(stream.socket.fileno())
            try:
                return os.read(stream.socket.fileno(), RECEIVE_BYTES)
            except BlockingIOError:
                continue
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
        return b""


def flow(stream: trio.abc.Stream, arrivals: Arrivals | None, take: Callable[[bytes], bool]) -> Awaitable[None]:
    """Hand over bytes as they arrive, until `take` says that is enough for now.

    Args:
        stream: to read.
        arrivals: hears for the sockets of all peers; without it a socket is waited for by itself.
        take: gets the bytes, empty when the peer has gone; returns whether to go on. Must not wait.

    Always a checkpoint. Raises what `take` raises.
    """
    if arrivals is not None and isinstance(stream, trio.SocketStream):
        return arrivals.flow(stream.socket.fileno(), take)  # no coroutine around it: an idle peer holds each of them
    return _receive_all(stream, take)


async def _receive_all(stream: trio.abc.Stream, take: Callable[[bytes], bool]) -> None:
    while take(await receive(stream)):
        pass


def send_now(stream: trio.abc.Stream, data: bytes) -> memoryview:
    """Send what the kernel takes without waiting.

    Returns:
        The bytes that remain to be sent; all of them for a stream that is no TCP socket.

    Raises:
        PeerGone: it closed or broke.
    """
    sent = 0
    if data and isinstance(stream, trio.SocketStream):
        try:
            sent = os.write(stream.socket.fileno(), data)
        except BlockingIOError:
            pass
        except OSError:
            raise PeerGone("the peer has gone", stalled=False) from None
    return NOTHING if sent == len(data) else memoryview(data)[sent:]


def write_now(stream: trio.abc.Stream, pieces: list[bytes]) -> list[memoryview]:
    """Send what the kernel takes of large pieces without waiting and without joining them. Otherwise as `send_now`."""
    sent = 0
    if isinstance(stream, trio.SocketStream):
        try:
            sent = os.writev(stream.socket.fileno(), pieces[:VECTOR_MAX])
        except BlockingIOError:
            pass
        except OSError:
            raise PeerGone("the peer has gone", stalled=False) from None
    unsent = []
    for piece in pieces:
        if sent < len(piece):
            unsent.append(memoryview(piece)[sent:])
        sent = max(0, sent - len(piece))
    return unsent


async def send(stream: trio.abc.Stream, data: bytes | memoryview, stall_limit_s: float) -> None:
    """Send all bytes, however long that takes, as long as the peer takes some within each stall limit.

    A checkpoint only when the kernel does not take everything at once.

    Raises:
        PeerGone: it closed, broke, or stalled. How much arrived is unknown.
    """
    view = memoryview(data)
    try:
        if isinstance(stream, trio.SocketStream):
            await _send_to_socket(stream.socket, view, stall_limit_s)
            return
        for start in range(0, len(view), WRITE_SLICE_BYTES):
            with trio.move_on_after(stall_limit_s) as patience:
                await stream.send_all(view[start : start + WRITE_SLICE_BYTES])
            if patience.cancelled_caught:
                raise _stalled(stall_limit_s)
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
        raise PeerGone("the peer has gone", stalled=False) from None


async def _send_to_socket(socket: trio.socket.SocketType, view: memoryview, stall_limit_s: float) -> None:
    while view:
        try:
            view = view[os.write(socket.fileno(), view) :]
        except BlockingIOError:
            with trio.move_on_after(stall_limit_s) as patience:
                await trio.lowlevel.wait_writable(socket.fileno())
            if patience.cancelled_caught:
                raise _stalled(stall_limit_s) from None


def _stalled(stall_limit_s: float) -> PeerGone:
    return PeerGone(f"took no bytes for {stall_limit_s:g} s", stalled=True)
