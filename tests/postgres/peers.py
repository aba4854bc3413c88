"""A hand-made 0.4 client for real server processes, which notes what it was told, and followers that come back."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import httpx
import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream

PATIENCE_S: Final = 90.0
"""No single answer takes longer; a test that waits for more is lost."""

HANDSHAKE_S: Final = 5.0
"""Time for a server to answer a handshake."""

_ids = itertools.count(1)


@attrs.frozen
class Answer:
    """What a push was answered: `accepted`, `ahead` (with the head), `mismatch` or `error` (with a note)."""

    what: str
    head: int = 0
    note: str = ""


def event(number: int, parent: int, text: str = "") -> dict[str, Any]:
    return {
        "name": "n",
        "args": text,
        "seqNum": number,
        "parentSeqNum": parent,
        "clientId": "c",
        "sessionId": "s",
    }


class Peer:
    """One WebSocket. Ends with `ConnectionClosed` when the server is gone."""

    def __init__(self, ws: WebSocketConnection, store: str) -> None:
        self._ws = ws
        self.store = store
        self.backend_id: str | None = None

    async def _request(self, procedure: str, **payload: Any) -> str:
        request_id = str(next(_ids))
        message = {"_tag": "Request", "id": request_id, "tag": f"SyncWsRpc.{procedure}", "headers": []}
        await self._ws.send_message(json.dumps({**message, "payload": {"storeId": self.store, **payload}}))
        return request_id

    async def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self._ws.get_message())
        return message

    async def push(self, parent: int, *numbers: int, text: str = "", backend_id: str | None = None) -> Answer:
        """Push a chained batch."""
        batch = [event(number, before, text) for before, number in zip((parent, *numbers), numbers, strict=False)]
        identity = {"_tag": "None"} if backend_id is None else {"_tag": "Some", "value": backend_id}
        request_id = await self._request("Push", batch=batch, backendId=identity)
        with trio.fail_after(PATIENCE_S):
            while (message := await self.receive()).get("requestId") != request_id or message["_tag"] != "Exit":
                pass
        exit_ = message["exit"]
        if exit_["_tag"] == "Success":
            return Answer("accepted")
        error = exit_["cause"]["error"]
        match error["_tag"]:
            case "ServerAheadError":
                return Answer("ahead", error["minimumExpectedNum"])
            case "BackendIdMismatchError":
                return Answer("mismatch")
            case _:
                return Answer("error", note=error["note"])

    async def pull(self) -> list[dict[str, Any]]:
        """Everything in the store, as `eventEncoded`."""
        request_id = await self._request("Pull", cursor={"_tag": "None"}, live=False)
        events: list[dict[str, Any]] = []
        with trio.fail_after(PATIENCE_S):
            while True:
                message = await self.receive()
                if message.get("requestId") == request_id and message["_tag"] == "Exit":
                    assert message["exit"]["_tag"] == "Success", message
                    return events
                if message.get("requestId") == request_id:
                    for page in message["values"]:
                        self.backend_id = page["backendId"]
                        events += [item["eventEncoded"] for item in page["batch"]]

    async def follow(self, follower: Follower) -> None:
        """Pull live from where the follower stands, until the pull or the connection ends."""
        cursor: dict[str, Any] = {"_tag": "None"}
        if follower.backend_id is not None:
            cursor = {
                "_tag": "Some",
                "value": {"backendId": follower.backend_id, "eventSequenceNumber": follower.head},
            }
        request_id = await self._request("Pull", cursor=cursor, live=True)
        while True:
            message = await self.receive()
            if message.get("requestId") != request_id:
                continue
            if message["_tag"] == "Exit":
                follower.ended(message["exit"])
                return
            for page in message["values"]:
                follower.take(page)


@asynccontextmanager
async def _socket(url: str) -> AsyncIterator[WebSocketConnection]:
    """A WebSocket that is torn down at the end without a word, as clients go."""
    parts = urlsplit(url)
    stream = await trio.open_tcp_stream(str(parts.hostname), int(parts.port or 0))
    try:
        async with trio.open_nursery() as nursery:
            # trio-websocket waits for ever when the other end goes away in the middle of the handshake.
            with trio.move_on_after(HANDSHAKE_S) as handshake:
                target = f"{parts.path}?{parts.query}"
                ws = await wrap_client_stream(nursery, stream, parts.netloc, target)
            if handshake.cancelled_caught:
                raise ConnectionResetError("no handshake")
            try:
                yield ws
            finally:
                nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def peer(url: str, store: str, *, following: bool = True) -> AsyncIterator[Peer]:
    """Connect to a server (`http://…`) for a store.

    `following`: have a live pull whose pages nobody reads; a client without one that comes too late is sent away.
    """
    async with _socket(f"{url}/?storeId={store}&transport=ws") as ws:
        connected = Peer(ws, store)
        if following:
            await connected._request("Pull", cursor={"_tag": "None"}, live=True)
        yield connected


@attrs.define
class Follower:
    """A live pull across connections and resets: each log it saw, with its numbers in the order they came."""

    store: str
    backend_id: str | None = None
    logs: dict[str, list[int]] = attrs.Factory(dict)
    mismatches: int = 0
    interruptions: int = 0
    problems: list[str] = attrs.Factory(list)
    _changed: trio.Event = attrs.Factory(trio.Event)

    @property
    def numbers(self) -> list[int]:
        """What came of the present log."""
        return self.logs.get(self.backend_id or "", [])

    @property
    def head(self) -> int:
        return self.numbers[-1] if self.numbers else 0

    def take(self, page: dict[str, Any]) -> None:
        if self.backend_id not in (None, page["backendId"]):
            self.problems.append(f"another log in the same pull: {self.backend_id} became {page['backendId']}")
        self.backend_id = page["backendId"]
        numbers = self.logs.setdefault(page["backendId"], [])
        for item in page["batch"]:
            encoded = item["eventEncoded"]
            if encoded["parentSeqNum"] != (numbers[-1] if numbers else 0):
                self.problems.append(f"{encoded['seqNum']} after {numbers[-1:]}, its parent {encoded['parentSeqNum']}")
            numbers.append(encoded["seqNum"])
        self._tell()

    def ended(self, exit_: dict[str, Any]) -> None:
        if exit_["_tag"] == "Success":
            self.problems.append("a live pull ended well")
        elif exit_["cause"]["error"]["_tag"] == "BackendIdMismatchError":
            self.mismatches += 1
            error = exit_["cause"]["error"]
            if error["expected"] == error["received"]:  # the same log, shorter: a client wipes what it has of it
                self.logs.pop(error["received"])
            self.backend_id = None
        else:
            self.problems.append(f"a live pull was refused: {exit_}")  # LiveStore's client never pulls again after it
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def reached(self, number: int) -> None:
        """Wait until this event has come."""
        with trio.fail_after(PATIENCE_S):
            while self.head < number:
                await self._changed.wait()

    async def started_over(self) -> None:
        """Wait until it was told to."""
        with trio.fail_after(PATIENCE_S):
            while not self.mismatches:
                await self._changed.wait()

    async def stands_at(self, backend_id: str, head: int) -> None:
        """Wait until everything of this log has come."""
        with trio.move_on_after(PATIENCE_S):
            while (self.backend_id, self.head) != (backend_id, head):
                await self._changed.wait()
            return
        raise AssertionError(f"not at e{head} of {backend_id} in {PATIENCE_S} s: {self}")

    async def run(self, url: str) -> None:
        """Follow for ever, as LiveStore's leader does: a connection that ends is made again."""
        while True:
            try:
                async with peer(url, self.store, following=False) as connection:
                    while True:
                        await connection.follow(self)
            except* (ConnectionClosed, HandshakeError, OSError):
                self.interruptions += 1
            await trio.sleep(0.02)


async def health(url: str) -> tuple[int, str]:
    """Status and word of /health."""
    async with httpx.AsyncClient() as client:
        response = await client.get(f"{url}/health", timeout=PATIENCE_S)
        return response.status_code, response.json()["status"]


async def health_becomes(url: str, status: str) -> None:
    """Wait until /health says so."""
    with trio.fail_after(PATIENCE_S):
        while (await health(url))[1] != status:  # noqa: ASYNC110 - another process decides
            await trio.sleep(0.05)


async def reset(url: str, store: str, secret: str) -> bool:
    """Reset a store as an admin, which the 0.3 protocol allows; whether it was done."""
    async with _socket(f"{url}/websocket?storeId={store}") as ws:
        request = {"_tag": "WSMessage.AdminResetRoomReq", "requestId": "reset", "adminSecret": secret}
        await ws.send_message(json.dumps(request))
        with trio.fail_after(PATIENCE_S):
            while (answer := json.loads(await ws.get_message())).get("requestId") != "reset":
                pass
    return bool(answer["_tag"] == "WSMessage.AdminResetRoomRes")
