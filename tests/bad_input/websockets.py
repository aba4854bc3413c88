"""A WebSocket client made by hand from RFC 6455, so that every rule of it can be broken on purpose."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any, NamedTuple

from .wires import Ended, HttpAnswer, Wire, head

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
KEY = base64.b64encode(b"0123456789abcdef").decode()
ACCEPT = base64.b64encode(hashlib.sha1(f"{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}")


def upgrade(target: str, *headers: str) -> bytes:
    """The head of an upgrade request."""
    return head(f"GET {target} HTTP/1.1", *UPGRADE, *headers)


def frame(
    opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True, rsv: int = 0, length: bytes | None = None
) -> bytes:
    """One frame. `length` replaces the seven bits and the extended length by these bytes."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    mask_bit = 0x80 if masked else 0
    if length is None:
        size = len(payload)
        if size < 126:
            length = bytes((size,))
        elif size < 65536:
            length = b"\x7e" + size.to_bytes(2, "big")
        else:
            length = b"\x7f" + size.to_bytes(8, "big")
    header = bytes((first, length[0] | mask_bit)) + length[1:]
    # A mask of zeros is a mask: what matters here is whether there is one. One that changes the bytes has its own test.
    return header + (b"\0\0\0\0" if masked else b"") + payload


def text(message: object) -> bytes:
    """A frame with a message: as it is when it is text or bytes already, else as JSON."""
    if isinstance(message, bytes):
        return frame(TEXT, message)
    return frame(TEXT, message.encode() if isinstance(message, str) else json.dumps(message).encode())


class Frame(NamedTuple):
    opcode: int
    payload: bytes


class WebSocket:
    """An open WebSocket, seen from the client."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.close_code: int | None = None
        """The code of the server's close frame, once it came."""
        self.close_reason = ""

    @classmethod
    async def shake_hands(cls, wire: Wire, target: str, *headers: str) -> WebSocket:
        """Upgrade a connection."""
        answer = await wire.ask(upgrade(target, *headers))
        check_upgraded(answer)
        return cls(wire)

    async def send(self, *messages: object) -> None:
        """Send messages, all of them in one go."""
        await self.wire.send(b"".join(map(text, messages)))

    async def send_frame(self, *args: Any, **kwargs: Any) -> None:
        """Send one frame; arguments of `frame`."""
        await self.wire.send(frame(*args, **kwargs))

    async def receive_frame(self) -> Frame:
        """The next frame. Raises Ended at the end of the stream."""
        first, second = await self.wire.read(2)
        assert first & 0x80, "the server fragments"
        assert not first & 0x70, "the server sets reserved bits, although no extension was agreed on"
        assert not second & 0x80, "the server masks"
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(await self.wire.read(2 if size == 126 else 8), "big")
        received = Frame(first & 0x0F, await self.wire.read(size))
        if received.opcode == CLOSE:
            self.close_code = int.from_bytes(received.payload[:2], "big") if received.payload else 1005
            self.close_reason = received.payload[2:].decode()
        return received

    async def receive_text(self) -> bytes:
        """The next message as bytes; pings and pongs are skipped. Raises Ended when the server closes."""
        while True:
            received = await self.receive_frame()
            if received.opcode == TEXT:
                return received.payload
            if received.opcode == CLOSE:
                raise Ended
            assert received.opcode in (PING, PONG), f"a frame with opcode {received.opcode}"

    async def receive(self) -> Any:
        """The next message as Python values."""
        return json.loads(await self.receive_text())

    async def closed(self, *, agree: bool = True) -> int | None:
        """Read until the server's close frame and the end of the stream behind it.

        Args:
            agree: answer the close frame, as RFC 6455 wants it of whoever has not sent one.

        Returns the close code; None when the stream ended without one. Messages on the way are passed over.
        """
        try:
            while self.close_code is None:
                await self.receive_frame()
            if agree:
                await self.wire.send(frame(CLOSE, self.close_code.to_bytes(2, "big")))
            rest = await self.wire.read_to_end()
            assert rest == b"", f"{len(rest)} bytes after the close frame"
        except Ended:
            pass
        return self.close_code


def check_upgraded(answer: HttpAnswer) -> None:
    """Assert that the handshake succeeded as RFC 6455 wants it, without any extension or subprotocol."""
    assert answer.status == 101, (answer.status, answer.body)
    assert answer.headers["upgrade"].lower() == "websocket"
    assert answer.headers["connection"].lower() == "upgrade"
    assert answer.headers["sec-websocket-accept"] == ACCEPT
    assert "sec-websocket-extensions" not in answer.headers
    assert "sec-websocket-protocol" not in answer.headers
