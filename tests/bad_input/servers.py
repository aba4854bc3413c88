"""A real server on a real port of this process, and the three things that must hold after every test against it."""

from __future__ import annotations

from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import structlog
import trio

from livesync_trio.app.server import Server
from livesync_trio.config import Config
from livesync_trio.hooks import Hooks
from livesync_trio.storage.base import Engine
from livesync_trio.storage.memory import MemoryEngine

from .clients import RpcClient, V3Client, sync_url, v3_url
from .websockets import WebSocket
from .wires import PATIENCE_S, HttpAnswer, Wire

FRAME_MAX_BYTES = 1024 * 1024
"""The frame limit of these servers: the smallest that may be set."""

STORE = "store/ö 1"


class TestedServer:
    """A running server, and everything that was ever received from it."""

    __test__ = False

    def __init__(self, port: int, logs: list[MutableMapping[str, Any]], payload: object) -> None:
        self._port = port
        self._payload = payload
        self.logs = logs
        """The log lines, as dictionaries."""
        self._wires: list[Wire] = []

    async def wire(self, receive_buffer_bytes: int | None = None) -> Wire:
        """A new TCP connection. With a small receive buffer, the server soon feels that nobody reads."""
        connected = trio.socket.socket()
        if receive_buffer_bytes is not None:
            connected.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer_bytes)
        await connected.connect(("127.0.0.1", self._port))
        self._wires.append(Wire(trio.SocketStream(connected)))
        return self._wires[-1]

    async def hang_up(self) -> None:
        """Cut every connection."""
        for wire in self._wires:
            await wire.close()

    async def ask(self, request: bytes) -> HttpAnswer:
        """The answer to a request on a connection of its own."""
        return await (await self.wire()).ask(request)

    async def websocket(self, target: str) -> WebSocket:
        return await WebSocket.shake_hands(await self.wire(), target)

    async def rpc(self, store: str = STORE, *, numbered: bool = False, payload: object = ...) -> RpcClient:
        """A client of 0.4, or with `numbered` of next."""
        opened = await self.websocket(sync_url(store, payload=self._payload if payload is ... else payload))
        return RpcClient(opened.wire, store, numbered=numbered)

    async def v3(self, store: str = STORE) -> V3Client:
        """A client of 0.3."""
        opened = await self.websocket(v3_url(store, self._payload))
        return V3Client(opened.wire)

    async def check_works(self) -> None:
        """New clients are served, on the store that the tests use and on another."""
        for client in (await self.rpc(), await self.v3(), await self.rpc("another store", numbered=True)):
            await client.check_works()

    def logged(self, text: str) -> list[MutableMapping[str, Any]]:
        """The log lines with this event."""
        return [line for line in self.logs if line["event"] == text]

    def check_discreet(self) -> None:
        """No client was ever shown the server's insides, and no mistake of a client was logged as one of the server."""
        for wire in self._wires:
            assert b"Traceback" not in wire.received
            assert b'File \\"' not in wire.received
            assert b"livesync_trio/" not in wire.received
        bad = [line for line in self.logs if line["log_level"] in ("error", "critical")]
        assert bad == [], f"logged as the server's own fault: {bad}"


@asynccontextmanager
async def running_server(
    hooks: Hooks | None = None, *, engine: Engine | None = None, payload: object = ..., **settings: Any
) -> AsyncIterator[TestedServer]:
    """Run a server.

    Args:
        hooks: the user's functions.
        engine: opened; events are kept in memory where there is none.
        payload: what healthy clients bring; nothing unless given.
        settings: of `Config`.

    When the block ends, the server must still serve new clients, and must have been discreet.
    """
    config = Config(port=0, **{"frame_max_bytes": FRAME_MAX_BYTES, **settings})
    whole = Server(config, hooks or Hooks(), engine or MemoryEngine())
    ready, told = trio.open_memory_channel[str](1)

    def on_ready(url: str, _database: str) -> None:
        ready.send_nowait(url)

    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(whole.run, on_ready)
            with trio.fail_after(PATIENCE_S):
                url = await told.receive()
            server = TestedServer(int(url.rpartition(":")[2]), logs, payload)
            try:
                yield server
                await server.check_works()
            finally:
                await server.hang_up()
            nursery.cancel_scope.cancel()
    server.check_discreet()
