"""What the HTTP API is given of the server: doors of the layers below, never their insides."""

from collections.abc import Callable, Mapping
from typing import Protocol

import attrs
import trio

from livesync_trio.access.client import Client
from livesync_trio.access.pages import Pages
from livesync_trio.connection.context import ServerContext
from livesync_trio.connection.peers import Peers
from livesync_trio.errors import Refusal
from livesync_trio.hooks import HookContext
from livesync_trio.model import StoreId
from livesync_trio.store.handle import StoreHandle
from livesync_trio.store.readers import ThreadReaders
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
        surroundings: what all connections share.
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
    surroundings: ServerContext
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
