"""Stores that commit, lose the network, lose answers, are closed and opened again, in an order that a seed decides."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from livesync_trio.livestore import Store, open_store

from . import notebook
from .memory_server import MemoryServer

STORES = 3
STEPS = 40
TITLES = "abcd"


def some_event(dice: random.Random) -> Any:
    title = dice.choice(TITLES)
    return dice.choice(
        [
            notebook.NoteWritten(title),
            notebook.NoteTagged(title, dice.choice("xy")),
            notebook.NoteStarred(title, 0.5),
            notebook.NoteDropped(title),
            notebook.SettingSet(title, dice.randint(0, 9)),
        ]
    )


class Peer:
    """A store that comes and goes, on its file, in a task of its own."""

    def __init__(self, path: Path, server: MemoryServer) -> None:
        self._path, self._server = path, server
        self.committed = 0
        self.scope, self.closed = trio.CancelScope(), trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.scope, self.closed = trio.CancelScope(), trio.Event()
        options: dict[str, Any] = {"store_id": "s", "client_id": self._path.stem, "backend": self._server.open()}
        with self.scope:
            async with open_store(self._path, notebook.make_schema(), **options) as store:
                self.store: Store = store
                task_status.started()
                await trio.sleep_forever()
        self.closed.set()

    async def end(self) -> None:
        self.scope.cancel()
        await self.closed.wait()

    def commit(self, events: list[Any]) -> None:
        self.store.commit(*events)
        self.committed += len(events)


@pytest.mark.parametrize("round_number", range(3))
async def test_stores_converge_whatever_happened(autojump_clock: MockClock, tmp_path: Path, round_number: int) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    server = MemoryServer(page_events=dice.randint(1, 5))
    peers = [Peer(tmp_path / f"peer-{number}.db", server) for number in range(STORES)]
    async with trio.open_nursery() as nursery:
        for peer in peers:
            await nursery.start(peer.run)
        await live(nursery, dice, server, peers)
        for peer in peers:
            await peer.end()


async def live(nursery: trio.Nursery, dice: random.Random, server: MemoryServer, peers: list[Peer]) -> None:
    for _ in range(STEPS):
        peer = dice.choice(peers)
        match dice.randrange(8):
            case 0:
                server.cut()
            case 1:
                server.restore()
            case 2:
                server.lost_answers += 1
            case 3:
                await peer.end()
                await nursery.start(peer.run)
            case _:
                peer.commit([some_event(dice) for _ in range(dice.randint(1, 4))])
        if dice.random() < 0.7:
            await trio.sleep(dice.expovariate(20.0))
    server.lost_answers = 0
    server.restore()
    for peer in peers:
        await peer.store.synced()
    await trio.sleep(60)
    for peer in peers:
        assert len([event for event in server.log if event.client_id == peer.store.client_id]) == peer.committed
        assert (peer.store.sync_status.head, peer.store.sync_status.pending) == (server.head, 0)
        for sql in notebook.READ.values():
            assert peer.store.query(sql) == peers[0].store.query(sql)
