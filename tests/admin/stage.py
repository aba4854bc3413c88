"""A real server in this process with its control plane on, and who uses both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import structlog
import trio

from livesync_trio import app
from livesync_trio.admin.routes import ROUTES
from livesync_trio.config import Config, Secret
from livesync_trio.hooks import Hooks
from livesync_trio.storage.base import Engine
from livesync_trio.storage.memory import MemoryEngine
from tests.bad_input.clients import RpcClient, event, sync_url
from tests.bad_input.websockets import WebSocket
from tests.bad_input.wires import Wire

SECRET = "canary-of-the-control-plane"
PATIENCE_S = 90.0
STORE = "store/ö 1"


class Stage:
    """A running server."""

    def __init__(self, server: app.Server, url: str, control_url: str, http: httpx.AsyncClient) -> None:
        self.server = server
        self.url = url
        self.control_url = control_url
        self.http = http
        """Asks the control plane, with the secret."""
        self.logs: list[MutableMapping[str, Any]] = []
        self._wires: list[Wire] = []
        self.first_link: str | None = None
        """Path and query of the page on which the first operator is made."""

    async def get(self, path: str, **query: Any) -> Any:
        """The JSON of an answer that must be 200."""
        answer = await self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refused(self, status: int, code: str, path: str, **query: Any) -> str:
        """The message of an answer that must be this refusal."""
        return refusal(await self.http.get(path, params=query), status, code)

    async def post(self, path: str, **body: Any) -> httpx.Response:
        return await self.http.post(path, json=body)

    async def client(self, store: str = STORE, *, numbered: bool = False, payload: object = ...) -> RpcClient:
        """A client of 0.4, or with `numbered` of next."""
        opened = await WebSocket.shake_hands(await self.wire(), sync_url(store, payload=payload))
        return RpcClient(opened.wire, store, numbered=numbered)

    async def wire(self, url: str | None = None) -> Wire:
        """A TCP connection to the public port, or to the one of a URL."""
        port = int((url or self.url).rpartition(":")[2])
        self._wires.append(Wire(await trio.open_tcp_stream("127.0.0.1", port)))
        return self._wires[-1]

    async def hang_up(self) -> None:
        """Cut every connection."""
        for wire in self._wires:
            await wire.close()

    async def fill(self, count: int, store: str = STORE, first: int = 1, **fields: Any) -> None:
        """Push events, numbered on from `first`."""
        client = await self.client(store)
        new = [event(number, number - 1, **{"args": {"n": number}, **fields}) for number in range(first, first + count)]
        exit_ = await client.push(*new)
        assert exit_["exit"]["_tag"] == "Success", exit_
        await client.wire.close()


def refusal(answer: httpx.Response, status: int, code: str) -> str:
    """The message of an answer that must be this refusal."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    (error,) = answer.json().values()
    assert list(answer.json()) == ["error"]
    assert error.keys() == {"code", "message"}
    assert error["code"] == code, error
    return str(error["message"])


async def seen(stage: Stage, wanted: Callable[[], bool]) -> None:
    """Wait until something has become true that another task does; asking makes it go on."""
    with trio.fail_after(PATIENCE_S):
        while not wanted():
            await stage.get("/api/v1/info")


@asynccontextmanager
async def running(hooks: Hooks | None = None, *, engine: Engine | None = None, **settings: Any) -> AsyncIterator[Stage]:
    """Run a server with its control plane. `settings`: of `Config`."""
    config = Config(**{"port": 0, "admin_port": 0, "admin_secret": Secret(SECRET), **settings})
    server = app.Server(config, hooks or Hooks(), engine or MemoryEngine())
    told: list[str] = []
    ready = trio.Event()

    def on_ready(url: str, _database: str) -> None:
        told.append(url)
        ready.set()

    links: list[str | None] = []

    def on_control(url: str, first_link: str | None) -> None:
        told.append(url)
        links.append(first_link)

    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run, on_ready, on_control)
            with trio.fail_after(PATIENCE_S):
                await ready.wait()
            control_url, url = told
            headers = {"authorization": f"Bearer {SECRET}"}
            async with httpx.AsyncClient(base_url=control_url, headers=headers, timeout=PATIENCE_S) as http:
                stage = Stage(server, url, control_url, http)
                stage.logs = logs
                stage.first_link = links[0]
                try:
                    yield stage
                finally:
                    await stage.hang_up()
            nursery.cancel_scope.cancel()


def paths() -> list[str]:
    """Every path of the control plane."""
    return [route.path for route in ROUTES]
