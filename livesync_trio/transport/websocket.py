"""A WebSocket as a channel of messages, on the sans-I/O protocol of `websockets` (decision 0001).

Owns framing, fragments, control frames and the closing handshake of one connection. Plain text frames, which are
nearly all there are, are taken apart and put together right here (`frames`), because that is what makes fan-out
cheap; whatever else arrives is the library's, frame by frame.
"""

import codecs
import math
from collections.abc import Callable, Sequence
from typing import Final

import trio
from websockets.frames import BINARY, CONT, TEXT, Frame
from websockets.protocol import OPEN, SERVER, Protocol

from livesync_trio.connection.channel import ChannelEnded, Incoming, Message, SharedMessage
from livesync_trio.errors import Kind
from livesync_trio.limits import (
    CLOSE_LIMIT_S,
    CONTROL_MAX_BYTES,
    FRAGMENTS_MAX,
    FRAME_HEAD_MAX_BYTES,
    FRAMES_PER_TURN,
    MESSAGE_FREE_BYTES,
    MESSAGE_LIMIT_S,
    WRITE_BATCH_BYTES,
)
from livesync_trio.memory import Memory
from livesync_trio.telemetry import Traffic
from livesync_trio.transport import direct
from livesync_trio.transport.arrivals import Arrivals
from livesync_trio.transport.frames import frame_end, plain_text, short_text, text_head

_FINAL: Final = 0x80
_KIND_OF_FAILURE: Final = {1002: Kind.PROTOCOL_ERROR, 1007: Kind.BAD_TEXT, 1009: Kind.FRAME_TOO_BIG}


class WebSocketChannel:
    """One open WebSocket, from after the handshake to the end. Implements `connection.channel.Channel`."""

    __slots__ = (
        "_arrivals",
        "_changed",
        "_control",
        "_fragment_text",
        "_fragments",
        "_frame_max_bytes",
        "_gone",
        "_library",
        "_memory",
        "_more",
        "_over",
        "_reserved_bytes",
        "_reserved_until_s",
        "_returned_bytes",
        "_stall_limit_s",
        "_stream",
        "_take",
        "_traffic",
        "_unfinished",
        "_unsent",
        "_wanted_bytes",
        "on_control",
        "take_short",
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        leftover: bytes,
        frame_max_bytes: int,
        stall_limit_s: float,
        arrivals: Arrivals | None = None,
        traffic: Traffic | None = None,
        memory: Memory | None = None,
    ) -> None:
        """Take over a stream.

        Args:
            stream: after the handshake's answer was sent.
            leftover: bytes the client sent right behind its handshake.
            frame_max_bytes: largest message accepted.
            stall_limit_s: how long the peer may take no bytes at all.
            arrivals: hears for the sockets of all peers; without it, this one is waited for by itself.
            traffic: where the bytes are counted.
            memory: the budgets of the server.
        """
        self._memory = memory or Memory()
        self._wanted_bytes = 0  # room must be had for the message that is coming before more of it is read
        self._reserved_bytes = 0  # room that the message has that is coming
        self._reserved_until_s = math.inf
        self._returned_bytes = 0  # room of the message that came, until it has been acted upon
        self._stream = stream
        self._arrivals = arrivals
        self._traffic = traffic or Traffic()
        self._traffic.received_bytes += len(leftover)
        self._stall_limit_s = stall_limit_s
        self._frame_max_bytes = frame_max_bytes
        self._library: Protocol | None = None  # made when anything but a plain text frame must be understood
        self._unfinished = bytearray(leftover)  # the beginning of a frame whose rest has not come
        self._more = bool(leftover)  # whole frames may be in there, for the next turn
        self._unsent: list[memoryview] = []  # what the socket did not take
        self._control: list[bytes] = []
        self._changed: trio.lowlevel.ParkingLot | None = None  # whoever waits for `_control` to be sent, or for `_gone`
        self._fragments: list[bytes] = []
        self._fragment_text = True
        self._over: tuple[Kind | None, str] | None = None  # how it ended, as `ChannelEnded` says it
        self._take: Callable[[list[Incoming]], bool] = _nobody
        self._gone = False  # the peer has closed, or nothing more can come from it
        self.on_control: Callable[[], None] = lambda: None
        self.take_short: Callable[[bytes], bool] = _not_taken

    # --- receiving -------------------------------------------------------------------------------------------------

    async def flow(self, take: Callable[[list[Incoming]], bool]) -> None:
        """Hand over messages as they arrive; see `Channel`.

        Raises:
            ChannelEnded: the peer closed, vanished, or broke the protocol.
        """
        self._take = take
        try:
            while self._pongs_pile_up:
                await self._change()
            if self._wanted_bytes:
                await self._wait_for_room()
            elif self._reserved_bytes:  # it could not go on while we did not read
                self._have_room(self._reserved_bytes)
            while self._more:
                await trio.lowlevel.checkpoint()  # a flood of frames does not take everybody's time
                if not self._hand_over(b""):
                    break
            else:
                await direct.flow(self._stream, self._arrivals, self._receive)
        finally:
            self._take = _nobody  # no cycle is left for the garbage collector
        if self._over is not None:
            self._note_gone()
            raise ChannelEnded(*self._over)

    @property
    def held_back(self) -> bool:
        """See `Channel`."""
        return self._wanted_bytes > 0

    @property
    def overdue(self) -> bool:
        """See `Channel`."""
        return trio.current_time() > self._reserved_until_s

    def _receive(self, data: bytes) -> bool:
        """Take what the socket has brought; no bytes are the end of the connection."""
        if data:
            self._traffic.received_bytes += len(data)
            if not (self._unfinished or self._fragments):
                text = short_text(data)
                if text is not None and self.take_short(text):
                    return True
            return self._hand_over(data) and not self._more
        if self._library is None:
            self._over = self._over or (None, "the peer has vanished")
        else:
            self._library.receive_eof()
            self._note_end()
        return self._take([]) and self._over is None

    def _hand_over(self, data: bytes) -> bool:
        """Hand over what bytes complete; whether to go on."""
        incoming: list[Incoming] = []
        self._take_apart(data, incoming)
        go_on = self._take(incoming) and self._over is None and not (self._control and self._pongs_pile_up)
        if self._returned_bytes:  # a push in it is counted by whoever took it from now on
            self._memory.receiving(self._returned_bytes).give_back(self._returned_bytes)
            self._returned_bytes = 0
        return go_on and not self._wanted_bytes

    # --- room for a message that is coming: had as a whole before much of it is read, so that whoever has it can end

    def _ask_for_room(self, size_bytes: int) -> None:
        if size_bytes > MESSAGE_FREE_BYTES and not self._reserved_bytes:
            if self._memory.receiving(size_bytes).try_take(size_bytes):
                self._have_room(size_bytes)
            else:
                self._wanted_bytes = size_bytes

    async def _wait_for_room(self) -> None:
        await self._memory.receiving(self._wanted_bytes).wait_for(self._wanted_bytes)
        self._have_room(self._wanted_bytes)

    def _have_room(self, size_bytes: int) -> None:
        self._reserved_bytes, self._wanted_bytes = size_bytes, 0
        self._reserved_until_s = trio.current_time() + MESSAGE_LIMIT_S

    def _need_no_room(self) -> None:
        self._returned_bytes += self._reserved_bytes
        self._reserved_bytes, self._reserved_until_s = 0, math.inf

    def let_go(self) -> None:
        """Give back the room of a message whose rest does not come any more."""
        self.take_short = _not_taken
        for size_bytes in (self._reserved_bytes, self._returned_bytes):
            if size_bytes:
                self._memory.receiving(size_bytes).give_back(size_bytes)
        self._reserved_bytes = self._returned_bytes = 0

    @property
    def _pongs_pile_up(self) -> bool:
        """A ping flood comes from a peer that does not read its pongs."""
        return sum(map(len, self._control)) > CONTROL_MAX_BYTES

    @property
    def _protocol(self) -> Protocol:
        if self._library is None:
            self._library = Protocol(SERVER, state=OPEN, max_size=self._frame_max_bytes)
        return self._library

    @property
    def _open(self) -> bool:
        """Whether messages may still be sent."""
        return self._over is None and (self._library is None or self._library.state is OPEN)

    def _take_apart(self, data: bytes, incoming: list[Incoming]) -> None:
        """Cut what has arrived into frames and these into messages, so many at a time.

        The beginning of a frame waits for its rest, and what is left of a flood for the next turn.
        """
        buffer: bytes | bytearray = data
        if self._unfinished:
            buffer = self._unfinished
            buffer += data
        start, end_of_turn = 0, FRAMES_PER_TURN
        self._more = False
        while start < len(buffer) and self._over is None and (end := frame_end(buffer, start)) is not None:
            too_long = end - start > self._frame_max_bytes + FRAME_HEAD_MAX_BYTES
            if end > len(buffer) and not too_long:
                whole = buffer[start] & _FINAL and not self._fragments
                self._ask_for_room(end - start if whole else self._frame_max_bytes)
                break
            if not end_of_turn:
                self._more = True
                break
            end_of_turn -= 1
            text = None if too_long or self._fragments else plain_text(buffer, start, end)
            if text is not None and len(text) <= self._frame_max_bytes:
                if text.isascii() and not self._reserved_bytes:  # nearly all there are
                    incoming.append(Incoming(text, True))
                else:
                    self._take_message(text, incoming, text=True)
            else:
                self._give_to_library(bytes(buffer[start:end]), incoming)
            start = end
        if buffer is self._unfinished:
            del self._unfinished[:start]  # a copy for each piece of a large frame would take the square of its size
        elif start < len(buffer):
            self._unfinished = bytearray(buffer[start:])

    def _give_to_library(self, frame: bytes, incoming: list[Incoming]) -> None:
        """Fragments, binary and control frames, and everything that breaks the rules."""
        self._protocol.receive_data(frame)
        for event in self._protocol.events_received():
            assert isinstance(event, Frame)
            if event.opcode in (TEXT, BINARY, CONT):
                self._take_fragment(event, incoming)
        self._note_end()

    def _take_fragment(self, frame: Frame, incoming: list[Incoming]) -> None:
        if frame.opcode != CONT:
            self._fragment_text = frame.opcode == TEXT
        self._fragments.append(bytes(frame.data))
        if len(self._fragments) > FRAGMENTS_MAX:
            self._fail(Kind.FRAME_TOO_BIG, 1009, "too many fragments")
        elif frame.fin:
            data, self._fragments = b"".join(self._fragments), []
            self._take_message(data, incoming, text=self._fragment_text)
        elif not self._reserved_bytes and sum(map(len, self._fragments)) > MESSAGE_FREE_BYTES:
            self._ask_for_room(self._frame_max_bytes)

    def _take_message(self, data: bytes, incoming: list[Incoming], *, text: bool) -> None:
        if self._reserved_bytes:
            self._need_no_room()
        if data.isascii() or is_utf8(data):
            incoming.append(Incoming(data, text))
        else:
            self._fail(Kind.BAD_TEXT, 1007, "not UTF-8")

    def _fail(self, kind: Kind, code: int, reason: str) -> None:
        if self._over is None:
            self._over = (kind, reason)
            self._protocol.fail(code, reason)
            self._take_control()

    def _note_end(self) -> None:
        """See whether the library has found the connection to be over, and collect what it wants sent."""
        protocol = self._protocol
        self._take_control()
        if protocol.state is not OPEN and self._over is None:
            failure = protocol.parser_exc
            kind = _KIND_OF_FAILURE.get(protocol.close_sent.code) if failure and protocol.close_sent else None
            self._over = (kind, str(failure or "closed by the peer"))
            protocol.parser_exc = None  # its traceback leads back to the parser

    def _take_control(self) -> None:
        """Collect what the protocol wants sent: pongs, close frames."""
        writes = [data for data in self._protocol.data_to_send() if data]
        if writes:
            self._control += writes
            self.on_control()

    # --- sending ---------------------------------------------------------------------------------------------------

    @property
    def has_control(self) -> bool:
        """Whether pongs or a close frame wait to be sent."""
        return bool(self._control)

    def begin(self, messages: Sequence[Message]) -> bool:
        """Send control data that waits, then messages as text frames, as far as the socket takes them at once.

        Returns:
            True when all of it was sent; False when `finish` must send the rest.

        Raises:
            ChannelEnded: the peer is gone.
        """
        pieces, size_bytes = [], 0  # of the last message; a large one is given alone
        if self._control:
            pieces, self._control = self._control, []
            self._note_change()
        if self._over is None and (self._library is None or self._library.state is OPEN):  # `_open`, without a call
            for message in messages:
                if type(message) is SharedMessage:
                    if message.framed is None:
                        message.framed = text_head(len(message.text)) + message.text
                    pieces.append(message.framed)
                elif isinstance(message, bytes):
                    size_bytes = len(message)
                    pieces.append(text_head(size_bytes))
                    pieces.append(message)
                elif isinstance(message, tuple):
                    size_bytes = sum(map(len, message))
                    pieces.append(text_head(size_bytes))
                    pieces.extend(message)
        try:
            if size_bytes > WRITE_BATCH_BYTES:  # others may hold the same buffers: they are not copied
                self._traffic.sent_bytes += sum(map(len, pieces))
                self._unsent = direct.write_now(self._stream, pieces)
                return not self._unsent
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._traffic.sent_bytes += len(data)
            unsent = direct.send_now(self._stream, data)
        except direct.PeerGone as gone:
            raise ChannelEnded(None, str(gone)) from None
        if unsent:
            self._unsent = [unsent]  # only then: it holds on to all that was written
        return not unsent

    async def finish(self) -> None:
        """Send what `begin` left.

        Raises:
            ChannelEnded: the peer is gone, or took no bytes for the stall limit (kind STALLED).
        """
        unsent, self._unsent = self._unsent, []
        try:
            while unsent:
                await direct.send(self._stream, unsent.pop(0), self._stall_limit_s)
        except direct.PeerGone as gone:
            raise ChannelEnded(Kind.STALLED if gone.stalled else None, str(gone)) from None

    def probe(self) -> None:
        """Queue a WebSocket ping."""
        if self._open:
            self._protocol.send_ping(b"")
            self._take_control()

    async def close(self, code: int, reason: str) -> None:
        """Send the close frame (unless one was sent), give the peer a moment to answer, cut."""
        if self._open:
            self._protocol.send_close(code, reason)
            self._take_control()
        try:
            if not self.begin(()):
                await self.finish()
        except ChannelEnded:
            self._note_gone()
        with trio.move_on_after(CLOSE_LIMIT_S):
            while not self._gone:
                await self._change()
        await trio.aclose_forcefully(self._stream)

    def _note_gone(self) -> None:
        self._gone = True
        self._note_change()

    async def _change(self) -> None:
        """The lot exists while somebody waits: an idle peer holds none."""
        if self._changed is None:
            self._changed = trio.lowlevel.ParkingLot()
        await self._changed.park()

    def _note_change(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.unpark_all()


def _nobody(_: list[Incoming]) -> bool:
    """Takes messages while nobody wants any."""
    return False


def _not_taken(_: bytes) -> bool:
    """Takes no short message: it comes with the others."""
    return False


def is_utf8(data: bytes) -> bool:
    """Whether it is valid UTF-8, without making a text of it."""
    try:
        if len(data) <= WRITE_BATCH_BYTES:
            data.decode()
            return True
        decoder = codecs.getincrementaldecoder("utf-8")()
        for start in range(0, len(data), WRITE_BATCH_BYTES):  # as text, a large message would take four times its size
            decoder.decode(data[start : start + WRITE_BATCH_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
