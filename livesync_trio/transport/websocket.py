"""A WebSocket as a channel of messages, on the sans-I/O protocol of `websockets` (decision 0001).

Owns framing, fragments, control frames and the closing handshake of one connection. Outgoing text frames are framed
here directly, many to a write, because that is what makes fan-out cheap; everything else is the library's.
"""

from collections.abc import Callable, Sequence
from typing import Final

import trio
from websockets.frames import BINARY, CONT, TEXT, Frame
from websockets.protocol import OPEN, SERVER, Protocol

from livesync_trio.connection.channel import ChannelEnded, Incoming
from livesync_trio.errors import Kind
from livesync_trio.limits import (
    CLOSE_LIMIT_S,
    CONTROL_MAX_BYTES,
    FRAGMENTS_MAX,
    RECEIVE_BYTES,
)
from livesync_trio.transport.sending import PeerGone, send_patiently

_KIND_OF_FAILURE: Final = {1002: Kind.PROTOCOL_ERROR, 1007: Kind.BAD_TEXT, 1009: Kind.FRAME_TOO_BIG}


class WebSocketChannel:
    """One open WebSocket, from after the handshake to the end. Implements `connection.channel.Channel`."""

    __slots__ = (
        "_control",
        "_control_sent",
        "_ended",
        "_fragment_text",
        "_fragments",
        "_leftover",
        "_protocol",
        "_stall_limit_s",
        "_stream",
        "on_control",
    )

    def __init__(self, stream: trio.abc.Stream, *, leftover: bytes, frame_max_bytes: int, stall_limit_s: float) -> None:
        """Take over a stream.

        Args:
            stream: after the handshake's answer was sent.
            leftover: bytes the client sent right behind its handshake.
            frame_max_bytes: largest message accepted.
            stall_limit_s: how long the peer may take no bytes at all.
        """
        self._stream = stream
        self._leftover = leftover
        self._stall_limit_s = stall_limit_s
        self._protocol = Protocol(SERVER, state=OPEN, max_size=frame_max_bytes)
        self._control: list[bytes] = []
        self._control_sent = trio.lowlevel.ParkingLot()
        self._fragments: list[bytes] = []
        self._fragment_text = True
        self._ended = trio.Event()
        self.on_control: Callable[[], None] = lambda: None

    # --- receiving -------------------------------------------------------------------------------------------------

    async def receive(self) -> list[Incoming]:
        """The next messages, all that one read brought; possibly none.

        Raises:
            ChannelEnded: the peer closed, vanished, or broke the protocol.
        """
        while sum(map(len, self._control)) > CONTROL_MAX_BYTES:
            await self._control_sent.park()  # a ping flood from a peer that does not read its pongs
        data = self._leftover or await self._receive_some()
        self._leftover = b""
        protocol = self._protocol
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
        self._take_control()
        try:
            incoming = self._messages()
        except ChannelEnded:
            self._ended.set()
            raise
        if protocol.state is not OPEN and not incoming:
            self._ended.set()
            failure = protocol.parser_exc
            kind = _KIND_OF_FAILURE.get(protocol.close_sent.code) if failure and protocol.close_sent else None
            raise ChannelEnded(kind, str(failure or "closed by the peer"))
        return incoming

    async def _receive_some(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(RECEIVE_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    def _messages(self) -> list[Incoming]:
        incoming: list[Incoming] = []
        for frame in self._protocol.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode in (TEXT, BINARY):
                self._fragment_text = frame.opcode == TEXT
            elif frame.opcode != CONT:
                continue
            if not frame.fin or self._fragments:
                self._fragments.append(bytes(frame.data))
                if len(self._fragments) > FRAGMENTS_MAX:
                    self._fail(Kind.FRAME_TOO_BIG, 1009, "too many fragments")
                if not frame.fin:
                    continue
                data, self._fragments = b"".join(self._fragments), []
            else:
                data = bytes(frame.data)
            try:
                data.decode()
            except UnicodeDecodeError:
                self._fail(Kind.BAD_TEXT, 1007, "not UTF-8")
            incoming.append(Incoming(data, self._fragment_text))
        return incoming

    def _fail(self, kind: Kind, code: int, reason: str) -> None:
        self._protocol.fail(code, reason)
        self._take_control()
        raise ChannelEnded(kind, reason)

    def _take_control(self) -> None:
        """Collect what the protocol wants sent: pongs, close frames."""
        writes = [data for data in self._protocol.data_to_send() if data]
        if writes:
            self._control += writes
            self.on_control()

    # --- sending ---------------------------------------------------------------------------------------------------

    async def send(self, messages: Sequence[bytes]) -> None:
        """Send control data that waits, then messages as text frames, in one write.

        Raises:
            ChannelEnded: the peer is gone, or took no bytes for the stall limit (kind STALLED).
        """
        pieces, self._control = self._control, []
        self._control_sent.unpark_all()
        if self._protocol.state is OPEN:
            for message in messages:
                pieces.append(frame_head(len(message)))
                pieces.append(message)
        if pieces:
            try:
                await send_patiently(self._stream, b"".join(pieces), self._stall_limit_s)
            except PeerGone as gone:
                raise ChannelEnded(Kind.STALLED if gone.stalled else None, str(gone)) from None

    def probe(self) -> None:
        """Queue a WebSocket ping."""
        if self._protocol.state is OPEN:
            self._protocol.send_ping(b"")
            self._take_control()

    async def close(self, code: int, reason: str) -> None:
        """Send the close frame (unless one was sent), give the peer a moment to answer, cut."""
        if self._protocol.state is OPEN:
            self._protocol.send_close(code, reason)
            self._take_control()
        try:
            await self.send(())
        except ChannelEnded:
            self._ended.set()
        with trio.move_on_after(CLOSE_LIMIT_S):
            await self._ended.wait()
        await trio.aclose_forcefully(self._stream)

    def cut(self) -> None:
        """Nothing to do: the stream is closed by whoever opened it, as soon as the connection's tasks have ended."""


def frame_head(size: int) -> bytes:
    """Head of an unmasked, final text frame with `size` bytes of payload (RFC 6455, 5.2)."""
    if size < 126:
        return bytes((0x81, size))
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")
