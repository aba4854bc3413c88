"""A WebSocket at the path of 0.3: its first message tells whether a LiveStore client speaks, or the plain dialect."""

from livesync_trio.access.client import Client
from livesync_trio.connection.channel import Channel, Incoming
from livesync_trio.connection.live import Pull
from livesync_trio.connection.plain_session import Admit, PlainSession
from livesync_trio.connection.surroundings import Surroundings
from livesync_trio.connection.v3_peer import V3Peer
from livesync_trio.errors import Kind
from livesync_trio.store.handle import StoreHandle
from livesync_trio.wire.dialect import is_dialect
from livesync_trio.wire.messages import Generation


class EitherPeer(V3Peer):
    """A client of 0.3, unless its first message says otherwise."""

    _session: PlainSession | None = None
    _met = False

    def __init__(
        self, channel: Channel, handle: StoreHandle, client: Client, surroundings: Surroundings, admit: Admit
    ) -> None:
        """As `StorePeer`; `admit` is for a client of the dialect that comes with a fresh token."""
        super().__init__(channel, handle, client, surroundings)
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
