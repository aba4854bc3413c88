"""Connections of this server: who is there, and sending one of them away."""

from typing import Annotated, Literal

from msgspec import Meta

from livesync_trio.admin.declaring import PAGE, Answer, Caller, Limit, Request, Time, refused
from livesync_trio.admin.server_view import ServerView, moment
from livesync_trio.connection.peer import Peer
from livesync_trio.connection.peers import UNKNOWN
from livesync_trio.errors import Kind, Refusal
from livesync_trio.limits import ADMIN_PAGE_MAX, SEQ_NUM_MAX
from livesync_trio.openapi import wire_time


class ListConnections(Request, frozen=True):
    """Which connections."""

    store_id: Annotated[str, Meta(description="Connections to this store only.")] = ""
    user: Annotated[str, Meta(description="Connections of this user only.")] = ""
    address: Annotated[str, Meta(description="Connections from addresses that begin with this text only.")] = ""
    after: Annotated[
        int, Meta(ge=0, le=SEQ_NUM_MAX, description="Connections with a greater number only; what `next` said.")
    ] = 0
    limit: Limit = PAGE


class Connection(Answer, frozen=True):
    """One connection."""

    connection_id: int
    store_id: str
    address: str
    user: str | None
    generation: Literal["0.3", "0.4", "next", "plain", "unknown"]
    transport: Literal["websocket"]
    since: Time
    last_heard_at: Time
    open_pulls: int
    following: int
    lag_events: int
    queued_bytes: int


class ConnectionPage(Answer, frozen=True):
    """Some connections, and where the next page begins."""

    connections: list[Connection]
    next: int | None
    scope: Literal["this server"] = "this server"


class CloseConnection(Request, frozen=True):
    """Which connection to close."""

    connection_id: int
    store_id: str


class Closing(Answer, frozen=True):
    """The connection that is being closed."""

    connection_id: int
    store_id: str
    closing: bool = True


class CloseConnections(ListConnections, frozen=True):
    """Which connections to close: at least one of store, user and address must be given."""

    limit: Limit = ADMIN_PAGE_MAX


class Closings(Answer, frozen=True):
    """How many connections are being closed, and what `after` is for those that are left."""

    closing: int
    next: int | None


class ListLostUpgrades(Request, frozen=True):
    """Which of them."""

    after: Annotated[int, Meta(ge=0, le=SEQ_NUM_MAX, description="Those with a greater number only.")] = 0


class LostUpgrade(Answer, frozen=True):
    """One request, and the headers that it lost."""

    number: int
    at: Time
    store_id: str
    missing: list[str]


class LostUpgradePage(Answer, frozen=True):
    """The last of them, and how many there were since the start."""

    lost: list[LostUpgrade]
    total: int


async def list_connections(server: ServerView, asked: ListConnections, _caller: Caller) -> ConnectionPage:
    """The open WebSockets of this server, oldest first, page by page."""
    shown, more = _page(server, asked)
    return ConnectionPage(connections=[_told(peer) for peer in shown], next=more)


async def close_connection(server: ServerView, asked: CloseConnection, caller: Caller) -> Closing | Refusal:
    """Close a connection of this server in order; its client comes back."""
    number, store_id = asked.connection_id, asked.store_id
    peer = next((peer for peer in server.peers if peer.number == number), None)
    if peer is None:
        return Refusal(Kind.NO_SUCH_CONNECTION, f"This server has no open connection {number}.")
    if peer.label != store_id:
        return refused("`storeId` is not the store of this connection. Nothing was changed.")
    server.audit.record(
        "close",
        store=store_id,
        address=caller.address,
        user=caller.user,
        connection=str(number),
        peer=peer.client.context.client_address,
    )
    peer.close(Kind.CLOSED_BY_OPERATOR)
    return Closing(connection_id=number, store_id=store_id)


async def close_connections(server: ServerView, asked: CloseConnections, caller: Caller) -> Closings | Refusal:
    """Close the connections of a store, a user or an address in order, oldest first; their clients come back."""
    if not (asked.store_id or asked.user or asked.address):
        return refused("Say whose connections to close: `storeId`, `user` or `address`. Nothing was changed.")
    found, more = _page(server, asked)
    server.audit.record(
        "close-many",
        store=asked.store_id,
        address=caller.address,
        user=caller.user,
        of_user=asked.user,
        of_address=asked.address,
        connections=str(len(found)),
    )
    for peer in found:
        peer.close(Kind.CLOSED_BY_OPERATOR)
    return Closings(closing=len(found), next=more)


async def list_lost_upgrades(server: ServerView, asked: ListLostUpgrades, _caller: Caller) -> LostUpgradePage:
    """The last WebSocket requests that came without what makes them one, as through a proxy that drops headers."""
    kept = [each for each in server.lost_upgrades.kept if each.number > asked.after]
    told = [
        LostUpgrade(
            number=each.number,
            at=wire_time(each.at),
            store_id=each.store_id.encode(errors="replace").decode(),
            missing=list(each.missing),
        )
        for each in kept
    ]
    return LostUpgradePage(lost=told, total=server.lost_upgrades.total)


def _page(server: ServerView, asked: ListConnections) -> tuple[list[Peer], int | None]:
    """The connections that fit, oldest first, and where the next page begins."""
    found = [peer for peer in server.peers if peer.number > asked.after and _fits(peer, asked)]
    found.sort(key=lambda peer: peer.number)
    shown = found[: asked.limit]
    return shown, shown[-1].number if len(found) > asked.limit else None


def _fits(peer: Peer, asked: ListConnections) -> bool:
    return (
        asked.store_id in ("", peer.label)
        and asked.user in ("", _user_of(peer))
        and peer.client.context.client_address.startswith(asked.address)
    )


def _user_of(peer: Peer) -> str | None:
    user = peer.client.context.user
    return None if user is None else user.id.encode(errors="replace").decode()


def _told(peer: Peer) -> Connection:
    context = peer.client.context
    pulls = peer.pulls()
    return Connection(
        connection_id=peer.number,
        store_id=peer.label,
        address=context.client_address,
        user=_user_of(peer),
        generation=UNKNOWN if peer.generation is None else str(peer.generation),  # type: ignore[arg-type]
        transport="websocket",
        since=moment(peer.since_s),
        last_heard_at=moment(peer.last_heard_s),
        open_pulls=len(pulls),
        following=sum(pull.following for pull in pulls),
        lag_events=max((pull.lag for pull in pulls), default=0),
        queued_bytes=peer.outbox.queued_bytes,
    )
