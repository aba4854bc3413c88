"""At the log level DEBUG, a line for each message of a connection: its name, request, size. Never what is in it."""

import logging
from collections.abc import Iterable

from livesync_trio.connection.channel import Message
from livesync_trio.telemetry import get_logger
from livesync_trio.wire.label import label

_log = get_logger("connection")


def wanted() -> bool:
    """Whether anybody wants the lines. Asked when a connection is opened, so that the others pay nothing for it."""
    return _log.is_enabled_for(logging.DEBUG)


def log_received(number: int, messages: Iterable[bytes]) -> None:
    """A line for each message of a client. `number`: of the connection."""
    for message in messages:
        name, request = label(message)
        _log.debug("frame received", connection=number, message=name, request=request, size_bytes=len(message))


def log_sent(number: int, messages: Iterable[Message]) -> None:
    """A line for each message to a client. `number`: of the connection."""
    for message in messages:
        whole = message if isinstance(message, bytes) else b"".join(message)
        name, request = label(whole)
        _log.debug("frame sent", connection=number, message=name, request=request, size_bytes=len(whole))
