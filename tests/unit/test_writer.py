"""`store.writer`: the bridge between actors and the thread that writes."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import trio
import trio.testing

from livesync_trio.model import BackendId, LogState, StoreId
from livesync_trio.storage import base
from livesync_trio.store.writer import ThreadWriter

STORE = StoreId("store")
STATE = LogState(1, BackendId("backend"), 0, 0)


class SlowDisk:
    """A handle whose commits take until they are let go."""

    def __init__(self) -> None:
        self.inside, self.let_go = threading.Event(), threading.Event()

    def commit(self, writes: Sequence[base.Write]) -> list[base.Outcome | Exception]:
        self.inside.set()
        self.let_go.wait()
        return [STATE for _ in writes]

    def clear_replaced(self, _: int) -> int:
        return 0

    def close(self) -> None:
        pass


async def test_who_waits_for_a_commit_cannot_be_interrupted() -> None:
    """From persist through publish nobody interrupts (design.md, law 1): the actor needs no shield of its own."""
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
