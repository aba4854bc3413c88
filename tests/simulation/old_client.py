"""A 0.3 application that reads: started anew, it pulls; its stream never ends; it knows no identities (SPEC 5.3)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import trio

from tests.simulation.leader import Connect, Violation


class OldClient:
    """Pulls once a connection and applies every broadcast after it."""

    def __init__(
        self,
        connect: Connect,
        name: str,
        dice: random.Random,
        resets: Callable[[], int] = lambda: 0,
        resets_heard_of: Callable[[], int] | None = None,
    ) -> None:
        """Nothing is started before `run`.

        Args:
            connect: opens a connection.
            name: for messages.
            dice: decides when it comes back.
            resets: how often the store was reset, of which 0.3 is not told: then the new log comes, from its start.
            resets_heard_of: of how many of these every server must have heard by now; of all where there is one server.
        """
        self._connect = connect
        self._resets = resets
        self._resets_heard_of = resets_heard_of or resets
        self._dice = dice
        self.name = name
        self.contents: list[str] = []
        self.connections = 0

    async def run(self) -> None:
        """Be started again whenever the connection has gone, as an operator of 0.3 must."""
        while True:
            async with self._connect() as line:
                if line is not None:
                    self.connections += 1
                    line.put(msgspec.json.encode({"_tag": "WSMessage.PullReq", "requestId": "p"}))
                    resets = self._resets_heard_of()
                    stream = _Stream(self.name)
                    self.contents = stream.contents
                    while (data := await line.get()) is not None:
                        was_reset = self._resets() != resets
                        if was_reset and not stream.answered:
                            break  # what it has then, it cannot know itself
                        stream.take(msgspec.json.decode(data), was_reset=was_reset)
                    line.leave()
            await trio.sleep(self._dice.uniform(0.8, 1.2))


class _Stream:
    """What the 0.3 client makes of one connection's messages."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.answered = False
        self._head = 0
        self._stash: list[dict[str, Any]] = []
        self.contents: list[str] = []

    def take(self, message: dict[str, Any], *, was_reset: bool) -> None:
        """Act on a message."""
        if message["_tag"] != "WSMessage.PullRes":
            return
        events = [item["eventEncoded"] for item in message["batch"]]
        is_answer = message["requestId"]["context"] == "pull"
        if is_answer:
            if self.answered:
                raise Violation(f"{self._name}: a second answer")
            self.answered = message["remaining"] == 0
        elif not self.answered:
            self._stash += events  # a broadcast before the answer is appended to it (SPEC 5.3)
            return
        if self.answered and self._stash:
            last = events[-1]["seqNum"] if events else self._head
            events += [event for event in self._stash if event["seqNum"] > last]
            self._stash = []
        for event in events:
            if was_reset and event["parentSeqNum"] == 0:
                self._head = 0
                self.contents.clear()
            self._apply(event)

    def _apply(self, event: dict[str, Any]) -> None:
        if event["parentSeqNum"] != self._head:
            number, parent = event["seqNum"], event["parentSeqNum"]
            raise Violation(f"{self._name}: at e{self._head}, got e{number} after e{parent}")
        self._head = event["seqNum"]
        self.contents.append(event["args"])
