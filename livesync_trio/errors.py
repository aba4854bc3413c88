"""What can go wrong, and the one table (`RULES`) that says how each of it is told to whom; `docs/errors.md` shows it.

Refusals are *values* (invariant 9): a push that comes too late is an expected outcome and is answered, not raised.
Exceptions are for what nobody can answer on the spot.
"""

import enum
import logging
import math
from typing import Final

import attrs


class Kind(enum.StrEnum):
    """Names of everything a client, an operator or the log can be told went wrong."""

    # a request is refused: the connection goes on
    SERVER_AHEAD = "server-ahead"
    BACKEND_ID_MISMATCH = "backend-id-mismatch"
    INVALID_BATCH = "invalid-batch"
    HEAD_MISMATCH = "head-mismatch"
    INVALID_EVENT = "invalid-event"
    INVALID_REQUEST = "invalid-request"
    UNKNOWN_RPC = "unknown-rpc"
    STORE_MISMATCH = "store-mismatch"
    UNAUTHENTICATED = "unauthenticated"
    NOT_ALLOWED = "not-allowed"
    HOOK_REFUSED = "hook-refused"
    HOOK_FAILED = "hook-failed"
    HOOK_TIMEOUT = "hook-timeout"
    TOKEN_EXPIRED = "token-expired"  # noqa: S105 - the name of an error
    TOO_MANY_REQUESTS = "too-many-requests"
    TOO_FAST = "too-fast"
    QUOTA_EXCEEDED = "quota-exceeded"
    INTERRUPTED = "interrupted"
    STORAGE_UNAVAILABLE = "storage-unavailable"
    STORE_FAILED = "store-failed"
    STORE_DAMAGED = "store-damaged"
    STORE_FROZEN = "store-frozen"
    AUDIT_UNAVAILABLE = "audit-unavailable"
    DRAINING = "draining"
    INTERNAL = "internal"
    # an HTTP request is refused before it is a sync request
    BAD_SYNC_URL = "bad-sync-url"
    BAD_HTTP = "bad-http"
    ORIGIN_REFUSED = "origin-refused"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    NOT_ACCEPTABLE = "not-acceptable"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    UPGRADE_REQUIRED = "upgrade-required"
    BAD_PARAMETER = "bad-parameter"
    NO_SUCH_CONNECTION = "no-such-connection"
    BODY_TOO_BIG = "body-too-big"
    HEADERS_TOO_BIG = "headers-too-big"
    REQUEST_TIMEOUT = "request-timeout"
    # a connection is closed
    BAD_FRAME = "bad-frame"
    BAD_TEXT = "bad-text"
    FRAME_TOO_BIG = "frame-too-big"
    PROTOCOL_ERROR = "protocol-error"
    ID_IN_USE = "id-in-use"
    ORPHANED_PULL = "orphaned-pull"
    STALLED = "stalled"
    SILENT = "silent"
    SERVICE_RESTART = "service-restart"
    CLOSED_BY_OPERATOR = "closed-by-operator"
    # a client of the change feed is told; only the first of these lets its connection go on
    REFETCH = "refetch"
    FEED_REFUSED = "feed-refused"
    NOT_ACKNOWLEDGED = "not-acknowledged"
    WRITE_REFUSED = "write-refused"
    # the process does not start or ends
    BAD_CONFIG = "bad-config"
    DATABASE_IN_USE = "database-in-use"
    DATABASE_UNUSABLE = "database-unusable"
    CANNOT_LISTEN = "cannot-listen"
    # a command ends without having done what it was asked
    NO_SUCH_STORE = "no-such-store"
    BAD_ARCHIVE = "bad-archive"
    ALREADY_THERE = "already-there"
    SERVER_UNREACHABLE = "server-unreachable"
    CHECKS_FAILED = "checks-failed"


@attrs.frozen
class Rule:
    """How one kind is told.

    Attributes:
        meaning: one sentence for the reader of the documentation.
        wire_tag: error tag inside an RPC `Exit`, None where it never is one.
        http_status: status of an HTTP answer, None where it never is one.
        close_code: WebSocket close code, None where the connection goes on.
        retry: whether the same request may succeed later without being changed.
        exit_code: the process's exit code, None where the process lives on.
        log_level: level at which the server logs it.
    """

    meaning: str
    wire_tag: str | None = None
    http_status: int | None = None
    close_code: int | None = None
    retry: bool = False
    exit_code: int | None = None
    log_level: int = logging.INFO


_UNKNOWN: Final = "UnknownError"

RULES: Final[dict[Kind, Rule]] = {
    Kind.SERVER_AHEAD: Rule(
        "The batch's parent is not the head. The client pulls, rebases and pushes again.",
        wire_tag="ServerAheadError",
        http_status=200,
        log_level=logging.DEBUG,
    ),
    Kind.BACKEND_ID_MISMATCH: Rule(
        "The store was reset or replaced since this client last synced. The client starts over.",
        wire_tag="BackendIdMismatchError",
        http_status=200,
    ),
    Kind.INVALID_BATCH: Rule(
        "The batch is not strictly ascending and chained, or a number is out of range.",
        wire_tag=_UNKNOWN,
        http_status=200,
        log_level=logging.WARNING,
    ),
    Kind.HEAD_MISMATCH: Rule(
        "The log is not at the event that `If-Match` names. Nothing was appended; the answer has the head.",
        http_status=412,
        log_level=logging.DEBUG,
    ),
    Kind.INVALID_EVENT: Rule(
        "An event does not fit the schema of its type, or has a type that is not taken (`event_schemas`).",
        wire_tag=_UNKNOWN,
        http_status=400,
        log_level=logging.WARNING,
    ),
    Kind.INVALID_REQUEST: Rule(
        "The request's payload does not have the shape of its tag.",
        wire_tag=_UNKNOWN,
        http_status=200,
        log_level=logging.WARNING,
    ),
    Kind.UNKNOWN_RPC: Rule(
        "The request's tag names no procedure of this server.",
        wire_tag=_UNKNOWN,
        http_status=200,
        log_level=logging.WARNING,
    ),
    Kind.STORE_MISMATCH: Rule(
        "The request names another store than the URL of its connection.",
        wire_tag=_UNKNOWN,
        http_status=200,
        log_level=logging.WARNING,
    ),
    Kind.UNAUTHENTICATED: Rule(
        "No valid token came with the request.",
        wire_tag=_UNKNOWN,
        http_status=401,
        close_code=1008,
        log_level=logging.WARNING,
    ),
    Kind.TOKEN_EXPIRED: Rule(
        "The token has expired since the connection was opened. The client comes back with a fresh one.",
        wire_tag=_UNKNOWN,
        http_status=401,
        close_code=1008,
        retry=True,
    ),
    Kind.NOT_ALLOWED: Rule(
        "The token or the validation hook does not allow this store, or an operator's role not this act.",
        wire_tag=_UNKNOWN,
        http_status=403,
        log_level=logging.WARNING,
    ),
    Kind.HOOK_REFUSED: Rule("A hook refused; its message is passed on.", wire_tag=_UNKNOWN, http_status=403),
    Kind.HOOK_FAILED: Rule(
        "A hook has a fault: it raised something else than a refusal. The log has the traceback.",
        wire_tag=_UNKNOWN,
        http_status=500,
        retry=True,
        log_level=logging.DEBUG,
    ),
    Kind.HOOK_TIMEOUT: Rule(
        "A hook did not answer within its limit.",
        wire_tag=_UNKNOWN,
        http_status=503,
        retry=True,
        log_level=logging.WARNING,
    ),
    Kind.TOO_MANY_REQUESTS: Rule(
        "More requests or pulls are open on this connection than allowed.",
        wire_tag=_UNKNOWN,
        http_status=429,
        retry=True,
        log_level=logging.WARNING,
    ),
    Kind.TOO_FAST: Rule(
        "The user, the address or the store is used faster than its rate allows, even after waiting a while.",
        wire_tag=_UNKNOWN,
        http_status=429,
        retry=True,
        log_level=logging.WARNING,
    ),
    Kind.QUOTA_EXCEEDED: Rule(
        "The user, the address or the store has all it may have.",
        wire_tag=_UNKNOWN,
        http_status=429,
        retry=True,
        log_level=logging.WARNING,
    ),
    Kind.INTERRUPTED: Rule("The client interrupted the request.", http_status=200, log_level=logging.DEBUG),
    Kind.STORAGE_UNAVAILABLE: Rule(
        "The database cannot be read or written at the moment. Nothing of the request was acknowledged.",
        wire_tag=_UNKNOWN,
        http_status=503,
        retry=True,
        exit_code=11,
        log_level=logging.ERROR,
    ),
    Kind.STORE_FAILED: Rule(
        "The store's actor crashed while the request waited, or is fenced after crashing repeatedly.",
        wire_tag=_UNKNOWN,
        http_status=503,
        retry=True,
        log_level=logging.ERROR,
    ),
    Kind.STORE_DAMAGED: Rule(
        "What the database holds of this store is not a whole log. It is refused until an operator mends or resets it.",
        wire_tag=_UNKNOWN,
        http_status=500,
        log_level=logging.ERROR,
    ),
    Kind.STORE_FROZEN: Rule(
        "The operator has frozen the store: it can be read and not written. Clients keep what they have and try again.",
        wire_tag=_UNKNOWN,
        http_status=423,
        retry=True,
        log_level=logging.DEBUG,
    ),
    Kind.AUDIT_UNAVAILABLE: Rule(
        "The audit log cannot be written, and the operator wants nothing done that is not recorded.",
        wire_tag=_UNKNOWN,
        http_status=503,
        retry=True,
        log_level=logging.WARNING,
    ),
    Kind.DRAINING: Rule(
        "The server is shutting down; another process takes over.", wire_tag=_UNKNOWN, http_status=503, retry=True
    ),
    Kind.INTERNAL: Rule(
        "A fault of the server; the log has the cause.",
        wire_tag=_UNKNOWN,
        http_status=500,
        close_code=1011,
        retry=True,
        log_level=logging.ERROR,
    ),
    Kind.BAD_SYNC_URL: Rule(
        "`storeId`, `payload` or `transport` in the URL is missing, repeated or unreadable.", http_status=400
    ),
    Kind.BAD_HTTP: Rule("The bytes are not a well-formed HTTP/1.1 request.", http_status=400),
    Kind.ORIGIN_REFUSED: Rule(
        "A web page that is not in `cors_origins` asks.", http_status=403, log_level=logging.WARNING
    ),
    Kind.NOT_FOUND: Rule("Nothing is at this path.", http_status=404),
    Kind.METHOD_NOT_ALLOWED: Rule("The path exists, but not for this method.", http_status=405),
    Kind.NOT_ACCEPTABLE: Rule("The path has no answer of a media type that the request accepts.", http_status=406),
    Kind.UNSUPPORTED_MEDIA_TYPE: Rule(
        "The request's body is of a media type, or a content coding, that is not read here.", http_status=415
    ),
    Kind.UPGRADE_REQUIRED: Rule("The WebSocket URL was requested without an upgrade.", http_status=426),
    Kind.BAD_PARAMETER: Rule(
        "A request to the HTTP API or the control plane has a parameter or body that is unknown, missing or not "
        "acceptable.",
        http_status=400,
    ),
    Kind.NO_SUCH_CONNECTION: Rule("The connection is not, or no longer, one of this server.", http_status=404),
    Kind.BODY_TOO_BIG: Rule("The request body is larger than the frame limit.", http_status=413),
    Kind.HEADERS_TOO_BIG: Rule("Request line and headers are larger than the limit.", http_status=431),
    Kind.REQUEST_TIMEOUT: Rule("The request did not arrive within its limit.", http_status=408),
    Kind.BAD_FRAME: Rule(
        "A message is not JSON, not an object, or has no readable tag or id.",
        close_code=1008,
        log_level=logging.WARNING,
    ),
    Kind.BAD_TEXT: Rule("A message is not UTF-8.", close_code=1007, log_level=logging.WARNING),
    Kind.FRAME_TOO_BIG: Rule(
        "A message is larger than the frame limit or has too many fragments.",
        close_code=1009,
        log_level=logging.WARNING,
    ),
    Kind.PROTOCOL_ERROR: Rule("The peer breaks the WebSocket protocol.", close_code=1002, log_level=logging.WARNING),
    Kind.ID_IN_USE: Rule(
        "A request reuses the id of one that is still open.", close_code=1008, log_level=logging.WARNING
    ),
    Kind.ORPHANED_PULL: Rule(
        "The client believes in a live pull that this connection does not serve; closing makes it pull again.",
        close_code=1001,
    ),
    Kind.STALLED: Rule("The peer took no bytes for the stall limit.", close_code=1008, log_level=logging.WARNING),
    Kind.SILENT: Rule("The peer sent nothing for the idle limit, not even a pong.", close_code=1001),
    Kind.SERVICE_RESTART: Rule("The server shuts down; the client reconnects by itself.", close_code=1012, retry=True),
    Kind.CLOSED_BY_OPERATOR: Rule(
        "The operator closed the connection; the client reconnects by itself.", close_code=1012, retry=True
    ),
    Kind.REFETCH: Rule(
        "A client of the change feed cannot go on from its position. It forgets its rows; the initial state follows.",
        http_status=409,
    ),
    Kind.FEED_REFUSED: Rule(
        "A client of the change feed uses somebody else's client id, or its filter cannot be applied.",
        close_code=1008,
        log_level=logging.WARNING,
    ),
    Kind.NOT_ACKNOWLEDGED: Rule(
        "A client of the change feed did not acknowledge a chunk in time; it comes back and goes on from there.",
        close_code=1008,
        retry=True,
    ),
    Kind.WRITE_REFUSED: Rule(
        "A change that a client of the change feed wants to make does not fit its table; nothing was done."
    ),
    Kind.BAD_CONFIG: Rule("The configuration is not usable.", exit_code=2, log_level=logging.CRITICAL),
    Kind.DATABASE_IN_USE: Rule("Another process serves this database file.", exit_code=3, log_level=logging.CRITICAL),
    Kind.DATABASE_UNUSABLE: Rule(
        "The database cannot be opened, is of a newer format, or is damaged.",
        exit_code=4,
        log_level=logging.CRITICAL,
    ),
    Kind.CANNOT_LISTEN: Rule("The address cannot be listened on.", exit_code=5, log_level=logging.CRITICAL),
    Kind.NO_SUCH_STORE: Rule(
        "A request, or an operator, names a store that does not exist.", http_status=404, exit_code=6
    ),
    Kind.BAD_ARCHIVE: Rule(
        "What a command was to read from is not whole, or of no known format. Nothing was changed.", exit_code=7
    ),
    Kind.ALREADY_THERE: Rule(
        "An operator's request would have had to overwrite a store, or a file. It was left as it is.",
        http_status=409,
        exit_code=8,
    ),
    Kind.SERVER_UNREACHABLE: Rule(
        "A command got no usable answer from the server at `--url`.", retry=True, exit_code=9
    ),
    Kind.CHECKS_FAILED: Rule("`verify` or `doctor` found something wrong, and said what.", exit_code=10),
}


@attrs.frozen
class Refusal:
    """An expected "no": a value that travels back to the asker.

    Attributes:
        kind: which row of `RULES` applies.
        message: one sentence for the user: what happened and what to do. Never a traceback, never a secret.
    """

    kind: Kind
    message: str

    @property
    def rule(self) -> Rule:
        """The row of the table for this refusal."""
        return RULES[self.kind]


@attrs.frozen
class ServerAhead(Refusal):
    """Refusal of a push whose parent is not the head (SPEC 3.2 `ServerAheadError`).

    Attributes:
        head: durable head of the store.
        provided: the batch's `parentSeqNum`.
    """

    head: int
    provided: int

    @classmethod
    def of(cls, head: int, provided: int) -> "ServerAhead":
        """Refusal for a batch with parent `provided` at a store whose durable head is `head`."""
        return cls(
            Kind.SERVER_AHEAD, f"The store is at e{head}, the batch continues e{provided}. Pull first.", head, provided
        )


@attrs.frozen
class BackendIdMismatch(Refusal):
    """Refusal of a client that knows the store under another identity (SPEC 3.2 `BackendIdMismatchError`).

    Attributes:
        expected: the identity of the store.
        received: the identity the client sent.
    """

    expected: str
    received: str

    @classmethod
    def of(cls, expected: str, received: str) -> "BackendIdMismatch":
        """Refusal for a client that sent `received` to a store whose identity is `expected`."""
        return cls(Kind.BACKEND_ID_MISMATCH, "The store was reset or replaced. Start over from it.", expected, received)


@attrs.frozen
class HeadMismatch(Refusal):
    """Refusal of an append that expects another log.

    Attributes:
        head: durable head of the store.
        backend_id: its identity.
    """

    head: int
    backend_id: str

    @classmethod
    def of(cls, head: int, backend_id: str) -> "HeadMismatch":
        """Refusal at a store whose durable head is `head`."""
        return cls(
            Kind.HEAD_MISMATCH,
            f"The log has moved: its head is {head}. Read what is new, and decide again.",
            head,
            backend_id,
        )


@attrs.frozen
class TooFast(Refusal):
    """Refusal of what comes faster than allowed.

    Attributes:
        retry_after_s: when it would be taken, if nothing else comes in between.
    """

    retry_after_s: float

    @classmethod
    def of(cls, what: str, retry_after_s: float) -> "TooFast":
        """Refusal of `what`, named in words."""
        return cls(Kind.TOO_FAST, f"{what} Try again in {math.ceil(retry_after_s)} s.", retry_after_s)


class LivesyncError(Exception):
    """Base of the exceptions that cross a layer.

    LivesyncError
    ├── StorageUnavailable   the database does not answer now; later it may
    │   └── StorageFull      … because there is no room
    ├── StoreDamaged         what is stored of one store is not a whole log
    ├── LogReplaced          the log that was being read has been reset
    ├── StartupError         the process cannot start; carries the kind that gives the exit code
    └── CommandError         a command could not do what it was asked; carries the kind as well
    """


class StorageUnavailable(LivesyncError):
    """The database cannot be read or written now. Nothing was acknowledged; the caller may try again later."""


class StorageFull(StorageUnavailable):
    """There is no room for what was to be written. Nothing was acknowledged; reading goes on."""


class StoreDamaged(LivesyncError):
    """What the database holds of a store is not a whole log; a hole is never served (storage/base.py).

    Other stores are not affected. Trying again does not help: an operator restores a backup, or resets the store.
    """


class LogReplaced(LivesyncError):
    """The log being read was reset meanwhile. The caller registers again and learns the new identity."""


class StartupError(LivesyncError):
    """The process cannot start. `kind` gives the exit code, the message tells the operator what to do."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class CommandError(LivesyncError):
    """A command could not do what it was asked. `kind` gives the exit code, the message says what to do next."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
