"""Events of a store, and the client sessions they came from: read from the log in a reader thread, so much at a time.

An answer is made by splicing the stored texts, so `args` are sent byte for byte as they came. Each request looks at a
bounded number of events; `next` says where the following one goes on.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Final, Literal, cast

import attrs
import msgspec
from msgspec import UNSET, Meta, UnsetType

from livesync_trio.admin.declaring import PAGE, AfterEvent, Answer, Caller, Limit, Request, StoreName, Time
from livesync_trio.admin.server_view import ServerView
from livesync_trio.admin.stores import unknown
from livesync_trio.archive.reading import newest_first
from livesync_trio.errors import Refusal
from livesync_trio.limits import READ_MAX_BYTES, READ_MAX_EVENTS
from livesync_trio.model import ROOT_SEQ_NUM, LogState, StoredEvent, StoreId
from livesync_trio.openapi import moment_read
from livesync_trio.storage.base import Reader
from livesync_trio.wire.choice import Choice, origin_of

ADMIN_SCAN_EVENTS: Final = 10_000
"""Events one request looks through for a filter: some 75 ms of a reader thread (decision 0006)."""

ADMIN_SCAN_BYTES: Final = 16 * 1024 * 1024
"""Event bytes one request looks through, should the events be large."""

ADMIN_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Event bytes after which an answer ends and names the next page; a single larger event is given whole."""


class ListEvents(Request, frozen=True):
    """Which events of which store."""

    store_id: StoreName
    after: AfterEvent | UnsetType = UNSET
    order: Annotated[
        Literal["ascending", "descending"],
        Meta(description="Oldest first, or newest first. Descending, `after` stands for smaller numbers."),
    ] = "ascending"
    limit: Limit = PAGE
    name: Annotated[str, Meta(description="Events of this name only.")] = ""
    client_id: Annotated[str, Meta(description="Events of this client only.")] = ""
    session_id: Annotated[str, Meta(description="Events of this session only.")] = ""
    since: Annotated[Time, Meta(description="Events pushed at this moment or later only.")] | UnsetType = UNSET
    until: Annotated[Time, Meta(description="Events pushed before this moment only.")] | UnsetType = UNSET
    user: Annotated[str, Meta(description="Events that this user pushed only; see LIVESYNC_STORE_USER.")] = ""

    def __post_init__(self) -> None:
        """Write moments as events have them, so that they compare. Raises ValueError."""
        for name in ("since", "until"):
            if text := getattr(self, name):
                msgspec.structs.force_setattr(self, name, moment_read(text))

    @property
    def choice(self) -> Choice:
        """Which of them are wanted."""
        fields = (self.name, self.client_id, self.session_id, self.since, self.until, self.user)
        return Choice(*(text or None for text in fields))


class Event(Answer, frozen=True):
    """One event, as it is sent; made from its stored text, so never held in this form."""

    seq_num: int
    parent_seq_num: int
    name: str
    args: Any
    client_id: str
    session_id: str
    created_at: Time
    user: str | UnsetType = UNSET


class EventPage(Answer, frozen=True):
    """Some events, and where the next page begins."""

    events: list[Event]
    next: int | None


class ListSessions(Request, frozen=True):
    """Which part of which log."""

    store_id: StoreName
    after: AfterEvent = 0


class Session(Answer, frozen=True):
    """What one client session pushed."""

    client_id: str
    session_id: str
    events: int
    first_seq_num: int
    last_seq_num: int
    first_at: Time
    last_at: Time


class SessionPage(Answer, frozen=True):
    """Some sessions, and where the next page begins."""

    sessions: list[Session]
    next: int | None


async def list_events(server: ServerView, asked: ListEvents, _caller: Caller) -> EventPage | Refusal:
    """Events of a store, page by page; a page may be empty although `next` names another."""
    found = await server.readers.ask(lambda reader: _page(reader, asked))
    return unknown(asked.store_id) if found is None else found


async def list_sessions(server: ServerView, asked: ListSessions, _caller: Caller) -> SessionPage | Refusal:
    """Client sessions seen in the next part of a log; a session may come again in the next one."""
    found = await server.readers.ask(lambda reader: _sessions(reader, asked))
    return unknown(asked.store_id) if found is None else found


def as_json(event: StoredEvent) -> bytes:
    """An event in full: the stored text with the time of its push, and the user who pushed it where that is stored."""
    user = b"" if event.user is None else b',"user":%b' % msgspec.json.encode(_encodable(event.user))
    return b'%b,"createdAt":"%b"%b}' % (event.json[:-1], event.created_at.encode(), user)


# --- in a reader thread ----------------------------------------------------------------------------------------------


def _page(reader: Reader, asked: ListEvents) -> EventPage | None:
    state = reader.state(StoreId(asked.store_id))
    if state is None:
        return None
    wanted = asked.choice
    taken: list[msgspec.Raw] = []
    size_bytes = 0
    after = None if asked.after is UNSET else asked.after
    descending = asked.order == "descending"
    seen = (state.head + 1 if descending else ROOT_SEQ_NUM) if after is None else after
    for event in _scan_back(reader, state, seen) if descending else _scan(reader, state, seen):
        if wanted.takes(event):
            text = as_json(event)
            if taken and size_bytes + len(text) > ADMIN_ANSWER_BYTES:
                break
            taken.append(msgspec.Raw(text))
            size_bytes += len(text)
        seen = event.seq_num
        if len(taken) == asked.limit:
            break
    if descending:
        more = next(newest_first(reader, state, seen), None)
        return EventPage(events=cast("list[Event]", taken), next=None if more is None else seen)
    return EventPage(events=cast("list[Event]", taken), next=_next(seen, state))


@attrs.define
class _Seen:
    events: int
    first: StoredEvent
    last: StoredEvent


def _sessions(reader: Reader, asked: ListSessions) -> SessionPage | None:
    state = reader.state(StoreId(asked.store_id))
    if state is None:
        return None
    sessions: dict[tuple[str, str], _Seen] = {}
    seen = asked.after
    for event in _scan(reader, state, asked.after):
        _, client_id, session_id = origin_of(event)
        known = sessions.get((client_id, session_id))
        if known is None:
            sessions[client_id, session_id] = _Seen(1, event, event)
        else:
            known.events += 1
            known.last = event
        seen = event.seq_num
    return SessionPage(sessions=[_told(*key, found) for key, found in sessions.items()], next=_next(seen, state))


def _told(client_id: str, session_id: str, seen: _Seen) -> Session:
    return Session(
        client_id=_encodable(client_id),
        session_id=_encodable(session_id),
        events=seen.events,
        first_seq_num=seen.first.seq_num,
        last_seq_num=seen.last.seq_num,
        first_at=seen.first.created_at,
        last_at=seen.last.created_at,
    )


def _scan(reader: Reader, state: LogState, after: int) -> Iterator[StoredEvent]:
    """The events behind a number, as many as one request may look at."""
    left, left_bytes = ADMIN_SCAN_EVENTS, ADMIN_SCAN_BYTES
    while left > 0 and left_bytes > 0 and after < state.head:
        events = reader.read(state, after, state.head, min(left, READ_MAX_EVENTS), READ_MAX_BYTES)
        if not events:
            return
        yield from events
        left -= len(events)
        left_bytes -= sum(len(event.json) for event in events)
        after = events[-1].seq_num


def _scan_back(reader: Reader, state: LogState, before: int) -> Iterator[StoredEvent]:
    """The events in front of a number, newest first, as many as one request may look at."""
    left_bytes = ADMIN_SCAN_BYTES
    for event in islice(newest_first(reader, state, before), ADMIN_SCAN_EVENTS):
        yield event
        left_bytes -= len(event.json)
        if left_bytes <= 0:
            return


def _next(seen: int, state: LogState) -> int | None:
    return seen if seen < state.head else None


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()
