"""At the log level DEBUG, a line for each message of a connection: its name, request, size. Never what is in it."""

import logging
import re
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from livesync_trio.connection.channel import Message, whole
from livesync_trio.telemetry import get_logger
from livesync_trio.wire.reading import Unreadable, read

UNREADABLE: Final = "unreadable"
SEVERAL: Final = "several"

_KNOWN: Final = frozenset(
    {
        *("Request", "Ack", "Interrupt", "Eof", "Ping", "Pong", "Chunk", "Exit", "Defect"),
        *("SyncWsRpc.Pull", "SyncWsRpc.Push", "SyncHttpRpc.Pull", "SyncHttpRpc.Push", "SyncHttpRpc.Ping"),
        *("WSMessage.Ping", "WSMessage.Pong", "WSMessage.Error", "WSMessage.PullReq", "WSMessage.PullRes"),
        *("WSMessage.PushReq", "WSMessage.PushAck", "WSMessage.AdminResetRoomReq", "WSMessage.AdminResetRoomRes"),
        *("WSMessage.AdminInfoReq", "WSMessage.AdminInfoRes"),
    }
)
_REQUEST_ID: Final = re.compile(rb'"?([0-9A-Za-z_-]{1,32})"?')


class _Label(msgspec.Struct, rename={"kind": "_tag"}):
    kind: str = ""
    tag: str = ""
    id: Raw | UnsetType = UNSET
    requestId: Raw | UnsetType = UNSET  # noqa: N815 - the wire's name


_decoder: Final = msgspec.json.Decoder(_Label)


def label(data: bytes) -> tuple[str, str | None]:
    """The name of a message and its request, None where it names none that looks like one."""
    if data[:1] == b"[":
        return SEVERAL, None
    try:
        found, _ = read(_decoder, data)
    except Unreadable:
        return UNREADABLE, None
    name = found.tag if found.kind == "Request" and found.tag in _KNOWN else found.kind
    given = found.requestId if found.id is UNSET else found.id
    match = None if given is UNSET else _REQUEST_ID.fullmatch(bytes(given))
    return name if name in _KNOWN else UNREADABLE, None if match is None else match[1].decode()


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
        text = whole(message)
        name, request = label(text)
        _log.debug("frame sent", connection=number, message=name, request=request, size_bytes=len(text))
