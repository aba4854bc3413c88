"""What one connection can make the server hold, on Trio's virtual clock; measured in `test_hostile_sockets`."""

from __future__ import annotations

import tracemalloc

import pytest
import trio
import trio.testing

from livesync_trio.limits import FRAME_MAX_BYTES, READS_AT_A_TIME
from livesync_trio.model import LogState, StoredEvent
from livesync_trio.store.history import History
from livesync_trio.transport.http import HttpConnection
from tests.bad_input.wires import head
from tests.concurrency.stage import A, Stage, StageReaders, batch, connected, running

PULLS = 10
CHUNKS = 20_000


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
    stage.registry.history = History(readers)
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
    assert readers.most == min(connections, READS_AT_A_TIME)


async def test_a_body_of_one_byte_chunks_costs_little_more_than_its_size() -> None:
    """An object kept for each chunk would make 1.3 GiB of 32 MiB."""
    ours, theirs = trio.testing.memory_stream_pair()
    http, bodies = HttpConnection(theirs, 10), []

    async def read() -> None:
        assert await http.next_request(10) is not None
        bodies.append(await http.read_body(FRAME_MAX_BYTES))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await ours.send_all(head("POST / HTTP/1.1", "Transfer-Encoding: chunked"))
        await trio.testing.wait_all_tasks_blocked()
        tracemalloc.start()
        try:
            for _ in range(CHUNKS // 100):
                await ours.send_all(b"1\r\nx\r\n" * 100)
                await trio.testing.wait_all_tasks_blocked()
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        await ours.send_all(b"0\r\n\r\n")
    assert bodies == [b"x" * CHUNKS]
    print(f"{peak_bytes} bytes for {CHUNKS}")
    assert peak_bytes < 5 * CHUNKS
