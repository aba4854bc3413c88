"""The plain dialect at a store's own path: who may open a socket there, with a token and without."""

from collections.abc import Awaitable, Callable

import attrs

from livesync_trio.access.client import Client, Rights
from livesync_trio.api.server import ApiServer
from livesync_trio.connection.channel import Channel
from livesync_trio.connection.context import note_refusal
from livesync_trio.connection.peer import Peer
from livesync_trio.connection.plain_peer import EitherPeer, PlainPeer
from livesync_trio.errors import Kind, Refusal
from livesync_trio.hooks import HookContext
from livesync_trio.model import StoreId
from livesync_trio.store.handle import StoreHandle
from livesync_trio.transport.http import HttpConnection, Request


def admitting(server: ApiServer, context: HookContext, address: str) -> Callable[[str], Awaitable[Client | Refusal]]:
    """Admits who sends a token on a socket that is open. `address`: `host:port` of its other end."""

    async def admit(token: str) -> Client | Refusal:
        return await server.admit(attrs.evolve(context, payload={"authToken": token}), address)

    return admit


def either_peer(server: ApiServer) -> Callable[[Channel, StoreHandle, Client, str], Peer]:
    """Makes peers at the path of 0.3, whose first message tells what they speak."""

    def make(channel: Channel, handle: StoreHandle, client: Client, address: str) -> Peer:
        return EitherPeer(channel, handle, client, server.surroundings, admitting(server, client.context, address))

    return make


async def open_dialect(
    server: ApiServer, http: HttpConnection, request: Request, context: HookContext, address: str
) -> Peer | Refusal | None:
    """Make a peer of a request; see `sites.Site.serve`.

    Where a token is wanted and none came, the socket opens all the same: its client sends one as its first message, as
    browsers must, which have no other place for it. Until then it may do nothing.
    """
    await http.read_body(0)
    client = await server.admit(context, address)
    guest_limit_s = None
    if isinstance(client, Refusal):
        if client.kind is not Kind.UNAUTHENTICATED or context.payload is not None:
            note_refusal(server.surroundings, context, client)
            return client
        client, guest_limit_s = Client(context, Rights(may_push=False)), server.handshake_limit_s

    def make(channel: Channel) -> Peer:
        handle = server.open_store(StoreId(context.store_id))
        admit = admitting(server, context, address)
        return PlainPeer(channel, handle, client, server.surroundings, admit=admit, guest_limit_s=guest_limit_s)

    return await server.upgrader.upgrade(http, request, client, make)
