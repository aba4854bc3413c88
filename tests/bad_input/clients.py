"""Healthy clients of each generation, as far as these tests need them: they ask, and read the answers as plain JSON."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, quote_plus

from livesync_trio.errors import RULES, Kind

from .websockets import WebSocket
from .wires import Ended, Wire, post

NO_CURSOR: dict[str, Any] = {"_tag": "None"}


def event(seq_num: Any = 1, parent: Any = 0, args: Any = None, **others: Any) -> dict[str, Any]:
    """An event as clients send it."""
    fields = {"name": "todoCreated", "args": args, "seqNum": seq_num, "parentSeqNum": parent}
    return {**fields, "clientId": "client", "sessionId": "session", **others}


def sync_url(store: str, transport: str = "ws", payload: object = ...) -> str:
    """Path and query of a sync request of 0.4 and next."""
    return f"/?storeId={quote_plus(store)}{payload_parameter(payload)}&transport={transport}"


def v3_url(store: str, payload: object = ...) -> str:
    """Path and query of a sync request of 0.3."""
    return f"/websocket?storeId={quote_plus(store)}{payload_parameter(payload)}"


def payload_parameter(payload: object) -> str:
    """The application's payload, encoded twice; nothing where there is none."""
    return "" if payload is ... else "&payload=" + quote_plus(quote(json.dumps(payload), safe=""))


def request(request_id: object, procedure: str, payload: object) -> dict[str, Any]:
    """A Request of 0.4 (`request_id` a string) or next (a number)."""
    return {"_tag": "Request", "id": request_id, "tag": procedure, "payload": payload, "headers": []}


def pull(request_id: object, store: str, *, live: bool = False, after: int | None = None, backend_id: str = "") -> Any:
    cursor = NO_CURSOR
    if after is not None:
        cursor = {"_tag": "Some", "value": {"backendId": backend_id, "eventSequenceNumber": after}}
    return request(request_id, "SyncWsRpc.Pull", {"storeId": store, "cursor": cursor, "live": live})


def push(request_id: object, store: str, *events: Any) -> Any:
    return request(request_id, "SyncWsRpc.Push", push_payload(store, *events))


def push_payload(store: str, *events: Any) -> Any:
    return {"storeId": store, "batch": list(events), "backendId": {"_tag": "None"}}


def failure(exit_: dict[str, Any]) -> Any:
    """The typed error of a failed Exit of 0.4 or next; asserts the shape of the cause that belongs to the id's type."""
    assert exit_["_tag"] == "Exit", exit_
    assert exit_["exit"]["_tag"] == "Failure", exit_
    cause = exit_["exit"]["cause"]
    if isinstance(exit_["requestId"], int):
        (cause,) = cause
    assert cause["_tag"] == "Fail", cause
    return cause["error"]


def reason(exit_: dict[str, Any]) -> tuple[str, str]:
    """Kind and message of an UnknownError."""
    error = failure(exit_)
    assert error["_tag"] == "UnknownError", error
    assert error["cause"]["name"] == "Error"
    return error["note"], error["cause"]["message"]


def check_exit(exit_: Any) -> None:
    """Assert that a request succeeded, came too late, or was refused for what it is: no fault of the server's."""
    assert exit_["_tag"] == "Exit"
    if exit_["exit"]["_tag"] == "Failure" and failure(exit_)["_tag"] != "ServerAheadError":
        assert reason(exit_)[0] in (Kind.INVALID_REQUEST, Kind.HOOK_REFUSED)


class RpcClient(WebSocket):
    """A WebSocket client of 0.4, or of next with `numbered` ids."""

    def __init__(self, wire: Wire, store: str, *, numbered: bool = False) -> None:
        super().__init__(wire)
        self.store = store
        self._numbered = numbered
        self._last_id = 1_000_000

    def new_id(self) -> int | str:
        self._last_id += 1
        return self._last_id if self._numbered else str(self._last_id)

    async def answer_to(self, request_id: object) -> tuple[list[Any], Any]:
        """Wait for the Exit of a request. Returns the pages that came before it, and the Exit."""
        pages: list[Any] = []
        while True:
            message = await self.receive()
            if message.get("requestId") != request_id:
                continue
            if message["_tag"] == "Exit":
                return pages, message
            pages += message["values"]

    async def pull(self) -> list[Any]:
        """All events of the store."""
        request_id = self.new_id()
        await self.send(pull(request_id, self.store))
        pages, exit_ = await self.answer_to(request_id)
        assert exit_["exit"] == {"_tag": "Success", "value": None}
        return [item["eventEncoded"] for page in pages for item in page["batch"]]

    async def push(self, *events: Any) -> Any:
        """Push a batch; returns the Exit."""
        request_id = self.new_id()
        await self.send(push(request_id, self.store, *events))
        return (await self.answer_to(request_id))[1]

    async def is_served(self, request_id: object) -> bool:
        """Whether a request is served. If not, it must have been refused by its id, or closed as unreadable."""
        try:
            _, exit_ = await self.answer_to(request_id)
        except Ended:
            assert self.close_code == RULES[Kind.BAD_FRAME].close_code, self.close_reason
            return False
        check_exit(exit_)
        await self.check_ping()
        return bool(exit_["exit"]["_tag"] == "Success")

    async def check_ping(self) -> None:
        """The connection answers; nothing else may be on its way."""
        await self.send({"_tag": "Ping"})
        assert await self.receive() == {"_tag": "Pong"}

    async def check_works(self) -> None:
        """The connection is alive: it takes an event and gives back all there are."""
        before = await self.pull()
        head = before[-1]["seqNum"] if before else 0
        new = event(head + 1, head, {"still": "works"})
        exit_ = await self.push(new)
        assert exit_["exit"] == {"_tag": "Success", "value": {}}, exit_
        assert await self.pull() == [*before, new]


class V3Client(WebSocket):
    """A WebSocket client of 0.3."""

    _last_id = 0

    def new_id(self) -> str:
        self._last_id += 1
        return f"healthy-{self._last_id}"

    async def pull(self) -> list[Any]:
        request_id = self.new_id()
        await self.send({"_tag": "WSMessage.PullReq", "requestId": request_id})
        events: list[Any] = []
        while True:
            message = await self.receive()
            if message["requestId"] == {"context": "pull", "requestId": request_id}:
                assert message["_tag"] == "WSMessage.PullRes"
                events += [item["eventEncoded"] for item in message["batch"]]
                if message["remaining"] == 0:
                    return events

    async def check_works(self) -> None:
        """The connection is alive: it takes an event, broadcasts it, and gives back all there are."""
        before = await self.pull()
        head = before[-1]["seqNum"] if before else 0
        new, request_id = event(head + 1, head, {"still": "works"}), self.new_id()
        await self.send({"_tag": "WSMessage.PushReq", "requestId": request_id, "batch": [new]})
        while (message := await self.receive()) != {"_tag": "WSMessage.PushAck", "requestId": request_id}:
            assert message["_tag"] != "WSMessage.Error", message
        assert (await self.receive())["batch"][0]["eventEncoded"] == new
        assert await self.pull() == [*before, new]


def http_rpc(store: str, request_id: object, procedure: str, payload: object, *headers: str) -> bytes:
    """The bytes of one HTTP RPC."""
    body = json.dumps(request(request_id, f"SyncHttpRpc.{procedure}", payload)).encode()
    return post(sync_url(store, "http"), body, *headers)
