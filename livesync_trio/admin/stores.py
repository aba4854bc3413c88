"""Stores: which there are, how each is, and its reset."""

from collections import Counter
from typing import Any

import msgspec

from livesync_trio.admin.declaring import Answer, Asked
from livesync_trio.admin.reading import refused
from livesync_trio.admin.rooms import Rooms
from livesync_trio.errors import Kind, Refusal
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import StoreSummary


async def list_stores(rooms: Rooms, asked: Asked) -> Answer:
    """A page of stores, in the order of their names' bytes."""
    limit = asked.number("limit") or 1
    after = asked.text("after")
    containing = asked.text("containing") or ""
    found = await rooms.readers.ask(
        lambda reader: reader.stores(None if after is None else StoreId(after), limit + 1, containing)
    )
    shown = found[:limit]
    connected = _connected(rooms)
    more = shown[-1].store_id if len(found) > limit else None
    return _json({"stores": [_as_json(rooms, summary, connected) for summary in shown], "next": more})


async def show_store(rooms: Rooms, asked: Asked) -> Answer | Refusal:
    """One store."""
    store_id = StoreId(asked.text("storeId") or "")
    summary = await rooms.readers.ask(lambda reader: reader.summary(store_id))
    return unknown(store_id) if summary is None else _json(_as_json(rooms, summary, _connected(rooms)))


async def reset_store(rooms: Rooms, asked: Asked) -> Answer | Refusal:
    """Give a store a new identity and an empty log, through its mailbox. Works on a damaged store, too."""
    store_id = StoreId(asked.body["storeId"])
    if asked.body["confirm"] != store_id:
        return refused("`confirm` must repeat `storeId`. Nothing was changed.")
    if await state_of(rooms, store_id) is None:
        return unknown(store_id)
    rooms.audit.record("reset", store=store_id, address=asked.address, via="control plane")
    answer = await rooms.open_store(store_id).reset()
    if isinstance(answer, Refusal):
        return answer
    return _json({"storeId": store_id, "backendId": answer.backend_id, "head": answer.head})


async def state_of(rooms: Rooms, store_id: StoreId) -> LogState | None:
    """What the database holds of a store; None when there is none, which asking its actor would create."""
    return await rooms.readers.ask(lambda reader: reader.state(store_id))


def unknown(store_id: str) -> Refusal:
    """There is no such store."""
    return Refusal(Kind.NO_SUCH_STORE, f"There is no store {store_id[:80]!r}.")


def _connected(rooms: Rooms) -> Counter[str]:
    """Peers of this server by store."""
    return Counter(peer.handle.store_id for peer in rooms.peers)


def _as_json(rooms: Rooms, summary: StoreSummary, connected: Counter[str]) -> dict[str, Any]:
    state = summary.state
    return {
        "storeId": summary.store_id,
        "head": state.head,
        "backendId": state.backend_id,
        "events": state.event_count,
        "bytes": summary.text_bytes,
        "createdAt": summary.created_at,
        "lastPushAt": summary.last_push_at,
        "active": rooms.active(summary.store_id),
        "peers": connected[summary.store_id],
    }


def _json(members: dict[str, Any]) -> Answer:
    return Answer(msgspec.json.encode(members))
