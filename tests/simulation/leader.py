"""The LiveStore client of 0.4 and next, as SPEC sections 2 and 3.6 describe it, over any network.

Owns `Leader`: it pulls live from its cursor, pushes what its application committed, rebases when it is behind,
interrupts the push it had under way, tries again when it must, starts over when told so, and has the published
client's defects. It raises `Violation` as soon as the server breaks a promise that a client can see. The simulation
runs it over its own network (`network.py`), the torture tests over real sockets (`tests/torture/sockets.py`).
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import attrs
import msgspec
import trio

PUSH_MAX_EVENTS = 50


class Violation(AssertionError):
    """The server broke a promise."""


class GoneError(Exception):
    """The connection is gone."""


class Line(Protocol):
    """The client's end of a connection that carries messages."""

    def put(self, message: bytes) -> None:
        """Send a message; never waits, and nobody learns whether it arrives."""

    async def get(self) -> bytes | None:
        """The next message; None when the connection is gone."""

    def leave(self) -> None:
        """Close this end. What is under way to the server may still arrive there."""


Connect = Callable[[], AbstractAsyncContextManager[Line | None]]
"""Opens a connection to the client's store for the length of a block; gives None when nobody answers."""


@attrs.frozen
class Pace:
    """How long a client waits before it tries again; the defaults are the real ones (SPEC 3.6)."""

    reconnect_s: tuple[float, float] = (0.8, 1.2)
    retry_first_s: float = 1.0
    retry_max_s: float = 30.0
    ping_s: float = 10.0


@attrs.frozen
class Attempt:
    """One push and what came of it. `outcome`: `ok`, `ahead` with `head`, or `unknown`."""

    client: str
    backend_id: str
    parent: int
    contents: tuple[str, ...]
    sent_s: float
    answered_s: float = math.inf
    outcome: str = "unknown"
    head: int = 0


@attrs.frozen
class Read:
    """A pull that said for the first time that there is no more: how many events the client had then."""

    backend_id: str
    asked_s: float
    count: int


@attrs.define
class Received:
    """What a client has of the log of one identity: contents, numbers, and when they came."""

    backend_id: str | None = None
    numbers: list[int] = attrs.Factory(list)
    contents: list[str] = attrs.Factory(list)
    at_s: list[float] = attrs.Factory(list)

    @property
    def head(self) -> int:
        return self.numbers[-1] if self.numbers else 0


@attrs.define(eq=False)
class _OpenPush:
    """A push that waits for its Exit."""

    request_id: str
    done: trio.Event = attrs.Factory(trio.Event)
    answer: dict[str, Any] | None = None
    interrupted: bool = False


class Leader:
    """A client of 0.4 (`string_ids`) or next, with an application that commits events."""

    def __init__(
        self,
        connect: Connect,
        store: str,
        name: str,
        dice: random.Random,
        *,
        string_ids: bool = True,
        pace: Pace | None = None,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        """`clock` tells when things were asked, answered and received; the client itself lives by Trio's."""
        self._connect = connect
        self._store = store
        self._dice = dice
        self._string_ids = string_ids
        self._pace = pace or Pace()
        self._clock = clock
        self.name = name
        self.log = Received()
        self.earlier: list[Received] = []
        self.pending: deque[str] = deque()
        self.attempts: list[Attempt] = []
        self.reads: list[Read] = []
        self.slowness_s = 0.0
        """Pause before each message is read: an application that does not keep up."""
        self._committed = 0
        self._next_id = dice.randrange(100)
        self._blocked = False
        self._orphaned = False
        self._wake = trio.Event()
        self._line: Line | None = None
        self._push: _OpenPush | None = None
        self._pull_id = ""
        self._pull_backend_id: str | None = None
        self._asked_s: float | None = None
        self._heard_s = 0.0
        self._process = trio.CancelScope()

    # --- the application ----------------------------------------------------------------------------------------------

    def commit(self, padding: str = "") -> None:
        """The application commits an event."""
        self._committed += 1
        self.pending.append(f"{self.name}:{self._committed}:{padding}")
        self._stir()

    def restart(self) -> None:
        """The application is closed and opened again: what it stored stays, what was under way is forgotten."""
        self._process.cancel()

    @property
    def settled(self) -> bool:
        """Nothing is left to push."""
        return not self.pending

    # --- the connection -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Stay connected for ever, through restarts of the application."""
        while True:
            with trio.CancelScope() as self._process:
                while True:
                    await self._be_connected_once()
                    await trio.sleep(self._dice.uniform(*self._pace.reconnect_s))
            self._orphaned = self._blocked = False
            self._next_id = self._dice.randrange(100)
            await trio.sleep(self._dice.uniform(*self._pace.reconnect_s))

    async def _be_connected_once(self) -> None:
        async with self._connect() as line:
            if line is None:
                return
            self._line = line
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read, line)
                    nursery.start_soon(self._ping)
                    nursery.start_soon(self._push_for_ever)
                    if not self._orphaned:
                        self._pull()
            except* GoneError:
                pass
            finally:
                self._push = None
                line.leave()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._line is not None
        self._line.put(msgspec.json.encode(message))

    def _request(self, procedure: str, payload: dict[str, Any]) -> str:
        self._next_id += 1
        request_id = str(self._next_id)
        self._send(
            {
                "_tag": "Request",
                "id": request_id if self._string_ids else self._next_id,
                "tag": f"SyncWsRpc.{procedure}",
                "payload": {"storeId": self._store, **payload},
                "headers": [],
            }
        )
        return request_id

    def _pull(self) -> None:
        cursor: dict[str, Any] = {"_tag": "None"}
        if self.log.backend_id is not None and self.log.numbers:
            position = {"backendId": self.log.backend_id, "eventSequenceNumber": self.log.head}
            cursor = {"_tag": "Some", "value": position}
        self._asked_s, self._pull_backend_id = self._clock(), None
        self._pull_id = self._request("Pull", {"live": True, "cursor": cursor})

    async def _read(self, line: Line) -> None:
        while True:
            if self.slowness_s:
                await trio.sleep(self.slowness_s)
            data = await line.get()
            if data is None:
                self._orphaned = False  # a close by the server wakes an orphan (SPEC 3.6)
                raise GoneError
            self._heard_s = trio.current_time()
            self._take(msgspec.json.decode(data))

    async def _ping(self) -> None:
        while True:
            sent_s = trio.current_time()
            self._send({"_tag": "Ping"})
            await trio.sleep(self._pace.ping_s)
            if self._heard_s < sent_s:
                # The client gives up the socket, but not its open requests: the published defect (SPEC 3.6).
                self._orphaned = self._string_ids
                raise GoneError

    # --- what the server says -----------------------------------------------------------------------------------------

    def _take(self, message: dict[str, Any]) -> None:
        if message["_tag"] == "Pong":
            return
        request_id = str(message["requestId"])
        if message["_tag"] == "Chunk":
            self._send({"_tag": "Ack", "requestId": message["requestId"]})
            if request_id == self._pull_id:
                for page in message["values"]:
                    self._take_page(page)
        elif self._push is not None and request_id == self._push.request_id:
            self._push.answer = message["exit"]
            self._push.done.set()
        elif request_id == self._pull_id:
            self._pull_ended(message["exit"])

    def _pull_ended(self, exit_value: dict[str, Any]) -> None:
        error = error_of(exit_value)
        if error.get("_tag") != "BackendIdMismatchError":
            raise Violation(f"{self.name}: live pull ended with {exit_value}")
        self._start_over(error, self.log.backend_id)

    def _start_over(self, error: dict[str, Any], asked_with: str | None) -> None:
        """The client wipes its data, as `onBackendIdMismatch: 'reset'` does, and comes back without any."""
        if error["received"] != asked_with or error["expected"] == asked_with:
            raise Violation(f"{self.name} asked with {asked_with} and was told {error}")
        self.earlier.append(self.log)
        self.log = Received()
        self.pending.clear()
        self._blocked = False
        raise GoneError

    def _take_page(self, page: dict[str, Any]) -> None:
        if self._pull_backend_id not in (None, page["backendId"]):
            raise Violation(f"{self.name}: identity changed within a pull")
        self._pull_backend_id = page["backendId"]
        if self.log.backend_id not in (None, page["backendId"]):
            if self.log.numbers:
                raise Violation(f"{self.name}: pulled from e{self.log.head} and was given another log")
            self.earlier.append(self.log)  # it had nothing and asked without a cursor, which fits any log
            self.log, self._blocked = Received(), False
        log = self.log
        log.backend_id = page["backendId"]
        foreign, now = False, self._clock()
        for item in page["batch"]:
            event = item["eventEncoded"]
            if event["parentSeqNum"] != log.head or event["seqNum"] <= log.head:
                raise Violation(f"{self.name}: at e{log.head}, got {event['seqNum']} after {event['parentSeqNum']}")
            log.numbers.append(event["seqNum"])
            log.contents.append(event["args"])
            log.at_s.append(now)
            foreign = self._confirm(event["args"]) or foreign
        if self._asked_s is not None and page["pageInfo"]["_tag"] == "NoMore":
            self.reads.append(Read(page["backendId"], self._asked_s, len(log.numbers)))
            self._asked_s = None
        if page["batch"]:
            self._blocked = False
        self._stir()
        if foreign and self._push is not None:
            self._interrupt(self._push)

    def _confirm(self, content: str) -> bool:
        """Take an event that came back out of the pending ones. True: it was somebody else's."""
        if self.pending and content == self.pending[0]:
            self.pending.popleft()
            return False
        if content.startswith(f"{self.name}:") and content in self.pending:
            raise Violation(f"{self.name}: own event {content:.40} out of order")
        return True

    # --- pushing ------------------------------------------------------------------------------------------------------

    def _stir(self) -> None:
        self._wake.set()
        self._wake = trio.Event()

    def _interrupt(self, push: _OpenPush) -> None:
        """The leader interrupts a running push when it rebases (SPEC 3.4); what becomes of it, it learns by the
        pull."""
        push.interrupted = True
        push.done.set()
        request_id: object = push.request_id if self._string_ids else int(push.request_id)
        self._send({"_tag": "Interrupt", "requestId": request_id})

    async def _push_for_ever(self) -> None:
        pause_s = self._pace.retry_first_s
        while True:
            if not self.pending or self._blocked or self._orphaned or self.log.backend_id is None:
                await self._wake.wait()
                continue
            log, parent, backend_id = self.log, self.log.head, self.log.backend_id
            push = await self._push_once()
            if push.answer is None:
                continue  # interrupted
            error = error_of(push.answer)
            match error.get("_tag"):
                case None:
                    pause_s = self._pace.retry_first_s
                    while self.log is log and log.head == parent:  # the pull brings the events back (SPEC section 2)
                        await self._wake.wait()  # or another log, when a reset took them
                case "ServerAheadError":
                    # A client without an event asked without a cursor: its pull may have brought another log meanwhile.
                    self._blocked = self.log is log and error["minimumExpectedNum"] > log.head
                    await trio.sleep(0.001)
                case "BackendIdMismatchError":
                    self._start_over(error, backend_id)
                case _:
                    await trio.sleep(pause_s * self._dice.uniform(0.8, 1.2))
                    pause_s = min(2 * pause_s, self._pace.retry_max_s)

    async def _push_once(self) -> _OpenPush:
        """Push what is pending on top of the head, and wait for the Exit, or until it is interrupted."""
        backend_id, parent = self.log.backend_id, self.log.head
        assert backend_id is not None
        contents = tuple(self.pending[index] for index in range(min(len(self.pending), PUSH_MAX_EVENTS)))
        batch = [
            {
                "name": "n",
                "args": content,
                "seqNum": number,
                "parentSeqNum": number - 1,
                "clientId": self.name,
                "sessionId": "s",
            }
            for number, content in enumerate(contents, parent + 1)
        ]
        attempt = Attempt(self.name, backend_id, parent, contents, self._clock())
        request_id = self._request("Push", {"batch": batch, "backendId": {"_tag": "Some", "value": backend_id}})
        push = self._push = _OpenPush(request_id)
        try:
            await push.done.wait()
        finally:
            self._push = None
            self.attempts.append(_concluded(attempt, push.answer, self._clock()))
        return push


def _concluded(attempt: Attempt, answer: dict[str, Any] | None, now_s: float) -> Attempt:
    if answer is None:
        return attempt
    error = error_of(answer)
    outcome = {None: "ok", "ServerAheadError": "ahead"}.get(error.get("_tag"), "unknown")
    return attrs.evolve(attempt, answered_s=now_s, outcome=outcome, head=error.get("minimumExpectedNum", 0))


def error_of(exit_value: dict[str, Any]) -> dict[str, Any]:
    """The typed error of an Exit, empty when it is a success."""
    if exit_value["_tag"] == "Success":
        return {}
    cause = exit_value["cause"]
    cause = cause[0] if isinstance(cause, list) else cause
    error: dict[str, Any] = cause.get("error", {"_tag": cause["_tag"]})
    return error
