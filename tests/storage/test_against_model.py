"""Random histories on every engine, compared step by step with a model log of a few lines."""

import tempfile
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from livesync_trio.errors import LogReplaced
from livesync_trio.model import Batch, LogState, StoredEvent, StoreId
from livesync_trio.storage.base import Append, Appended, Delete, Freeze, HeadMoved, NoStore, Outcome, StoreWrite
from tests.storage.conftest import ENGINES
from tests.storage.making import Database, append, chain, event_json, open_store, reset

STORES = st.sampled_from(["s", "S", "s ", "t"])
VERBS: dict[str, Callable[[StoreId], StoreWrite]] = {
    "delete": Delete,
    "freeze": lambda store: Freeze(store, frozen=True),
    "thaw": lambda store: Freeze(store, frozen=False),
}
GAPS = st.lists(st.integers(1, 5), min_size=1, max_size=4)
ARGS = st.sampled_from([b"null", b'{"b":1e400,"a":[]}', '"\u2028ä"'.encode(), b'"%b"' % (b"x" * 400)])
TIMES = st.sampled_from(["2026-11-20T12:34:56.789Z", "2027-01-01T00:00:00.000Z"])


@attrs.define
class ModelLog:
    """The specification: a log is what was appended to it."""

    state: LogState
    events: list[StoredEvent] = attrs.Factory(list)

    def add(self, batch: Batch, created_at: str) -> None:
        for event in batch.events:
            self.events.append(StoredEvent(event.seq_num, len(self.events) + 1, event.json, created_at))
        self.state = attrs.evolve(self.state, head=batch.last_seq_num, event_count=len(self.events))

    def read(self, after: int, up_to: int, limit_events: int, limit_bytes: int) -> list[StoredEvent]:
        found = [event for event in self.events if after < event.seq_num <= up_to][:limit_events]
        totals = list(accumulate(len(event.json) for event in found))
        return found[: max(1, bisect_right(totals, limit_bytes))]


class LogMachine(RuleBasedStateMachine):
    """An engine and a model side by side."""

    engine = ""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.db = Database(ENGINES[self.engine](Path(self.directory.name)))
        self.logs: dict[str, ModelLog] = {}
        self.replaced: list[ModelLog] = []
        self.identities: set[str] = set()
        self.to_clear = 0

    def teardown(self) -> None:
        self.db.stop()
        self.directory.cleanup()

    # --- what the model says of a write --------------------------------------------------------------------------

    def check(
        self, write: StoreWrite, outcome: Outcome | Exception, batches: list[Batch], created_at: str = ""
    ) -> None:
        store = str(write.store_id)
        known = self.logs.get(store)
        if write == reset(store):
            if known is not None:
                self.replaced.append(known)
                self.to_clear += len(known.events)
            self.take_new(store, outcome, frozen=known is not None and known.state.frozen)
        elif isinstance(write, Delete):
            assert outcome == NoStore()
            if known is not None:
                self.replaced.append(known)
                self.to_clear += len(known.events)
                del self.logs[store]
        elif isinstance(write, Freeze):
            if known is not None:
                known.state = attrs.evolve(known.state, frozen=write.frozen)
            assert outcome == (NoStore() if known is None else known.state)
        elif write == open_store(store):
            if known is None:
                self.take_new(store, outcome)
            else:
                assert outcome == known.state
        elif known is None:
            assert isinstance(outcome, HeadMoved)
            self.take_new(store, outcome.state)
        elif known.state.frozen or self.expects_another(write, known.state):
            assert outcome == HeadMoved(known.state)
        else:
            for batch in batches:
                known.add(batch, created_at)
            assert outcome == Appended(known.state)

    @staticmethod
    def expects_another(write: StoreWrite, state: LogState) -> bool:
        return not isinstance(write, Append) or attrs.evolve(write.expected, frozen=False) != state

    def take_new(self, store: str, state: object, *, frozen: bool = False) -> None:
        assert isinstance(state, LogState)
        assert (state.head, state.event_count, state.frozen) == (0, 0, frozen)
        assert state.backend_id not in self.identities
        assert str(state.log_id) not in self.identities
        self.identities |= {state.backend_id, str(state.log_id)}
        self.logs[store] = ModelLog(state)

    # --- rules ---------------------------------------------------------------------------------------------------

    @initialize(store=STORES)
    def begin(self, store: str) -> None:
        self.open(store)

    @rule(store=STORES)
    def open(self, store: str) -> None:
        self.check(open_store(store), self.db.one(open_store(store)), [])

    @rule(store=STORES)
    def replace(self, store: str) -> None:
        self.check(reset(store), self.db.one(reset(store)), [])

    @rule(data=st.data(), created_at=TIMES, size=st.integers(1, 6))
    def group(self, data: st.DataObject, created_at: str, size: int) -> None:
        """A group of good and stale appends, openings and resets, decided in order."""
        writes: list[StoreWrite] = []
        batches: list[list[Batch]] = []
        heads = {store: log.state for store, log in self.logs.items()}
        for _ in range(size):
            store = data.draw(STORES)
            kind = data.draw(st.sampled_from(["append", "append", "append", "stale", "open", "reset", *VERBS]))
            if kind == "open" or not self.logs:
                writes.append(open_store(store))
                batches.append([])
            elif kind == "reset":
                writes.append(reset(store))
                batches.append([])
            elif kind in VERBS:
                writes.append(VERBS[kind](StoreId(store)))
                batches.append([])
            else:
                known = [log.state for log in (*self.logs.values(), *self.replaced)]
                expected = data.draw(st.sampled_from(known)) if kind == "stale" else heads.get(store, known[0])
                run = self.draw_run(data, expected.head)
                writes.append(append(store, expected, *run, created_at=created_at))
                batches.append(run)
                if kind == "append":
                    events = sum(len(batch.events) for batch in run)
                    heads[store] = attrs.evolve(
                        expected, head=run[-1].last_seq_num, event_count=expected.event_count + events
                    )
        for write, outcome, run in zip(writes, self.db.commit(*writes), batches, strict=True):
            self.check(write, outcome, run, created_at)

    def draw_run(self, data: st.DataObject, head: int) -> list[Batch]:
        run = []
        for gaps in data.draw(st.lists(GAPS, min_size=1, max_size=2)):
            numbers = list(accumulate(gaps, initial=head))[1:]
            run.append(chain(*numbers, after=head, args=data.draw(ARGS)))
            head = numbers[-1]
        return run

    @precondition(lambda self: self.logs)
    @rule(data=st.data(), gaps=GAPS)
    def unchained(self, data: st.DataObject, gaps: list[int]) -> None:
        store = data.draw(st.sampled_from(sorted(self.logs)))
        state = self.logs[store].state
        broken = chain(*list(accumulate(gaps, initial=state.head + 1))[1:], after=state.head + 1)
        (outcome,) = self.db.commit(append(store, state, broken))
        assert isinstance(outcome, ValueError)

    @precondition(lambda self: self.logs)
    @rule(
        data=st.data(),
        after=st.integers(-2, 60),
        up_to=st.integers(-2, 60),
        limit_events=st.integers(1, 12),
        limit_bytes=st.integers(0, 2_000),
    )
    def read(self, data: st.DataObject, after: int, up_to: int, limit_events: int, limit_bytes: int) -> None:
        log = self.logs[data.draw(st.sampled_from(sorted(self.logs)))]
        asked = after, up_to, limit_events, limit_bytes
        assert self.db.read(log.state, *asked) == log.read(*asked)

    @precondition(lambda self: self.replaced)
    @rule(data=st.data())
    def read_replaced(self, data: st.DataObject) -> None:
        log = data.draw(st.sampled_from(self.replaced))
        with pytest.raises(LogReplaced):
            self.db.read(log.state)

    @rule(limit=st.integers(1, 20))
    def clear(self, limit: int) -> None:
        cleared = self.db.writer.clear_replaced(limit)
        assert cleared == min(limit, self.to_clear)
        self.to_clear -= cleared

    @rule()
    def restart(self) -> None:
        self.db.restart()

    @invariant()
    def states_agree(self) -> None:
        for store, log in self.logs.items():
            assert self.db.state(store) == log.state


EXAMPLES = {"postgresql": 8}
"""Histories of an engine whose every step is a round trip or two; the others get more."""


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_behaves_as_the_model_log(name: str) -> None:
    machine = type(f"{name.title()}Machine", (LogMachine,), {"engine": name})
    examples = 8 if name == "postgresql" else 80  # every step of it is a round trip or two
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=25, deadline=None))


def test_the_model_cuts_as_the_contract_says() -> None:
    log = ModelLog(LogState(1, "b", 0, 0))  # type: ignore[arg-type]
    log.add(chain(1, 2, 3), "t")
    size = len(event_json(1, 0))
    assert [event.seq_num for event in log.read(0, 3, 9, 2 * size)] == [1, 2]
    assert [event.seq_num for event in log.read(0, 3, 9, 0)] == [1]
    assert log.read(3, 9, 9, 9) == []
