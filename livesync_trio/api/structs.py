"""The JSON of the HTTP API: what is sent, and what comes back. Events are spliced from their texts, never held so."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from livesync_trio.limits import (
    API_PAGE,
    API_PAGE_MAX,
    API_WAIT_MAX_S,
    APPEND_ID_MAX_CHARACTERS,
    EVENTS_PER_PUSH_MAX,
    IDEMPOTENCY_KEY_MAX_CHARACTERS,
    SEQ_NUM_MAX,
)
from livesync_trio.openapi import Answer, Request, moment_read

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
EventId = Annotated[
    str,
    Meta(min_length=1, max_length=APPEND_ID_MAX_CHARACTERS, description="One event's own in its store, for ever."),
]
Number = Annotated[int, Meta(ge=1, le=SEQ_NUM_MAX)]
Head = Annotated[int, Meta(ge=0, le=SEQ_NUM_MAX, description="Number of the last event of the store; 0: it has none.")]
Identity = Annotated[str, Meta(description="The log's identity: another one after a reset or a restore.")]


class Nothing(Request, frozen=True):
    """A query without parameters."""


class NewEvent(Request, frozen=True):
    """An event to be appended."""

    type: Annotated[str, Meta(description="LiveStore's event name.")]
    data: Annotated[Any, Meta(description="LiveStore's args, kept byte for byte.")] = None
    id: EventId | None = None
    timestamp: Annotated[
        str | None, Meta(description="Taken for programs that send one, and not kept: the server's time counts.")
    ] = None
    client_id: str = "api"
    session_id: str = "api"


class NewEvents(Request, frozen=True):
    """Several, appended together or not at all."""

    events: Annotated[list[NewEvent], Meta(min_length=1, max_length=EVENTS_PER_PUSH_MAX)]


class AppendHeaders(Request, frozen=True, rename="kebab"):
    """Request headers of an append."""

    idempotency_key: Annotated[
        str,
        Meta(
            max_length=IDEMPOTENCY_KEY_MAX_CHARACTERS,
            description="Names the request: events without an id get `KEY/0`, `KEY/1` … of it.",
        ),
    ] = ""
    if_match: Annotated[
        str, Meta(description='`"17"`: append only if the head is 17; or an ETag, which names the identity as well.')
    ] = ""


class AppendedEvent(Answer, frozen=True):
    """What became of one event."""

    id: str
    seq_num: Number


class Appended(Answer, frozen=True):
    """What became of an append: durable, and published."""

    events: list[AppendedEvent]
    repeated: Annotated[int, Meta(ge=0, description="How many of them the store had already, under their ids.")]
    head: Head
    backend_id: Identity


class Event(Answer, frozen=True):
    """One event. `id` is null for those of LiveStore clients."""

    id: str | None
    seq_num: Number
    type: str
    data: Any
    timestamp: Time
    client_id: str
    session_id: str


class EventPage(Answer, frozen=True):
    """Some events, and where the next page begins."""

    events: list[Event]
    next: Annotated[int | None, Meta(description="Ask for events `after` this number; null: this is the head.")]
    head: Head
    backend_id: Identity


class ListEvents(Request, frozen=True):
    """Which events."""

    after: Annotated[
        int, Meta(ge=0, le=SEQ_NUM_MAX, description="Events behind this number only; what `next` said.")
    ] = 0
    backend_id: Annotated[str, Meta(description="The identity that `after` belongs to; refused when it has gone.")] = ""
    limit: (
        Annotated[int, Meta(ge=1, le=API_PAGE_MAX, description=f"Most events; {API_PAGE} a page when absent.")]
        | UnsetType
    ) = UNSET
    type: Annotated[str, Meta(description="Events of this type only.")] = ""
    since: Annotated[Time, Meta(description="Events appended at this moment or later only.")] | UnsetType = UNSET
    until: Annotated[Time, Meta(description="Events appended before this moment only.")] | UnsetType = UNSET
    wait: Annotated[
        int, Meta(ge=0, le=API_WAIT_MAX_S, description="Wait for so many seconds while there is nothing new.")
    ] = 0
    token: Annotated[
        str, Meta(description="The token, for browsers' EventSource and WebSocket, which send no headers.")
    ] = ""

    def __post_init__(self) -> None:
        """Write moments as events have them, so that they compare. Raises ValueError."""
        for name in ("since", "until"):
            if text := getattr(self, name):
                msgspec.structs.force_setattr(self, name, moment_read(text))


class EventHeaders(Request, frozen=True, rename="kebab"):
    """Request headers of a reading."""

    last_event_id: Annotated[str, Meta(description="Go on behind this event; EventSource sends it by itself.")] = ""
    if_none_match: Annotated[str, Meta(description="An ETag: 304 while there is nothing new.")] = ""


class Store(Answer, frozen=True):
    """What is kept about a store beside its events."""

    store_id: str
    backend_id: Identity
    head: Head
    events: Annotated[int, Meta(ge=0)]
    text_bytes: Annotated[int, Meta(ge=0)]
    created_at: Time
    last_sync_at: Time | None
    format_version: int


class Session(Answer, frozen=True):
    """One connection to the store."""

    connection: int | None
    protocol: str
    user: str | None
    since: Time


class Sessions(Answer, frozen=True):
    """The connections of this server to the store, oldest first."""

    sessions: list[Session]


class Problem(Answer, frozen=True):
    """A refusal (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: Annotated[str, Meta(description="Its kind: see docs/errors.md.")]
    head: int | UnsetType = UNSET
    backend_id: str | UnsetType = UNSET
    retry_after: float | UnsetType = UNSET
