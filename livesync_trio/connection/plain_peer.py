"""WebSockets that speak the plain dialect: from the first message on, or if their first message says so."""

import trio

from livesync_trio.access.client import Client
from livesync_trio.connection.channel import Channel, Incoming
from livesync_trio.connection.context import ServerContext
from livesync_trio.connection.peer import Peer
from livesync_trio.connection.plain_session import Admit, PlainSession, Sync
from livesync_trio.connection.pulling import Pull
from livesync_trio.connection.v3_peer import V3Peer
from livesync_trio.errors import Kind
from livesync_trio.store.handle import StoreHandle
from livesync_trio.wire.dialect import is_dialect
from livesync_trio.wire.messages import Generation


class PlainPeer(Peer):
    """A client of the dialect."""

    generation: str | None = Generation.PLAIN

    def __init__(
        self,
        channel: Channel,
        handle: StoreHandle,
        client: Client,
        shared: ServerContext,
        *,
        admit: Admit,
        guest_limit_s: float | None = None,
    ) -> None:
        """As `Peer`.

        Args:
            channel: the transport.
            handle: the store of the connection's URL.
            client: who this is; for a guest, somebody who may do nothing.
            shared: what all connections share.
            admit: admits a client that sends a token.
            guest_limit_s: how long a guest may stay without one; None: this is no guest.
        """
        super().__init__(channel, client, shared)
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


class EitherPeer(V3Peer):
    """A client of 0.3, unless its first message says otherwise."""

    _session: PlainSession | None = None
    _met = False

    def __init__(
        self, channel: Channel, handle: StoreHandle, client: Client, shared: ServerContext, admit: Admit
    ) -> None:
        """As `StorePeer`; `admit` is for a client of the dialect that comes with a fresh token."""
        super().__init__(channel, handle, client, shared)
        self._admit = admit

    def on_message(self, incoming: Incoming) -> None:
        """Act on one message."""
        if not self._met:
            self._met = True
            if is_dialect(incoming.data):
                self.generation = Generation.PLAIN
                self._stream.close()  # the broadcasts that a socket of 0.3 gets without having asked
                self._session = PlainSession(self, self.handle, self._admit, known=True)
        if self._session is None:
            super().on_message(incoming)
        else:
            self._session.on_message(incoming)

    def on_end(self) -> None:
        """See `StorePeer`."""
        super().on_end()
        if self._session is not None:
            self._session.end()

    def on_expired(self) -> None:
        """A client of the dialect comes back with a fresh token; one of 0.3 stays (SPEC section 5)."""
        if self._session is not None:
            self.close(Kind.TOKEN_EXPIRED)
        else:
            super().on_expired()

    def pulls(self) -> list[Pull]:
        """See `StorePeer`."""
        if self._session is None:
            return super().pulls()
        return [] if self._session.live is None else [self._session.live]
