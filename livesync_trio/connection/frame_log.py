"""At the log level DEBUG, a line for each message of a connection: its name, request, size. Never what is in it.

A connection is wrapped when it is opened, so that the others pay nothing for it.
"""

import logging
from collections.abc import Callable, Sequence

from livesync_trio.connection.channel import Channel, Incoming, Message
from livesync_trio.telemetry import get_logger
from livesync_trio.wire.label import label

_log = get_logger("connection")


def logged(channel: Channel, number: int) -> Channel:
    """The channel itself, or at DEBUG one that logs its messages under the number of the connection."""
    return LoggedChannel(channel, number) if _log.is_enabled_for(logging.DEBUG) else channel


class LoggedChannel:
    """A channel whose messages are logged. Implements `channel.Channel`."""

    def __init__(self, channel: Channel, number: int) -> None:
        self._channel = channel
        self._number = number

    @property
    def on_control(self) -> Callable[[], None]:
        """See `Channel`."""
        return self._channel.on_control

    @on_control.setter
    def on_control(self, told: Callable[[], None]) -> None:
        self._channel.on_control = told

    @property
    def held_back(self) -> bool:
        """See `Channel`."""
        return self._channel.held_back

    @property
    def overdue(self) -> bool:
        """See `Channel`."""
        return self._channel.overdue

    async def flow(self, take: Callable[[list[Incoming]], bool]) -> None:
        """See `Channel`."""

        def log_and_take(messages: list[Incoming]) -> bool:
            for message in messages:
                name, request = label(message.data)
                size_bytes = len(message.data)
                _log.debug(
                    "frame received", connection=self._number, message=name, request=request, size_bytes=size_bytes
                )
            return take(messages)

        await self._channel.flow(log_and_take)

    @property
    def has_control(self) -> bool:
        """See `Channel`."""
        return self._channel.has_control

    def begin(self, messages: Sequence[Message]) -> bool:
        """See `Channel`."""
        for message in messages:
            whole = message if isinstance(message, bytes) else b"".join(message)
            name, request = label(whole)
            _log.debug("frame sent", connection=self._number, message=name, request=request, size_bytes=len(whole))
        return self._channel.begin(messages)

    async def finish(self) -> None:
        """See `Channel`."""
        await self._channel.finish()

    def probe(self) -> None:
        """See `Channel`."""
        self._channel.probe()

    async def close(self, code: int, reason: str) -> None:
        """See `Channel`."""
        await self._channel.close(code, reason)

    def let_go(self) -> None:
        """See `Channel`."""
        self._channel.let_go()

    def cut(self) -> None:
        """See `Channel`."""
        self._channel.cut()
