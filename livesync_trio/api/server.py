"""What the HTTP API is given of the server, and the peers it makes of WebSockets that speak the plain dialect.

It is given doors of the layers below, never their insides.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import attrs
import trio

from livesync_trio.access.client import Client, Rights
from livesync_trio.access.pages import Pages
from livesync_trio.connection.channel import Channel
from livesync_trio.connection.context import ServerContext, note_refusal
from livesync_trio.connection.peer import Peer
from livesync_trio.connection.peers import Peers
from livesync_trio.connection.plain_peer import EitherPeer, PlainPeer
from livesync_trio.errors import Kind, Refusal
from livesync_trio.hooks import HookContext
from livesync_trio.model import StoreId
from livesync_trio.store.handle import StoreHandle
from livesync_trio.store.readers import ThreadReaders
from livesync_trio.transport.http import HttpConnection, Request
from livesync_trio.transport.upgrading import Upgrader


class Admit(Protocol):
    """Whether somebody may come in (`Access.admit`)."""

    async def __call__(self, context: HookContext, websocket_of: str | None = None) -> Client | Refusal:
        """See `Access.admit`."""


class Ending(Protocol):
    """An answer that goes on until somebody ends it."""

    def end_soon(self) -> None:
        """Take leave."""


@attrs.define(eq=False)
class ApiServer:
    """The server, as the API sees it.

    Attributes:
        admit: decides who may come in.
        arrive: charges a request that asks for no store to its address.
        client_address: who really asks.
        pages: the rules for web pages of the moment.
        shared: what all connections share.
        open_store: gives the handle of a store.
        readers: reading handles.
        peers: the open WebSockets of this server.
        upgrader: makes WebSockets of requests.
        frame_max_bytes: largest body or message.
        handshake_limit_s: how long a WebSocket may be open without a token.
        following: answers that follow a store now, with the client each is for, and since when on Trio's clock.
        ending: the server has begun to shut down.
    """

    admit: Admit
    arrive: Callable[[str], Refusal | None]
    client_address: Callable[[str, Mapping[str, str]], str]
    pages: Callable[[], Pages]
    shared: ServerContext
    open_store: Callable[[StoreId], StoreHandle]
    readers: ThreadReaders
    peers: Peers
    upgrader: Upgrader
    frame_max_bytes: int
    handshake_limit_s: float
    following: dict[Ending, tuple[Client, float]] = attrs.field(factory=dict)
    ending: bool = False

    def follow(self, who: Ending, client: Client) -> None:
        """An answer begins that goes on; told at once if the server is shutting down."""
        self.following[who] = (client, trio.current_time())
        if self.ending:
            who.end_soon()

    def leave(self, who: Ending) -> None:
        """It has ended."""
        self.following.pop(who, None)

    def end(self) -> None:
        """The server begins to shut down: whoever follows takes leave."""
        self.ending = True
        for who in tuple(self.following):
            who.end_soon()


def admitting(server: ApiServer, context: HookContext, address: str) -> Callable[[str], Awaitable[Client | Refusal]]:
    """Admits who sends a token on a socket that is open. `address`: `host:port` of its other end."""

    async def admit(token: str) -> Client | Refusal:
        return await server.admit(attrs.evolve(context, payload={"authToken": token}), address)

    return admit


def either_peer(server: ApiServer) -> Callable[[Channel, StoreHandle, Client, str], Peer]:
    """Makes peers at the path of 0.3, whose first message tells what they speak."""

    def make(channel: Channel, handle: StoreHandle, client: Client, address: str) -> Peer:
        return EitherPeer(channel, handle, client, server.shared, admitting(server, client.context, address))

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
            note_refusal(server.shared, context, client)
            return client
        client, guest_limit_s = Client(context, Rights(may_push=False)), server.handshake_limit_s

    def make(channel: Channel) -> Peer:
        handle = server.open_store(StoreId(context.store_id))
        admit = admitting(server, context, address)
        return PlainPeer(channel, handle, client, server.shared, admit=admit, guest_limit_s=guest_limit_s)

    return await server.upgrader.upgrade(http, request, client, make)
