"""The hostile end of a TCP connection: raw bytes, and a small HTTP/1.1 reader that shares nothing with the server.

Every wait is bounded: a server that hangs fails a test, it does not hang it.
"""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass
from typing import Any

import trio
import trio.testing

PATIENCE_S = 90.0
"""How long any answer may take in these tests before the server counts as hung; on a machine with nothing else to do,
nothing here needs a hundredth of it."""


async def soon(event: trio.Event) -> None:
    """Wait for something that must happen, and not for ever."""
    with trio.fail_after(PATIENCE_S):
        await event.wait()


class Ended(Exception):
    """The server has closed the connection, or reset it."""


class Wire:
    """One TCP connection to the server."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.received = bytearray()
        """Everything that ever came from the server."""
        self._unread = bytearray()

    async def send(self, data: bytes) -> None:
        """Send all of it; a server that has closed already does not matter, its answer can still be read."""
        with trio.fail_after(PATIENCE_S):
            with contextlib.suppress(trio.BrokenResourceError):
                await self.stream.send_all(data)

    async def send_piecemeal(self, data: bytes, size: int = 1) -> None:
        """Send it in pieces of `size` bytes, each of which the server has seen before the next one is sent."""
        for start in range(0, len(data), size):
            await self.send(data[start : start + size])
            await trio.testing.wait_all_tasks_blocked()

    async def half_close(self) -> None:
        """Say that nothing more will be sent."""
        with trio.fail_after(PATIENCE_S):
            await self.stream.send_eof()

    async def close(self) -> None:
        await trio.aclose_forcefully(self.stream)

    async def reset(self) -> None:
        """Vanish with a TCP reset instead of a FIN."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        await trio.aclose_forcefully(self.stream)

    async def read(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises Ended."""
        while len(self._unread) < size:
            await self._receive()
        taken = bytes(self._unread[:size])
        del self._unread[:size]
        return taken

    async def read_until(self, end: bytes) -> bytes:
        """Up to and including `end`. Raises Ended."""
        while end not in self._unread:
            await self._receive()
        return await self.read(self._unread.index(end) + len(end))

    async def read_to_end(self) -> bytes:
        """Everything until the server closes."""
        try:
            while True:
                await self._receive()
        except Ended:
            taken = bytes(self._unread)
            self._unread.clear()
            return taken

    async def _receive(self) -> None:
        with trio.fail_after(PATIENCE_S):
            try:
                data = await self.stream.receive_some(65536)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
        if not data:
            raise Ended
        self.received += data
        self._unread += data

    # --- HTTP ------------------------------------------------------------------------------------------------------

    async def read_answer(self, method: str = "GET") -> HttpAnswer:
        """One HTTP answer, interim answers skipped. Raises Ended."""
        while True:
            lines = (await self.read_until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            version, status = lines[0].split(" ")[:2]
            assert version == "HTTP/1.1", lines[0]
            if status != "100":
                break
        headers: dict[str, str] = {}
        for name, _, value in (line.partition(":") for line in lines[1:-2]):
            before = headers.get(name.lower())  # two of one name are one with a comma (RFC 9110, 5.3)
            headers[name.lower()] = value.strip() if before is None else f"{before}, {value.strip()}"
        if method == "HEAD" or status in ("101", "204"):
            body = b""
        elif "content-length" in headers:
            body = await self.read(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            body = await self._read_chunks()
        else:
            body = await self.read_to_end()
        return HttpAnswer(int(status), headers, body)

    async def _read_chunks(self) -> bytes:
        body = bytearray()
        while size := int(await self.read_until(b"\r\n"), 16):
            body += await self.read(size)
            assert await self.read(2) == b"\r\n"
        assert await self.read(2) == b"\r\n"
        return bytes(body)

    async def ask(self, request: bytes) -> HttpAnswer:
        """Send the bytes of a request and read the answer."""
        await self.send(request)
        return await self.read_answer(request.partition(b" ")[0].decode("latin-1"))


@dataclass(frozen=True)
class HttpAnswer:
    """What came back. Names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def head(request_line: str, *headers: str) -> bytes:
    """A request's head with the one header that HTTP/1.1 demands, and the given ones."""
    return "\r\n".join([request_line, "Host: sync.example", *headers, "", ""]).encode("latin-1")


def post(target: str, body: bytes, *headers: str) -> bytes:
    """A POST as the clients send it."""
    length = f"Content-Length: {len(body)}"
    return head(f"POST {target} HTTP/1.1", "Content-Type: application/json", length, *headers) + body
