"""A client of a sync server: the log of one store, pulled and pushed, through every trouble of the network.

Speaks 0.4 over WebSocket and HTTP, and 0.3, with this server and with Cloudflare's. Knows the wire, and nothing of the
server.
"""

from livesync_trio.client.backend import Backend, open_backend
from livesync_trio.client.blocking import BlockingBackend, open_backend_blocking
from livesync_trio.client.failures import (
    BackendIdMismatch,
    BadAddress,
    InvalidPush,
    LogBroken,
    LogGone,
    NotUnderstood,
    Offline,
    OutcomeUnknown,
    Refused,
    ServerAhead,
    SyncError,
    Unauthorized,
)
from livesync_trio.client.link import State
from livesync_trio.client.ordering import START, Page, Position
from livesync_trio.client.pulling import Pull
from livesync_trio.wire.answers import Event

__all__ = [
    "START",
    "Backend",
    "BackendIdMismatch",
    "BadAddress",
    "BlockingBackend",
    "Event",
    "InvalidPush",
    "LogBroken",
    "LogGone",
    "NotUnderstood",
    "Offline",
    "OutcomeUnknown",
    "Page",
    "Position",
    "Pull",
    "Refused",
    "ServerAhead",
    "State",
    "SyncError",
    "Unauthorized",
    "open_backend",
    "open_backend_blocking",
]
