"""A WebSocket that speaks the plain dialect from its first message on."""

import trio

from livesync_trio.access.client import Client
from livesync_trio.connection.channel import Channel, Incoming
from livesync_trio.connection.live import Pull
from livesync_trio.connection.peer import Peer
from livesync_trio.connection.plain_session import Admit, PlainSession, Sync
from livesync_trio.connection.surroundings import Surroundings
from livesync_trio.errors import Kind
from livesync_trio.store.handle import StoreHandle
from livesync_trio.wire.messages import Generation


class PlainPeer(Peer):
    """A client of the dialect."""

    generation: str | None = Generation.PLAIN

    def __init__(
        self,
        channel: Channel,
        handle: StoreHandle,
        client: Client,
        surroundings: Surroundings,
        *,
        admit: Admit,
        guest_limit_s: float | None = None,
    ) -> None:
        """As `Peer`.

        Args:
            channel: the transport.
            handle: the store of the connection's URL.
            client: who this is; for a guest, somebody who may do nothing.
            surroundings: what all connections share.
            admit: admits a client that sends a token.
            guest_limit_s: how long a guest may stay without one; None: this is no guest.
        """
        super().__init__(channel, client, surroundings)
        self._guest_limit_s = guest_limit_s
        self._session = PlainSession(self, handle, admit, known=guest_limit_s is None)

    def on_start(self) -> None:
        """A guest must say who it is before long."""
        if self._guest_limit_s is not None:
            self.start_task(self._watch_guest)

    async def _watch_guest(self) -> None:
        assert self._guest_limit_s is not None
        await trio.sleep(self._guest_limit_s)
        if self._session.state in (Sync.CONNECTED, Sync.AUTHENTICATING):
            self.close(Kind.UNAUTHENTICATED)

    def on_message(self, incoming: Incoming) -> None:
        """Act on one message."""
        self._session.on_message(incoming)

    def on_end(self) -> None:
        """Nothing more is read."""
        self._session.end()

    def on_expired(self) -> None:
        """The client comes back with a fresh token."""
        self.close(Kind.TOKEN_EXPIRED)

    def pulls(self) -> list[Pull]:
        """The subscription, if there is one."""
        return [] if self._session.live is None else [self._session.live]
