"""Events of a store, and the client sessions they came from: read from the log in a reader thread, so much at a time.

An answer is made by splicing the stored texts, so `args` are sent byte for byte as they came. Each request looks at a
bounded number of events; `next` says where the following one goes on.
"""

from collections.abc import Iterator
from typing import Any

import attrs
import msgspec

from livesync_trio.admin.declaring import Answer, Asked
from livesync_trio.admin.rooms import Rooms
from livesync_trio.admin.stores import unknown
from livesync_trio.errors import Refusal
from livesync_trio.limits import (
    ADMIN_ANSWER_BYTES,
    ADMIN_SCAN_BYTES,
    ADMIN_SCAN_EVENTS,
    READ_MAX_BYTES,
    READ_MAX_EVENTS,
)
from livesync_trio.model import LogState, StoredEvent, StoreId
from livesync_trio.storage.base import Reader
from livesync_trio.wire.choice import Choice, origin_of


async def list_events(rooms: Rooms, asked: Asked) -> Answer | Refusal:
    """A page of events of a store, all of them or chosen ones."""
    store_id = StoreId(asked.text("storeId") or "")
    wanted = Choice(*(asked.text(name) for name in ("name", "clientId", "sessionId", "since", "until")))
    after, limit = asked.number("after") or 0, asked.number("limit") or 1
    found = await rooms.readers.ask(lambda reader: _page(reader, store_id, after, limit, wanted))
    return unknown(store_id) if found is None else found


async def list_sessions(rooms: Rooms, asked: Asked) -> Answer | Refusal:
    """The client sessions of the next part of a log."""
    store_id = StoreId(asked.text("storeId") or "")
    after = asked.number("after") or 0
    found = await rooms.readers.ask(lambda reader: _sessions(reader, store_id, after))
    return unknown(store_id) if found is None else found


def as_json(event: StoredEvent) -> bytes:
    """An event in full: the stored text with the time of its push."""
    return b'%b,"createdAt":"%b"}' % (event.json[:-1], event.created_at.encode())


# --- in a reader thread ----------------------------------------------------------------------------------------------


def _page(reader: Reader, store_id: StoreId, after: int, limit: int, wanted: Choice) -> Answer | None:
    state = reader.state(store_id)
    if state is None:
        return None
    taken: list[bytes] = []
    size_bytes, seen = 0, after
    for event in _scan(reader, state, after):
        if wanted.takes(event):
            text = as_json(event)
            if taken and size_bytes + len(text) > ADMIN_ANSWER_BYTES:
                break
            taken.append(text)
            size_bytes += len(text)
        seen = event.seq_num
        if len(taken) == limit:
            break
    return Answer(b'{"events":[%b],"next":%b}' % (b",".join(taken), _next(seen, state)))


@attrs.define
class _Session:
    events: int
    first: StoredEvent
    last: StoredEvent


def _sessions(reader: Reader, store_id: StoreId, after: int) -> Answer | None:
    state = reader.state(store_id)
    if state is None:
        return None
    sessions: dict[tuple[str, str], _Session] = {}
    seen = after
    for event in _scan(reader, state, after):
        _, client_id, session_id = origin_of(event)
        known = sessions.get((client_id, session_id))
        if known is None:
            sessions[client_id, session_id] = _Session(1, event, event)
        else:
            known.events += 1
            known.last = event
        seen = event.seq_num
    shown = [_session_json(*key, session) for key, session in sessions.items()]
    return Answer(b'{"sessions":%b,"next":%b}' % (msgspec.json.encode(shown), _next(seen, state)))


def _session_json(client_id: str, session_id: str, session: _Session) -> dict[str, Any]:
    return {
        "clientId": _encodable(client_id),
        "sessionId": _encodable(session_id),
        "events": session.events,
        "firstSeqNum": session.first.seq_num,
        "lastSeqNum": session.last.seq_num,
        "firstAt": session.first.created_at,
        "lastAt": session.last.created_at,
    }


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


def _next(seen: int, state: LogState) -> bytes:
    return b"%d" % seen if seen < state.head else b"null"


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()
