"""What a connection needs of its transport: whole messages in, whole messages out, and an orderly end."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from livesync_trio.errors import Kind


class Incoming(msgspec.Struct, frozen=True, gc=False):
    """One message from the peer.

    Attributes:
        data: the bytes of the message, valid UTF-8.
        text: whether it came as a text message.
    """

    data: bytes
    text: bool


class SharedMessage:
    """A message that goes to many peers as it is: whoever sends it first keeps what the transport made of it.

    Attributes:
        text: the message.
        framed: as it goes to a socket; None before it was sent.
    """

    __slots__ = ("framed", "text")

    def __init__(self, text: bytes) -> None:
        """Nothing is made of it yet."""
        self.text = text
        self.framed: bytes | None = None


Message = bytes | SharedMessage | tuple[bytes, ...]
"""A message to be sent, whole or in parts that are sent one behind the other."""


def size_of(message: Message) -> int:
    """Bytes of a message."""
    if isinstance(message, tuple):
        return sum(map(len, message))
    return len(message if isinstance(message, bytes) else message.text)


def whole(message: Message) -> bytes:
    """A message in one piece."""
    if isinstance(message, tuple):
        return b"".join(message)
    return message if isinstance(message, bytes) else message.text


class ChannelEnded(Exception):
    """The peer is gone, or broke the rules of the transport.

    Attributes:
        kind: None when it went in order or just vanished, else what it did wrong.
    """

    def __init__(self, kind: Kind | None, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Channel(Protocol):
    """A transport that carries messages. One task receives, one task sends."""

    on_control: Callable[[], None]
    """Called while receiving when something must be sent that is no message (a pong, the answer to a close)."""

    take_short: Callable[[bytes], bool]
    """Offered a short text that came alone, before it becomes a message, bytes as they came; whether it was taken."""

    @property
    def held_back(self) -> bool:
        """Whether nothing is read because the server has no room for the message that is coming."""

    @property
    def overdue(self) -> bool:
        """Whether a message for which room is held has been coming for too long."""

    async def flow(self, take: Callable[[list[Incoming]], bool]) -> None:
        """Hand over messages as they arrive, read by read, until `take` says that is enough for now.

        Args:
            take: gets what one read brought, possibly nothing; returns whether to go on. Must not wait.

        Always a checkpoint. Raises ChannelEnded, and what `take` raises.
        """

    @property
    def has_control(self) -> bool:
        """Whether something waits to be sent that is no message."""

    def begin(self, messages: Sequence[Message]) -> bool:
        """Send what waits as control data and then messages, as far as the peer takes them without waiting.

        Must not be called again before everything was sent.

        Returns:
            True when all of it was sent; False when `finish` must send the rest.

        Raises:
            ChannelEnded: the peer is gone.
        """

    async def finish(self) -> None:
        """Send what `begin` left.

        Raises:
            ChannelEnded: the peer is gone, or takes no bytes for the stall limit.
        """

    def probe(self) -> None:
        """Ask the peer for a sign of life, as control data."""

    async def close(self, code: int, reason: str) -> None:
        """Close in order: say why, wait briefly for the peer to agree, cut. Never raises ChannelEnded."""

    def let_go(self) -> None:
        """The connection has ended: give back what it took of the server."""
