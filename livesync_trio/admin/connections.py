"""Connections of this server: who is there, and sending one of them away."""

from typing import Any

import msgspec

from livesync_trio.admin.declaring import Answer, Asked
from livesync_trio.admin.reading import refused
from livesync_trio.admin.rooms import Rooms, moment
from livesync_trio.connection.peer import Peer
from livesync_trio.connection.statistics import UNKNOWN
from livesync_trio.errors import Kind, Refusal


async def list_connections(rooms: Rooms, asked: Asked) -> Answer:
    """A page of the open WebSockets of this server, oldest first. HTTP clients come and go with each request."""
    limit, after = asked.number("limit") or 1, asked.number("after") or 0
    store_id = asked.text("storeId")
    found = [
        peer for peer in rooms.peers if peer.number > after and (store_id is None or peer.handle.store_id == store_id)
    ]
    found.sort(key=lambda peer: peer.number)
    shown = found[:limit]
    more = shown[-1].number if len(found) > limit else None
    return Answer(
        msgspec.json.encode({"connections": [_as_json(peer) for peer in shown], "next": more, "scope": "this server"})
    )


async def close_connection(rooms: Rooms, asked: Asked) -> Answer | Refusal:
    """Close a connection in order; its client comes back by itself."""
    number, store_id = asked.body["connectionId"], asked.body["storeId"]
    peer = next((peer for peer in rooms.peers if peer.number == number), None)
    if peer is None:
        return Refusal(Kind.NO_SUCH_CONNECTION, f"This server has no open connection {number}.")
    if peer.handle.store_id != store_id:
        return refused("`storeId` is not the store of this connection. Nothing was changed.")
    rooms.audit.record(
        "close", store=store_id, address=asked.address, connection=str(number), peer=peer.asking.context.client_address
    )
    peer.close(Kind.CLOSED_BY_OPERATOR)
    return Answer(msgspec.json.encode({"connectionId": number, "storeId": store_id, "closing": True}))


def _as_json(peer: Peer) -> dict[str, Any]:
    context = peer.asking.context
    pulls = peer.pulls()
    return {
        "connectionId": peer.number,
        "storeId": peer.handle.store_id,
        "address": context.client_address,
        "user": None if context.user is None else context.user.id.encode(errors="replace").decode(),
        "generation": UNKNOWN if peer.generation is None else str(peer.generation),
        "transport": "websocket",
        "since": moment(peer.since_s),
        "lastHeardAt": moment(peer.last_heard_s),
        "openPulls": len(pulls),
        "following": sum(pull.following for pull in pulls),
        "lagEvents": max((pull.lag for pull in pulls), default=0),
        "queuedBytes": peer.outbox.queued_bytes,
    }
