"""Simulated LiveStore clients, which do what SPEC section 2 and 3.6 say the real ones do.

`Leader` is a client of 0.4 or next: it pulls live from its cursor, pushes what its application committed, rebases when it
is behind, tries again when it must, starts over when told so, and has the published client's defects. `OldClient` is a 0.3
application that only reads.
"""

from __future__ import annotations

import json
from typing import Any

import attrs
import trio

from tests.simulation.world import STORE, Link, World

PING_INTERVAL_S = 10.0
PUSH_MAX_EVENTS = 50


class Violation(AssertionError):
    """The server broke a promise."""


@attrs.frozen
class Attempt:
    """One push and what came of it. `outcome`: `ok`, `ahead` with `head`, or `unknown`."""

    client: str
    parent: int
    contents: tuple[str, ...]
    sent_s: float
    answered_s: float
    outcome: str
    head: int = 0


class GoneError(Exception):
    """The connection is gone."""


class Leader:
    """A client of 0.4 (`string_ids`) or next, with an application that commits events."""

    def __init__(self, world: World, name: str, *, string_ids: bool) -> None:
        self._world = world
        self._dice = world.dice
        self.name = name
        self._string_ids = string_ids
        self.backend_id: str | None = None
        self.numbers: list[int] = []
        self.contents: list[str] = []
        self.received_s: list[float] = []
        self.pending: list[str] = []
        self.attempts: list[Attempt] = []
        self._committed = 0
        self._next_id = self._dice.randrange(100)
        self._blocked = False
        self._orphaned = False
        self._wake = trio.Event()
        self._link: Link | None = None
        self._answers: dict[str, tuple[trio.Event, list[dict[str, Any]]]] = {}
        self._pull_id = ""
        self._heard_s = 0.0

    @property
    def head(self) -> int:
        return self.numbers[-1] if self.numbers else 0

    def commit(self) -> None:
        """The application commits an event."""
        self._committed += 1
        self.pending.append(f"{self.name}:{self._committed}")
        self._stir()

    async def run(self) -> None:
        """Stay connected for ever."""
        while True:
            link = self._world.connect()
            if link is None:
                await trio.sleep(self._dice.uniform(0.8, 1.2))
                continue
            self._link = link
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read, link)
                    nursery.start_soon(self._ping, link)
                    nursery.start_soon(self._push_for_ever)
                    if not self._orphaned:
                        self._pull()
            except* GoneError:
                pass
            link.cut()
            if not self._orphaned:
                self._fail_open_requests()
            await trio.sleep(self._dice.uniform(0.8, 1.2))

    # --- requests ------------------------------------------------------------------------------------------------------

    def _send(self, message: dict[str, Any]) -> None:
        assert self._link is not None
        self._link.up.put(json.dumps(message).encode())

    def _request(self, procedure: str, payload: dict[str, Any]) -> str:
        self._next_id += 1
        request_id = str(self._next_id)
        wire_id: object = request_id if self._string_ids else int(request_id)
        self._send(
            {
                "_tag": "Request",
                "id": wire_id,
                "tag": f"SyncWsRpc.{procedure}",
                "payload": {"storeId": STORE, **payload},
                "headers": [],
            }
        )
        return request_id

    def _pull(self) -> None:
        cursor: dict[str, Any] = {"_tag": "None"}
        if self.backend_id is not None and self.numbers:
            cursor = {"_tag": "Some", "value": {"backendId": self.backend_id, "eventSequenceNumber": self.head}}
        self._pull_id = self._request("Pull", {"live": True, "cursor": cursor})

    def _fail_open_requests(self) -> None:
        for event, _ in self._answers.values():
            event.set()

    # --- the connection ------------------------------------------------------------------------------------------------

    async def _read(self, link: Link) -> None:
        while True:
            data = await link.down.get()
            if data is None:
                if self._orphaned:  # a close by the server wakes an orphan (SPEC 3.6)
                    self._orphaned = False
                raise GoneError
            self._heard_s = trio.current_time()
            self._take(json.loads(data))

    async def _ping(self, link: Link) -> None:
        while True:
            sent_s = trio.current_time()
            self._send({"_tag": "Ping"})
            await trio.sleep(PING_INTERVAL_S)
            if self._heard_s < sent_s:
                # The client gives up the socket, but not its open requests: the published defect (SPEC 3.6).
                self._orphaned = self._string_ids
                raise GoneError

    def _take(self, message: dict[str, Any]) -> None:
        if message["_tag"] == "Pong":
            return
        request_id = str(message["requestId"])
        if message["_tag"] == "Chunk":
            self._send({"_tag": "Ack", "requestId": message["requestId"]})
            if request_id == self._pull_id:
                for page in message["values"]:
                    self._take_page(page)
        elif request_id in self._answers:
            event, answers = self._answers[request_id]
            answers.append(message["exit"])
            event.set()
        elif request_id == self._pull_id:
            self._pull_ended(message["exit"])

    def _pull_ended(self, exit_value: dict[str, Any]) -> None:
        error = _error(exit_value)
        if error.get("_tag") != "BackendIdMismatchError":
            raise Violation(f"{self.name}: live pull ended with {exit_value}")
        self.start_over()
        raise GoneError

    def start_over(self) -> None:
        """The client wipes its data, as `onBackendIdMismatch: 'reset'` does."""
        self.backend_id = None
        self.numbers, self.contents, self.received_s = [], [], []
        self.pending.clear()

    def _take_page(self, page: dict[str, Any]) -> None:
        if self.backend_id not in (None, page["backendId"]):
            raise Violation(f"{self.name}: identity changed within a pull")
        self.backend_id = page["backendId"]
        for item in page["batch"]:
            event = item["eventEncoded"]
            if event["parentSeqNum"] != self.head or event["seqNum"] <= self.head:
                raise Violation(f"{self.name}: at e{self.head}, got {event['seqNum']} after {event['parentSeqNum']}")
            self.numbers.append(event["seqNum"])
            self.contents.append(event["args"])
            self.received_s.append(trio.current_time())
            if event["args"] in self.pending:
                if event["args"] != self.pending[0]:
                    raise Violation(f"{self.name}: own event {event['args']} out of order")
                self.pending.pop(0)
        if page["batch"]:
            self._blocked = False
            self._stir()

    # --- pushing -------------------------------------------------------------------------------------------------------

    def _stir(self) -> None:
        self._wake.set()
        self._wake = trio.Event()

    async def _push_for_ever(self) -> None:
        pause_s = 1.0
        while True:
            if not self.pending or self._blocked or self._orphaned or self.backend_id is None:
                await self._wake.wait()
                continue
            parent = self.head
            exit_value = await self._push()
            error = {} if exit_value is None else _error(exit_value)
            match error.get("_tag"):
                case None if exit_value is not None:
                    pause_s = 1.0
                    await self._wait_for_echo(parent)
                case "ServerAheadError":
                    self._blocked = error["minimumExpectedNum"] > self.head
                    await trio.sleep(0.001)
                case "BackendIdMismatchError":
                    self.start_over()
                    raise GoneError
                case _:
                    await trio.sleep(pause_s * self._dice.uniform(0.8, 1.2))
                    pause_s = min(2 * pause_s, 30.0)

    async def _push(self) -> dict[str, Any] | None:
        """Push what is pending on top of the head; gives the Exit, None when the connection went first."""
        contents = tuple(self.pending[:PUSH_MAX_EVENTS])
        parent, sent_s = self.head, trio.current_time()
        batch = [
            {
                "name": "n",
                "args": content,
                "seqNum": parent + index + 1,
                "parentSeqNum": parent + index,
                "clientId": self.name,
                "sessionId": "s",
            }
            for index, content in enumerate(contents)
        ]
        request_id = self._request("Push", {"batch": batch, "backendId": _option(self.backend_id)})
        event, answers = self._answers[request_id] = (trio.Event(), [])
        attempt = Attempt(self.name, parent, contents, sent_s, float("inf"), "unknown")
        try:
            await event.wait()
        finally:
            del self._answers[request_id]
            if answers:
                error = _error(answers[0])
                outcome = {None: "ok", "ServerAheadError": "ahead"}.get(error.get("_tag"), "unknown")
                attempt = attrs.evolve(
                    attempt,
                    answered_s=trio.current_time(),
                    outcome=outcome,
                    head=error.get("minimumExpectedNum", 0),
                )
            self.attempts.append(attempt)
        return answers[0] if answers else None

    async def _wait_for_echo(self, parent: int) -> None:
        """After an acknowledgement the pull brings the events back (SPEC section 2); push no more before that."""
        while self.head == parent:
            await self._wake.wait()


class OldClient:
    """A 0.3 application that reads; started anew, it pulls; reconnected, it only listens (SPEC 5.3)."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self.name = name
        self.contents: list[str] = []

    async def run(self) -> None:
        while True:
            self.contents = []
            link = self._world.connect(v3=True)
            if link is not None:
                link.up.put(json.dumps({"_tag": "WSMessage.PullReq", "requestId": "p"}).encode())
                with trio.move_on_after(self._world.dice.uniform(20, 60)):  # then the application is started anew
                    await self._read(link)
                link.cut()
            await trio.sleep(1.0)

    async def _read(self, link: Link) -> None:
        answered, head, stash = False, 0, list[dict[str, Any]]()
        while (data := await link.down.get()) is not None:
            message = json.loads(data)
            if message["_tag"] != "WSMessage.PullRes":
                continue
            events = [item["eventEncoded"] for item in message["batch"]]
            if message["requestId"]["context"] == "pull":
                if answered:
                    raise Violation(f"{self.name}: a second answer")
                answered = message["remaining"] == 0
            elif not answered:
                stash += events
                continue
            if answered:
                events += [event for event in stash if not events or event["seqNum"] > events[-1]["seqNum"]]
                stash = []
            for event in events:
                if event["seqNum"] <= head and message["requestId"]["context"] == "pull":
                    continue
                if event["parentSeqNum"] != head:
                    raise Violation(f"{self.name}: at e{head}, got e{event['seqNum']} after e{event['parentSeqNum']}")
                head = event["seqNum"]
                self.contents.append(event["args"])


def _error(exit_value: dict[str, Any]) -> dict[str, Any]:
    """The typed error of an Exit, empty when it is a success."""
    if exit_value["_tag"] == "Success":
        return {}
    cause = exit_value["cause"]
    cause = cause[0] if isinstance(cause, list) else cause
    error: dict[str, Any] = cause.get("error", {"_tag": cause["_tag"]})
    return error


def _option(value: str | None) -> dict[str, Any]:
    return {"_tag": "None"} if value is None else {"_tag": "Some", "value": value}
