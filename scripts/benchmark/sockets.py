"""An epoll loop and WebSockets on plain sockets: one system call to learn, one to read, one to write, no objects.

Owns the sockets of the load generator. They block when written to, which the server's reading ends; they are read only
when the kernel says there is something.
"""

import select
import socket
import time
from collections.abc import Callable
from typing import Final

from scripts.benchmark import wire

RECEIVE_BYTES: Final = 64 * 1024
"""Asked of a socket at once; above 128 KiB the C library maps and unmaps memory for every call (15 µs, measured)."""

HANDSHAKE_LIMIT_S: Final = 20.0
"""For one connection to be opened; a server that has 10,000 to open may take its time."""

PATIENCE_S: Final = 60.0
"""Without any progress for so long, a scenario fails."""

CLIENT_PING_S: Final = 10.0
"""How often a client gives a sign of life (SPEC 3.6)."""


class BenchError(Exception):
    """The server did something else than it must, so that its figures mean nothing."""


class Socket:
    """A socket of the loop. Subclasses say what is done with the bytes."""

    __slots__ = ("fileno", "receive", "sendall", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fileno = sock.fileno()
        self.sendall = sock.sendall
        self.receive = sock.recv

    def readable(self) -> None:
        """The kernel has bytes for this socket, or its end."""
        data = self.receive(RECEIVE_BYTES)
        if not data:
            raise BenchError(f"the server closed a connection of {type(self).__name__}")
        self.received(data)

    def received(self, data: bytes) -> None:
        """Act on bytes."""
        raise NotImplementedError


class Loop:
    """Waits for sockets and lets them read."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, Socket] = {}

    def add(self, member: Socket) -> None:
        """Listen to a socket."""
        self._sockets[member.fileno] = member
        self._epoll.register(member.fileno, select.EPOLLIN)

    def drop(self, member: Socket) -> None:
        """Close a socket."""
        self._epoll.unregister(member.fileno)
        del self._sockets[member.fileno]
        member.sock.close()

    def run_for(self, seconds: float, after_each: Callable[[], None] | None = None) -> None:
        """Serve the sockets for a time; `after_each` is called after every look at them, each millisecond at least.

        What is sent at a pace must not be late because nothing arrived: its delay would be taken for the server's.
        """
        end_s = time.perf_counter() + seconds
        look_s = 0.05 if after_each is None else 0.001
        while (now_s := time.perf_counter()) < end_s:
            self.once(min(end_s - now_s, look_s))
            if after_each is not None:
                after_each()

    def run_until(self, done: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
        """Serve the sockets until something is so.

        Raises:
            BenchError: nothing came for `patience_s`.
        """
        heard_s = time.perf_counter()
        while not done():
            if self.once(0.05):
                heard_s = time.perf_counter()
            elif time.perf_counter() - heard_s > patience_s:
                raise BenchError(f"nothing came for {patience_s:g} s while waiting for {what}")

    def once(self, timeout_s: float) -> int:
        """Look at the sockets once. Returns how many had something."""
        events = self._epoll.poll(timeout_s, 512)
        sockets = self._sockets
        for number, _ in events:
            member = sockets.get(number)
            if member is not None:
                member.readable()
        return len(events)


class Address:
    """Where a server listens."""

    def __init__(self, host: str, port: int, path: str = "/") -> None:
        self.host, self.port, self.path = host, port, path
        self.authority = f"{host}:{port}"

    def connect(self, receive_buffer_bytes: int | None = None) -> socket.socket:
        """A TCP connection that sends at once what it is given."""
        family = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        sock.settimeout(HANDSHAKE_LIMIT_S)
        sock.connect((self.host, self.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def begin_websocket(self, store_id: str, receive_buffer_bytes: int | None = None) -> socket.socket:
        """A connection on which an upgrade was asked for; `finish_upgrade` reads the answer."""
        sock = self.connect(receive_buffer_bytes)
        sock.sendall(wire.upgrade(self.authority, self.path, store_id))
        return sock

    def open_websocket(self, store_id: str) -> socket.socket:
        """A WebSocket after its handshake."""
        return finish_upgrade(self.begin_websocket(store_id))


def finish_upgrade(sock: socket.socket) -> socket.socket:
    """Read the answer to an upgrade.

    Raises:
        BenchError: it was refused.
    """
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = sock.recv(4096)
        if not data:
            raise BenchError(f"the server closed a connection instead of upgrading it: {answer[:200]!r}")
        answer += data
    if not answer.startswith(b"HTTP/1.1 101") or not answer.endswith(b"\r\n\r\n"):
        raise BenchError(f"the server did not upgrade: {answer[:200]!r}")
    sock.settimeout(None)
    return sock


class WebSocket(Socket):
    """Finds the frames in what is received."""

    __slots__ = ("_rest",)

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._rest = b""

    def received(self, data: bytes) -> None:
        """Cut bytes into frames; answer pings."""
        if self._rest:
            data = self._rest + data
        position, total = 0, len(data)
        while total - position >= 2:
            size, start = data[position + 1], position + 2
            if size == 126:
                start += 2
                size = int.from_bytes(data[start - 2 : start], "big")
            elif size == 127:
                start += 8
                size = int.from_bytes(data[start - 8 : start], "big")
            end = start + size
            if start > total or end > total:
                break
            kind = data[position]
            if kind == 0x81:
                self.message(data, start, end)
            elif kind == 0x89:
                self.sendall(wire.pong_frame(data[start:end]))
            elif kind == 0x88:
                raise BenchError(f"the server closed a WebSocket: {data[start:end]!r}")
            elif kind != 0x8A:
                raise BenchError(f"a frame that is not expected of a server: {data[position : position + 60]!r}")
            position = end
        self._rest = data[position:] if position < total else b""

    def message(self, data: bytes, start: int, end: int) -> None:
        """Act on the message `data[start:end]`."""
        raise NotImplementedError
