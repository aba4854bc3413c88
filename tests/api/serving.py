"""A real server with the HTTP API on a real port of this process, and a program that uses it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import trio

from livesync_trio.hooks import Hooks
from livesync_trio.storage.base import Engine
from tests.bad_input.servers import TestedServer, running_server
from tests.bad_input.websockets import WebSocket
from tests.bad_input.wires import Wire, head

STORE = "store/ö 1"
TOKEN = "a token that is long enough"
PATIENCE_S = 60.0
LINES = {"accept": "application/x-ndjson"}
STREAM = {"accept": "text/event-stream"}


def path_of(store: str = STORE, rest: str = "/events") -> str:
    """The path of something of a store."""
    return f"/v1/stores/{quote(store, safe='')}{rest}"


class Program:
    """Uses the API of a server."""

    def __init__(self, server: TestedServer, http: httpx.AsyncClient) -> None:
        self.server = server
        self.http = http

    async def post(self, body: Any, store: str = STORE, **headers: str) -> httpx.Response:
        return await self.http.post(
            path_of(store), json=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    async def appended(self, *events: dict[str, Any], store: str = STORE) -> list[int]:
        """The numbers of events that must be taken."""
        answer = await self.post({"events": list(events)}, store)
        assert answer.status_code in (200, 201), answer.text
        return [event["seqNum"] for event in answer.json()["events"]]

    async def get(self, store: str = STORE, rest: str = "/events", **query: Any) -> httpx.Response:
        return await self.http.get(path_of(store, rest), params=query)

    async def page(self, store: str = STORE, **query: Any) -> dict[str, Any]:
        """A page that must be given."""
        answer = await self.get(store, **query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    @asynccontextmanager
    async def stream(self, store: str = STORE, last: str = "", **query: Any) -> AsyncIterator[Stream]:
        """The server-sent events of a store."""
        wire = await self.server.wire()
        fields = [f"{name}: {value}" for name, value in self.http.headers.items() if name in ("host", "authorization")]
        fields += ["accept: text/event-stream", *([f"last-event-id: {last}"] if last else [])]
        target = f"{path_of(store)}?{urlencode(query)}"
        await wire.send(head(f"GET {target} HTTP/1.1", *fields))
        answer = await wire.read_until(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        yield Stream(wire)
        await wire.close()

    async def dialect(self, target: str | None = None) -> Dialect:
        """A WebSocket that speaks the dialect."""
        return Dialect(await self.server.websocket(target or path_of()))


class Stream:
    """Server-sent events, one after the other."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._text = b""

    async def message(self) -> tuple[str, str, Any]:
        """Kind, id and data of the next one, comments passed over."""
        while True:
            while b"\n\n" not in self._text:
                self._text += await self._chunk()
            text, _, self._text = self._text.partition(b"\n\n")
            fields = dict(line.split(": ", 1) for line in text.decode().split("\n") if not line.startswith(":"))
            if "data" in fields:
                return fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"])

    async def _chunk(self) -> bytes:
        size = int(await self.wire.read_until(b"\r\n"), 16)
        data = await self.wire.read(size)
        assert await self.wire.read(2) == b"\r\n"
        assert size, "the stream ended"
        return data

    async def numbers(self, count: int) -> list[int]:
        """The numbers of the next events."""
        found: list[int] = []
        while len(found) < count:
            kind, _, data = await self.message()
            if kind == "message":
                found.append(data["seqNum"])
        return found


class Dialect:
    """A client of the plain dialect."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket

    async def send(self, **message: Any) -> None:
        await self.socket.send(message)

    async def receive(self) -> dict[str, Any]:
        with trio.fail_after(PATIENCE_S):
            message: dict[str, Any] = await self.socket.receive()
        return message

    async def ask(self, **message: Any) -> dict[str, Any]:
        """The answer with the same id, other messages passed over."""
        await self.send(id=7, **message)
        while (answer := await self.receive()).get("id") != 7:
            pass
        return answer


@asynccontextmanager
async def api(
    hooks: Hooks | None = None, *, engine: Engine | None = None, token: str | None = None, **settings: Any
) -> AsyncIterator[Program]:
    """A server with the API, and a program that uses it with `token`."""
    async with running_server(hooks, engine=engine, api=True, **settings) as server:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{server._port}", headers=headers, timeout=PATIENCE_S, trust_env=False
        ) as http:
            yield Program(server, http)
