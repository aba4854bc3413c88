"""`store.writer`: the bridge between actors and the thread that writes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
import trio
import trio.testing

from livesync_trio.errors import StorageUnavailable
from livesync_trio.model import BackendId, Batch, Event, LogState, StoreId
from livesync_trio.storage import base
from livesync_trio.store.writer import GROUP_COMMIT_MAX_OPENINGS, ThreadWriter, _Job
from livesync_trio.turns import Turns

STORE = StoreId("store")
STATE = LogState(1, BackendId("backend"), 0, 0)


class SlowDisk:
    """A handle whose commits take until they are let go."""

    def __init__(self) -> None:
        self.inside, self.let_go = threading.Event(), threading.Event()
        self.groups: list[Sequence[base.Write]] = []

    def commit(self, writes: Sequence[base.Write]) -> list[base.Outcome | Exception]:
        self.groups.append(writes)
        self.inside.set()
        self.let_go.wait()
        return [STATE for _ in writes]

    def prove_writable(self) -> None:
        pass

    def clear_replaced(self, _: int) -> int:
        return 0

    def close(self) -> None:
        pass


async def test_who_waits_for_a_commit_cannot_be_interrupted() -> None:
    """From persist through publish nobody interrupts (invariant 1): the actor needs no shield of its own."""
    disk = SlowDisk()
    writer = ThreadWriter(lambda: disk)
    writer.start()
    got: list[base.Outcome] = []

    async def commit(scope: trio.CancelScope) -> None:
        with scope:
            got.append(await writer.commit(base.OpenStore(STORE)))
            got.append(STATE)  # no checkpoint in between: an actor publishes here

    try:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope()
                nursery.start_soon(commit, scope)
                await trio.to_thread.run_sync(disk.inside.wait)
                scope.cancel()
                await trio.testing.wait_all_tasks_blocked()
                assert not got
                disk.let_go.set()
    finally:
        disk.let_go.set()
        await writer.stop()
    assert got == [STATE, STATE]


async def test_a_push_does_not_wait_for_everybody_who_opens_a_store() -> None:
    """Clients that all come back at once to a store each do not hold up who is at work; none of them is forgotten."""
    disk = SlowDisk()
    writer = ThreadWriter(lambda: disk)
    writer.start()
    many = 3 * GROUP_COMMIT_MAX_OPENINGS
    batch = Batch((Event(1, 0, b"{}"),))
    append = base.Append(STORE, STATE, (batch,), "2026-11-20T00:00:00.000Z")
    try:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(writer.commit, base.OpenStore(StoreId("first")))
                await trio.to_thread.run_sync(disk.inside.wait)
                for number in range(many):
                    nursery.start_soon(writer.commit, base.OpenStore(StoreId(f"store-{number}")))
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(writer.commit, append)
                await trio.testing.wait_all_tasks_blocked()
                disk.let_go.set()
    finally:
        disk.let_go.set()
        await writer.stop()
    assert append in disk.groups[1]
    assert [len(group) for group in disk.groups] == [
        1,
        1 + GROUP_COMMIT_MAX_OPENINGS,
        GROUP_COMMIT_MAX_OPENINGS,
        GROUP_COMMIT_MAX_OPENINGS,
    ]


async def test_what_one_turn_brought_is_carried_out_together() -> None:
    disk, turns, answers = SlowDisk(), Turns(), list[object]()
    disk.let_go.set()
    writer = ThreadWriter(lambda: disk, turns=turns)
    writer.start()
    try:
        turns.begin()
        for number in range(3):
            writer.submit(base.OpenStore(StoreId(f"store-{number}")), answers.append)
        assert writer._queue.empty()
        turns.end()
        with trio.fail_after(30):
            await writer.commit(base.OpenStore(STORE))
    finally:
        await writer.stop()
    assert answers == [STATE] * 3
    assert len(disk.groups[0]) >= 3  # not one by one; the last commit may be among them


async def test_a_writer_that_has_ended_takes_nothing_and_answers_nobody_later() -> None:
    disk, answers = SlowDisk(), list[object]()
    writer = ThreadWriter(lambda: disk)
    with pytest.raises(StorageUnavailable):
        writer.submit(base.OpenStore(STORE), answers.append)
    assert answers == []


async def test_what_waits_when_it_is_stopped_is_still_carried_out() -> None:
    """Nobody waits for these commits: who does cannot be interrupted, and would keep the test from failing."""
    disk, answers = SlowDisk(), list[Callable[[], None]]()
    disk.let_go.set()
    writer = ThreadWriter(lambda: disk, call_soon=answers.append)
    many = 2 * GROUP_COMMIT_MAX_OPENINGS + 1
    for number in range(many):
        write = base.OpenStore(StoreId(f"store-{number}"))
        writer._queue.put([_Job(write, lambda _: None, 0.0)])
    writer._queue.put(None)  # the end, before the thread has taken the first of them
    writer.start()
    await writer.stop()
    assert sum(map(len, disk.groups)) == many
    assert len(answers) == len(disk.groups)
