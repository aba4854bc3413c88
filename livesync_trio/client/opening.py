"""From what an application names to a connection: which protocol, with which payload.

Owns the finding out of a protocol that was not named.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Literal

import attrs

from livesync_trio.client.address import Address, Protocol
from livesync_trio.client.connection import Connection
from livesync_trio.client.dialects import RpcDialect, V3Dialect
from livesync_trio.client.dialing import Dial
from livesync_trio.client.failures import NotUnderstood, Refused, SyncError, Unauthorized
from livesync_trio.client.http import open_http
from livesync_trio.client.socket import SocketConnection, open_socket
from livesync_trio.supervision import open_tasks
from livesync_trio.wire.answers import text_of

_TRIED: Final[tuple[Protocol, ...]] = ("ws", "v3", "http")


@attrs.define
class Opening:
    """How to reach one store of one server.

    Attributes:
        address: the server.
        store_id: the store.
        protocol: what to speak; `auto` until that is found out.
        dial: opens streams of bytes to it.
    """

    address: Address
    store_id: str
    protocol: Protocol | Literal["auto"]
    dial: Dial

    @asynccontextmanager
    async def open(self, payload: Any) -> AsyncIterator[Connection]:
        """Connect for the length of a block; `payload` is the application's, None for nothing.

        Raises:
            Offline: nobody answers.
            Refused: the server does not let this client in.
        """
        text = None if payload is None else text_of(payload)
        if self.protocol == "auto":
            self.protocol = await self._find(text)
        async with self._open(self.protocol, text) as connection:
            yield connection

    @asynccontextmanager
    async def _open(self, protocol: Protocol, payload: bytes | None) -> AsyncIterator[Connection]:
        target = self.address.target(protocol, self.store_id, payload)
        async with AsyncExitStack() as stack:
            match protocol:
                case "http":
                    opening = open_http(self.address, target, self.store_id, payload, self.dial)
                    yield await stack.enter_async_context(opening)
                case "ws":
                    rpc = RpcDialect(self.store_id, payload)
                    yield await stack.enter_async_context(open_socket(self.address, target, rpc, self.dial))
                case "v3":
                    yield await stack.enter_async_context(open_socket(self.address, target, V3Dialect(), self.dial))

    async def _find(self, payload: bytes | None) -> Protocol:
        """Try one protocol after the other: a server refuses what it does not speak, or does not answer it.

        Raises:
            Offline: nobody answers.
            Refused: the server speaks none of them, or does not let this client in.
        """
        refused: SyncError | None = None
        for protocol in _TRIED:
            try:
                async with self._open(protocol, payload) as connection:
                    if not isinstance(connection, SocketConnection) or await _answers(connection):
                        return protocol
            except Unauthorized:
                raise
            except Refused as error:
                refused = refused or error
        raise refused or NotUnderstood(f"{self.address.place}: it answers in no protocol that this client speaks.")


async def _answers(connection: SocketConnection) -> bool:
    answers = False

    async def run() -> None:
        await connection.run()

    async with open_tasks("sync protocol") as tasks:
        tasks.start(run)
        answers = await connection.is_understood()
        tasks.cancel()
    return answers
