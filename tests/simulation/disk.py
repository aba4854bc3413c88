"""The simulated disk behind the storage contract: slow, full, failing, and cut off at any moment by a crash.

Remembers when everything became durable, also of logs that a reset replaced, for the checker.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import attrs
import msgspec
import trio

from livesync_trio.errors import LogReplaced, StorageUnavailable
from livesync_trio.model import LogState, StoredEvent, StoreId
from livesync_trio.storage import base
from livesync_trio.storage.memory import MemoryEngine
from livesync_trio.store.persistence import Done
from tests.concurrency.stage import submitted

STORE = StoreId("s")


class SimulatedBugError(Exception):
    """Something nobody expected, which crashes the actor."""


@attrs.define
class Faults:
    """How probable each fault is; all zero once the world heals."""

    commit_fails: float = 0.0
    commit_unclear: float = 0.0
    commit_crashes: float = 0.0
    commit_kills: float = 0.0
    read_fails: float = 0.0
    disk_slow_s: float = 0.0

    def heal(self) -> None:
        self.commit_fails = self.commit_unclear = self.commit_crashes = self.commit_kills = 0.0
        self.read_fails = self.disk_slow_s = 0.0


@attrs.define
class History:
    """One log of the store, from its identity to the reset that replaced it.

    Attributes:
        heads: each durable head with the moment from which it was the head.
        durable_s: for each event when it became durable.
        contents: for each event what it says, in order.
        parents: for each event the number of the one before it.
        states: every state that was durable at some moment.
        events: the log as it was when it was replaced; of the present one, as it is at the end.
    """

    backend_id: str
    heads: list[tuple[float, int]]
    durable_s: list[float] = attrs.Factory(list)
    contents: list[str] = attrs.Factory(list)
    parents: list[int] = attrs.Factory(list)
    states: set[LogState] = attrs.Factory(set)
    events: list[StoredEvent] = attrs.Factory(list)
    replaced_s: float = float("inf")


class Disk:
    """The database, which survives every crash."""

    def __init__(self, dice: random.Random, note: Callable[[str], None], read_max_events: int) -> None:
        self.dice = dice
        self.note = note
        self.read_max_events = read_max_events
        self.faults = Faults()
        self.engine = MemoryEngine()
        self.engine.open()
        self._reader = self.engine.reader()
        self.histories: list[History] = []
        self.reads_of_replaced = 0
        self.on_change: Callable[[], None] = lambda: None

    @property
    def state(self) -> LogState | None:
        """What is durable now."""
        return self._reader.state(STORE)

    def apply(self, writer: base.Writer, write: base.Write) -> base.Outcome:
        before = self.state
        if isinstance(write, base.Reset) and before is not None:
            self.histories[-1].events = self._read_all(before)
            self.histories[-1].replaced_s = trio.current_time()
        outcome = writer.commit([write])[0]
        if isinstance(outcome, Exception):
            raise outcome
        after = self.state
        assert after is not None
        self._remember(before, after, write)
        self.note(f"{type(write).__name__} -> {type(outcome).__name__} e{after.head}")
        return outcome

    def _remember(self, before: LogState | None, after: LogState, write: base.Write) -> None:
        now_s = trio.current_time()
        if before is None or before.log_id != after.log_id:
            self.on_change()
            self.histories.append(History(after.backend_id, [(now_s, 0)], states={after}))
        elif before.head != after.head and isinstance(write, base.Append):
            self.on_change()
            history, count = self.histories[-1], before.event_count
            history.durable_s += [now_s] * (after.event_count - before.event_count)
            for batch in write.batches:
                count += len(batch.events)
                history.heads.append((now_s, batch.last_seq_num))
                history.states.add(attrs.evolve(after, head=batch.last_seq_num, event_count=count))
                history.contents += [msgspec.json.decode(event.json)["args"] for event in batch.events]
                history.parents += [event.parent_seq_num for event in batch.events]

    def conclude(self) -> list[History]:
        """Every log there ever was, in order."""
        state = self.state
        if state is not None:
            self.histories[-1].events = self._read_all(state)
        return self.histories

    def _read_all(self, state: LogState) -> list[StoredEvent]:
        return self._reader.read(state, 0, state.head, 10**9, 10**12)


class DiskOfProcess:
    """The disk as one server process has it: its handles die with the process. A `Writer` and a `Readers`.

    What was written when the process dies is there or lost as a whole, before or after the moment at which it became
    durable: that is what the storage contract promises, and `tests/storage` and `tests/torture` hold the engines to it.
    """

    def __init__(self, disk: Disk, kill: Callable[[], None] = lambda: None) -> None:
        """`kill` ends the process at once, in the middle of a commit."""
        self._disk = disk
        self._kill = kill
        self._writer = disk.engine.writer()
        self._reader = disk.engine.reader()
        self.dead = False
        self.healthy = self.alive = True
        self.turn_age_s = 0.0

    def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def close(self) -> None:
        pass

    def submit(self, write: base.Write, done: Done) -> None:
        trio.lowlevel.spawn_system_task(submitted, self, write, done)

    async def commit(self, write: base.Write) -> base.Outcome:
        dice, faults = self._disk.dice, self._disk.faults
        with trio.CancelScope(shield=True):
            await trio.sleep(dice.uniform(0, 0.01) + dice.random() * faults.disk_slow_s)
            self._perhaps_die()
            if self.dead or dice.random() < faults.commit_fails:
                raise StorageUnavailable("simulated: the disk does not take it")
            outcome = self._disk.apply(self._writer, write)
            self._perhaps_die()
            await trio.sleep(dice.uniform(0, 0.01))
            if self.dead or dice.random() < faults.commit_unclear:
                raise StorageUnavailable("simulated: lost at COMMIT")
            if dice.random() < faults.commit_crashes:
                raise SimulatedBugError
        return outcome

    def _perhaps_die(self) -> None:
        if not self.dead and self._disk.dice.random() < self._disk.faults.commit_kills:
            self._kill()

    async def read(self, log: LogState, after: int, up_to: int) -> list[StoredEvent]:
        dice, faults = self._disk.dice, self._disk.faults
        await trio.sleep(dice.uniform(0, 0.02) + dice.random() * faults.disk_slow_s)
        if self.dead or dice.random() < faults.read_fails:
            raise StorageUnavailable("simulated: read error")
        try:
            return self._reader.read(log, after, up_to, self._disk.read_max_events, 10**9)
        except LogReplaced:
            self._disk.reads_of_replaced += 1
            raise

    async def numbers_of(self, log: LogState, append_ids: Sequence[str]) -> dict[str, int]:
        dice, faults = self._disk.dice, self._disk.faults
        await trio.sleep(dice.uniform(0, 0.02))
        if self.dead or dice.random() < faults.read_fails:
            raise StorageUnavailable("simulated: read error")
        return self._reader.numbers_of(log, append_ids)

    async def summary(self, store_id: StoreId) -> base.StoreSummary | None:
        await trio.lowlevel.checkpoint()
        return self._reader.summary(store_id)
