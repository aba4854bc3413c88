"""What one connection can make the server hold, on Trio's virtual clock; measured in `test_hostile_sockets`."""

from __future__ import annotations

import pytest
import trio

from livesync_trio.model import LogState, StoredEvent
from tests.concurrency.stage import A, Stage, StageReaders, batch, connected, running

PULLS = 10


class CountingReaders(StageReaders):
    """Knows how many reads are running."""

    running = most = 0

    async def read(self, log: LogState, after: int, up_to: int) -> list[StoredEvent]:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await trio.sleep(0.1)
            return await super().read(log, after, up_to)
        finally:
            self.running -= 1


@pytest.mark.parametrize("connections", [1, 3])
async def test_many_pulls_of_one_connection_read_one_after_the_other(
    autojump_clock: trio.testing.MockClock, connections: int
) -> None:
    """A page held by each of them would be 60 MB for one socket with 32 pulls of large events."""
    stage = Stage()
    readers = CountingReaders(stage.engine)
    stage.registry.readers = readers
    async with running(stage) as nursery:
        assert not isinstance(await stage.registry.handle(A).push(batch(0, 1, 2), None, b'"x"', None), Exception)
        async with trio.open_nursery() as clients:

            async def pull_often() -> None:
                async with connected(stage, nursery) as client:
                    for number in range(PULLS):
                        await client.pull(str(number), live=False)
                    exits = 0
                    while exits < PULLS:
                        exits += (await client.receive())["_tag"] == "Exit"

            for _ in range(connections):
                clients.start_soon(pull_often)
    assert readers.most == connections
