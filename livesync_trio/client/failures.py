"""What a sync client can be told, as exceptions.

SyncError
├── BadAddress           the URL or the store id cannot be used (a ValueError too)
├── Offline              there is no connection; nothing was sent
├── OutcomeUnknown       the connection was lost while a push was under way: it may be stored
├── Refused              the server says no; `retry` tells whether it may say yes later
│   ├── Unauthorized     … to who we are
│   ├── InvalidPush      … to what we push
│   ├── ServerAhead      … because the log has gone on: pull, rebase, push again
│   └── BackendIdMismatch   … because the store was reset or replaced: start over
├── LogBroken            what comes does not continue what we have, and asking again does not help
│   └── LogGone          … because the store was reset, where a generation has no identity to tell it by (0.3)
└── NotUnderstood        it speaks another protocol
"""

from livesync_trio import errors
from livesync_trio.errors import Kind, LivesyncError, Refusal


class SyncError(LivesyncError):
    """Base of all of them. No message has a secret in it."""


class BadAddress(SyncError, ValueError):
    """The URL or the store id cannot be used."""


class Offline(SyncError):
    """There is no connection to the server now. Nothing was sent."""


class OutcomeUnknown(SyncError):
    """The connection was lost while a push waited for its answer. Pull to see whether it is stored."""


class LogBroken(SyncError):
    """The server's log does not continue what this client has, and pulling again brought the same."""


class LogGone(LogBroken):
    """The store was reset or replaced: start over. Of 0.3 only, where no identity tells it."""


class NotUnderstood(SyncError):
    """The server sent what this client does not understand."""


class Refused(SyncError):
    """The server refuses.

    Attributes:
        kind: row of `errors.RULES`, where the server names one.
        retry: whether the same request may succeed later without being changed.
        retry_after_s: when, if the server says so.
    """

    def __init__(
        self, message: str, kind: Kind = Kind.HOOK_REFUSED, *, retry: bool = False, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry = retry
        self.retry_after_s = retry_after_s


class Unauthorized(Refused):
    """The server does not let this client in, or not to this store."""


class InvalidPush(Refused):
    """The server does not take this batch, whatever the state of the log."""


class ServerAhead(Refused):
    """The log has gone on: its head is `head`, the batch continued `provided`."""

    def __init__(self, message: str, head: int, provided: int) -> None:
        super().__init__(message, Kind.SERVER_AHEAD)
        self.head = head
        self.provided = provided


class BackendIdMismatch(Refused):
    """The store has the identity `expected`, and this client knew it under `received`."""

    def __init__(self, message: str, expected: str, received: str) -> None:
        super().__init__(message, Kind.BACKEND_ID_MISMATCH)
        self.expected = expected
        self.received = received


_UNAUTHORIZED = frozenset({Kind.UNAUTHENTICATED, Kind.NOT_ALLOWED, Kind.TOKEN_EXPIRED})
_INVALID = frozenset({Kind.INVALID_BATCH, Kind.INVALID_REQUEST, Kind.BODY_TOO_BIG, Kind.FRAME_TOO_BIG})


def failure_of(refusal: Refusal, place: str) -> Refused:
    """A server's refusal as an exception; `place` is the server's URL without secrets."""
    message = f"{place}: {refusal.message}"
    match refusal:
        case errors.ServerAhead():
            return ServerAhead(message, refusal.head, refusal.provided)
        case errors.BackendIdMismatch():
            return BackendIdMismatch(message, refusal.expected, refusal.received)
    retry = refusal.rule.retry
    if refusal.kind in _UNAUTHORIZED:
        return Unauthorized(message, refusal.kind, retry=retry)
    if refusal.kind in _INVALID:
        return InvalidPush(message, refusal.kind)
    return Refused(message, refusal.kind, retry=retry)


_RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


def failure_of_status(status: int, body: bytes, retry_after: str, place: str) -> Refused:
    """An HTTP answer that is none of the protocol, as an exception."""
    told = body.decode(errors="replace").strip()[:300]
    message = f"{place}: it refuses the connection with status {status} {told}".rstrip()
    retry_after_s = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
    if status in {401, 403}:
        return Unauthorized(message, Kind.UNAUTHENTICATED if status == 401 else Kind.NOT_ALLOWED)
    return Refused(message, Kind.BAD_HTTP, retry=status in _RETRIED_STATUSES, retry_after_s=retry_after_s)
