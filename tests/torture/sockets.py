"""Light WebSocket clients over real sockets, for `tests.simulation.leader`: one Python process carries hundreds of
them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from urllib.parse import quote_plus

import trio

from tests.simulation.leader import Line

RECEIVE_BYTES = 64 * 1024
CONNECT_LIMIT_S = 10.0
_UPGRADE = (
    "GET {target} HTTP/1.1\r\nHost: torture\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA


def target_of(store: str, *, v3: bool = False) -> str:
    """Path and query under which a store is reached."""
    return f"/websocket?storeId={quote_plus(store)}" if v3 else f"/?storeId={quote_plus(store)}&transport=ws"


def frame(payload: bytes, opcode: int = _TEXT) -> bytes:
    """A final frame, masked with zeros."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65536:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


class SocketLine:
    """An open WebSocket as a `Line`."""

    def __init__(self, stream: trio.SocketStream, leftover: bytes) -> None:
        self._stream = stream
        self._received = bytearray(leftover)
        self._unsent: list[bytes] = []
        self._work = trio.Event()
        self.gone = False

    def put(self, message: bytes) -> None:
        self._unsent.append(frame(message))
        self._work.set()

    def leave(self) -> None:
        self.gone = True
        self._stream.socket.close()

    async def get(self) -> bytes | None:
        try:
            while not self.gone:
                taken = self._take_frame()
                if taken is None:
                    data = await self._stream.receive_some(RECEIVE_BYTES)
                    if not data:
                        return None
                    self._received += data
                elif taken[0] == _TEXT:
                    return taken[1]
                elif taken[0] == _CLOSE:
                    return None
                elif taken[0] == _PING:
                    self._unsent.append(frame(taken[1], _PONG))
                    self._work.set()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        return None

    def _take_frame(self) -> tuple[int, bytes] | None:
        received = self._received
        if len(received) < 2:
            return None
        size, start = received[1] & 0x7F, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(received[2:start], "big")
        if len(received) < start or len(received) < start + size:
            return None
        opcode, payload = received[0] & 0x0F, bytes(received[start : start + size])
        del received[: start + size]
        return opcode, payload

    async def write_for_ever(self) -> None:
        """Send what was put, until the socket is gone."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                await self._work.wait()
                self._work = trio.Event()
                unsent, self._unsent = self._unsent, []
                await self._stream.send_all(b"".join(unsent))


async def shake_hands(stream: trio.SocketStream, target: str) -> bytes | None:
    """Upgrade a connection; gives the bytes behind the answer, None when it was refused or the server went."""
    try:
        await stream.send_all(_UPGRADE.format(target=target).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = await stream.receive_some(RECEIVE_BYTES)
            if not data:
                return None
            answer += data
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return None
    head, _, rest = answer.partition(b"\r\n\r\n")
    return bytes(rest) if head.startswith(b"HTTP/1.1 101") else None


async def open_stream(port: int) -> trio.SocketStream | None:
    """A TCP connection to this machine, without looking up names; None when it is refused."""
    sock = trio.socket.socket()
    try:
        await sock.connect(("127.0.0.1", port))
        return trio.SocketStream(sock)
    except OSError:
        sock.close()
        return None
    except BaseException:
        sock.close()
        raise


@contextlib.asynccontextmanager
async def connected(port: int, target: str) -> AsyncIterator[SocketLine | None]:
    """A WebSocket for the length of a block; None when nobody answers."""
    stream, rest = None, None
    try:
        with trio.move_on_after(CONNECT_LIMIT_S):
            stream = await open_stream(port)
            if stream is not None:
                rest = await shake_hands(stream, target)
        if stream is None or rest is None:
            yield None
            return
        line = SocketLine(stream, rest)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.write_for_ever)
            yield line
            nursery.cancel_scope.cancel()
    finally:  # also when all of the load is cancelled in the middle of a handshake
        if stream is not None:
            stream.socket.close()


def to_store(
    port: Callable[[], int], store: str, *, v3: bool = False
) -> Callable[[], AbstractAsyncContextManager[Line | None]]:
    """How a client connects to a store on whatever port the server has at that moment."""
    return lambda: connected(port(), target_of(store, v3=v3))
