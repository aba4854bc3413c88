"""How requests are written and answers read over a WebSocket, by generation."""

from typing import Protocol

import attrs

from livesync_trio.wire import client_rpc, client_v3
from livesync_trio.wire.answers import Answer


class Dialect(Protocol):
    """How requests are written and answers read."""

    knows_identity: bool
    answers_end: bool
    ping: bytes

    def pull(self, request_id: int, after: int, backend_id: str | None, *, live: bool) -> bytes:
        """Ask for what comes after an event."""

    def push(self, request_id: int, events: list[bytes], backend_id: str | None) -> bytes:
        """Ask for a batch to be appended."""

    def ack(self, request_id: str) -> bytes | None:
        """A page was taken; None where nobody wants to know."""

    def interrupt(self, request_id: str) -> bytes | None:
        """A pull is given up; None where that cannot be said."""

    def read_answer(self, text: bytes) -> Answer:
        """Read a message of the server."""


@attrs.frozen
class RpcDialect:
    """Generation 0.4 (`Dialect`)."""

    store_id: str
    payload: bytes | None
    knows_identity = True
    answers_end = True
    ping = client_rpc.PING

    def pull(self, request_id: int, after: int, backend_id: str | None, *, live: bool) -> bytes:
        """See the contract."""
        return client_rpc.pull(request_id, self.store_id, self.payload, after, backend_id, live=live)

    def push(self, request_id: int, events: list[bytes], backend_id: str | None) -> bytes:
        """See the contract."""
        return client_rpc.push(request_id, self.store_id, self.payload, events, backend_id)

    def ack(self, request_id: str) -> bytes | None:
        """See the contract."""
        return client_rpc.ack(request_id)

    def interrupt(self, request_id: str) -> bytes | None:
        """See the contract."""
        return client_rpc.interrupt(request_id)

    def read_answer(self, text: bytes) -> Answer:
        """See the contract."""
        return client_rpc.read_answer(text)


class V3Dialect:
    """Generation 0.3, where every pull goes on and none can be given up (`Dialect`)."""

    knows_identity = False
    answers_end = False
    ping = client_v3.PING

    def pull(self, request_id: int, after: int, backend_id: str | None, *, live: bool) -> bytes:
        """See the contract."""
        return client_v3.pull(request_id, after)

    def push(self, request_id: int, events: list[bytes], backend_id: str | None) -> bytes:
        """See the contract."""
        return client_v3.push(request_id, events)

    def ack(self, request_id: str) -> bytes | None:
        """See the contract."""
        return None

    def interrupt(self, request_id: str) -> bytes | None:
        """See the contract."""
        return None

    def read_answer(self, text: bytes) -> Answer:
        """See the contract."""
        return client_v3.read_answer(text)
