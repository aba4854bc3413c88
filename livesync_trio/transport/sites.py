"""What a part of the server must offer to answer below paths of its own on the public port."""

from typing import Protocol

from livesync_trio.connection.peer import Peer
from livesync_trio.transport.http import HttpConnection, Request


class Site(Protocol):
    """Answers the requests below some paths of the public port; the door asks its sites before it looks for sync."""

    @property
    def admits(self) -> bool:
        """Whether it has its clients admitted (`Access.admit`), which charges them; else the door charges requests."""

    def covers(self, path: str) -> bool:
        """Whether a request belongs here. `path`: as it was sent, without the query."""

    async def serve(self, http: HttpConnection, request: Request, address: str) -> Peer | None:
        """Answer a request.

        Args:
            http: where the request came from; its body is not read yet.
            request: its head.
            address: `host:port` of the socket's other end.

        Returns:
            A peer when the stream has become a WebSocket, to be served by the door; it brings a client that is held
            until the peer has gone.

        Raises:
            BadRequest: the request cannot be read.
        """
