"""A program that is no LiveStore client: it appends events under ids, again and again until it has their numbers."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import attrs
import trio

from livesync_trio.model import Draft
from livesync_trio.store.commands import Numbered
from tests.simulation.checker import Log
from tests.simulation.disk import History
from tests.simulation.leader import Attempt, Violation
from tests.simulation.world import SweptHandle, World


@attrs.define
class Sent:
    """One event, and what its program was told of it in the end: which log has it, and where."""

    content: str
    sent_s: float
    answered_s: float = float("inf")
    backend_id: str = ""
    seq_num: int = 0


class Program:
    """Appends through whichever server it meets; gives up waiting now and then, as if the answer was lost."""

    def __init__(self, world: World, name: str, dice: random.Random) -> None:
        self._world = world
        self._dice = dice
        self.name = name
        self.sent: list[Sent] = []
        self.times = 0
        """How often something was sent, again or not."""
        self.resting = trio.Event()

    @property
    def told(self) -> bool:
        """Whether it knows what became of everything."""
        return all(sent.seq_num for sent in self.sent)

    def rest(self) -> None:
        """Begin nothing more."""
        self.resting.set()

    async def run(self) -> None:
        """Append until told to rest; what was begun is finished whatever happens."""
        while not self.resting.is_set():
            await trio.sleep(self._dice.expovariate(1 / 1.5))
            if self.resting.is_set():
                return  # nobody waits for what is begun now
            now_s = trio.current_time()
            batch = [Sent(f"{self.name}:{len(self.sent) + n}:", now_s) for n in range(self._dice.choice([1, 1, 3]))]
            self.sent += batch
            again = self._dice.sample(self.sent, 1) if self._dice.random() < 0.2 else []
            while batch[0].seq_num == 0:
                await self._send([*batch, *again])
                await trio.sleep(self._dice.uniform(0, 2))

    async def _send(self, events: Sequence[Sent]) -> None:
        if not self._world.servers:
            return
        server = self._dice.choice(self._world.servers)
        who = b'"clientId":"p","sessionId":"s"}'
        drafts = tuple(
            Draft(b'{"name":"n","args":"%b"' % sent.content.encode(), who, sent.content, True) for sent in events
        )
        self.times += 1
        with trio.move_on_after(self._dice.uniform(0.05, 6)):
            answer = await SweptHandle(server.registry, self._world.sweep_dice).append(drafts, None, None, self)
            if server.disk.dead or not isinstance(answer, Numbered):
                return  # a process that was killed says nothing any more
            for sent, number in zip(events, answer.seq_nums, strict=True):
                told = sent.backend_id, sent.seq_num
                if sent.seq_num and told[0] == answer.state.backend_id and told[1] != number:
                    raise Violation(f"{sent.content} was told to be e{told[1]} and e{number}")
                sent.backend_id, sent.seq_num = answer.state.backend_id, number
                sent.answered_s = trio.current_time()

    def attempts(self, histories: Iterable[History]) -> list[Attempt]:
        """For the checker of linearizability: each event may have become part of any log, and did of one."""
        return [
            Attempt(self.name, each.backend_id, 0, (sent.content,), sent.sent_s, sent.answered_s, _outcome(sent, each))
            for each in histories
            for sent in self.sent
        ]


def _outcome(sent: Sent, history: History) -> str:
    return "ok" if sent.backend_id == history.backend_id else "unknown"


def check_programs(histories: Sequence[History], programs: Iterable[Program]) -> None:
    """Every event that a program was told of is in its log, once, under its number; durable before it was told."""
    logs = {history.backend_id: Log.of(history) for history in histories}
    for program in programs:
        for sent in program.sent:
            log = logs[sent.backend_id]
            place = log.position.get(sent.content)
            if place is None or log.number(place + 1) != sent.seq_num:
                raise Violation(f"{program.name}: told of an event that is not there: {sent}")
            if not sent.sent_s <= log.history.durable_s[place] <= sent.answered_s:
                raise Violation(f"{program.name}: told before it was durable: {sent}")
            if log.history.events[place].append_id != sent.content:
                raise Violation(f"{program.name}: under another id: {sent}")
