"""Mixed load on one server process for a long time; what it holds must not grow.

Memory, descriptors, threads, tasks and connections are sampled and drawn (`plot.py`). At the end every client must have
everything, and the auditor compares the file with what was acknowledged.
"""

from __future__ import annotations

import functools
import json
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import attrs
import trio

from tests.simulation.leader import Leader, Violation
from tests.simulation.old_client import OldClient
from tests.simulation.waiting import until
from tests.torture import server as proc
from tests.torture.admin import reset
from tests.torture.audit import Auditor
from tests.torture.plot import Curve, svg
from tests.torture.sockets import connected, open_stream, target_of, to_store

HOOK = """
import json, os, trio

async def validate_payload(payload, context):
    if payload == "statistics":
        tasks = trio.lowlevel.current_statistics().tasks_living
        with open(os.environ["TORTURE_STATISTICS"], "w") as file:
            file.write(json.dumps({"tasks": tasks}))
        raise RuntimeError("noted")
"""
SETTLE_LIMIT_S = 300.0


@attrs.frozen
class Sample:
    """What the process holds at one moment."""

    at_s: float
    memory_kib: int
    descriptors: int
    threads: int
    tasks: int
    events: int


@attrs.define
class Soak:
    """Sizes of the load."""

    stores: int = 20
    writers_per_store: int = 2
    readers_per_store: int = 3
    idle: int = 100
    pace_s: float = 2.0
    samples: list[Sample] = attrs.Factory(list)
    leaders: dict[str, list[Leader]] = attrs.Factory(dict)
    auditor: Auditor = attrs.Factory(Auditor)

    async def run(self, directory: Path, minutes: float, dice: random.Random, say: Callable[[str], None]) -> None:
        """Load a server for so long. Raises Violation."""
        hook = directory / "statistics_hook.py"
        hook.write_text(HOOK)
        noted = directory / "statistics.json"
        settings = {"LIVESYNC_HOOKS": str(hook), "TORTURE_STATISTICS": str(noted), "LIVESYNC_DORMANT_AFTER_S": "5"}
        server = proc.ServerProcess(directory, settings)
        await server.start()
        async with trio.open_nursery() as nursery:
            self._start_clients(server, dice, nursery)
            with trio.move_on_after(minutes * 60):
                async with trio.open_nursery() as load:
                    load.start_soon(self._commit, dice)
                    load.start_soon(self._disturb, server, dice)
                    load.start_soon(self._visit_new_stores, server, dice)
                    load.start_soon(_read_slowly, server, dice, list(self.leaders))
                    load.start_soon(_pull_over_http, server, dice, list(self.leaders))
                    load.start_soon(self._sample, server, noted, minutes, say)
            await self._settle()
            nursery.cancel_scope.cancel()
        self.auditor.audit(server.database, self.leaders, live=True)
        await server.stop()

    def _start_clients(self, server: proc.ServerProcess, dice: random.Random, nursery: trio.Nursery) -> None:
        for number in range(self.stores):
            store = f"store-{number}"
            connect = to_store(lambda: server.port, store)
            self.leaders[store] = [
                Leader(connect, store, f"{store}-{index}", random.Random(dice.random()), string_ids=dice.random() < 0.7)
                for index in range(self.writers_per_store + self.readers_per_store)
            ]
            nursery.start_soon(self._old_client(server, store, random.Random(dice.random())).run)
        for number in range(self.idle):
            store = f"idle-{number}"
            self.leaders[store] = [
                Leader(to_store(lambda: server.port, store), store, store, random.Random(dice.random()))
            ]
        for leaders in self.leaders.values():
            for leader in leaders:
                nursery.start_soon(leader.run)

    def _old_client(self, server: proc.ServerProcess, store: str, dice: random.Random) -> OldClient:
        connect = to_store(lambda: server.port, store, v3=True)
        return OldClient(connect, f"{store}-old", dice, lambda: self.auditor.resets_asked[store])

    async def _commit(self, dice: random.Random) -> None:
        writers = [leader for number in range(self.stores) for leader in self._writers(f"store-{number}")]
        while True:
            await trio.sleep(dice.expovariate(len(writers) / self.pace_s))
            writer = dice.choice(writers)
            for _ in range(dice.choice([1] * 30 + [40])):
                writer.commit("x" * dice.choice([10] * 20 + [5_000]))

    def _writers(self, store: str) -> list[Leader]:
        return self.leaders[store][: self.writers_per_store]

    async def _disturb(self, server: proc.ServerProcess, dice: random.Random) -> None:
        """Applications are closed and opened again; now and then an operator resets a store."""
        everybody = [leader for leaders in self.leaders.values() for leader in leaders]
        while True:
            await trio.sleep(dice.expovariate(1.0))
            dice.choice(everybody).restart()
            if dice.random() < 0.01:
                store = f"store-{dice.randrange(self.stores)}"
                self.auditor.resets_asked[store] += 1
                await reset(server.port, store)

    async def _visit_new_stores(self, server: proc.ServerProcess, dice: random.Random) -> None:
        """Stores that are used once: they must leave memory."""
        number = 0
        while True:
            await trio.sleep(dice.expovariate(0.5))
            number += 1
            store = f"once-{number}"
            visitor = Leader(to_store(lambda: server.port, store), store, "visitor", random.Random(number))
            visitor.commit()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(visitor.run)
                await until(functools.partial(_is_settled, visitor), 20)
                nursery.cancel_scope.cancel()

    async def _sample(
        self, server: proc.ServerProcess, noted: Path, minutes: float, say: Callable[[str], None]
    ) -> None:
        start_s = trio.current_time()
        interval_s = max(1.0, minutes * 60 / 360)
        while True:
            async with connected(
                server.port, f"{target_of('s')}&payload={quote_plus(quote(json.dumps('statistics')))}"
            ):
                pass
            tasks = _tasks(noted)
            pid, events = server.pid, sum(len(leaders[0].log.numbers) for leaders in self.leaders.values())
            sample = Sample(
                round(trio.current_time() - start_s, 1),
                proc.memory_kib(pid),
                proc.descriptors(pid),
                proc.threads(pid),
                tasks,
                events,
            )
            self.samples.append(sample)
            say(json.dumps(attrs.asdict(sample)))
            await trio.sleep(interval_s)

    async def _settle(self) -> None:
        if await until(lambda: all(map(_together, self.leaders.values())), SETTLE_LIMIT_S):
            return
        apart = {
            leader.name: (len(leader.pending), leader.log.head)
            for leaders in self.leaders.values()
            if not _together(leaders)
            for leader in leaders
        }
        raise Violation(f"not converged: {apart}")

    def drawing(self, heading: str) -> str:
        """The samples as SVG."""
        return svg(
            heading,
            [sample.at_s / 60 for sample in self.samples],
            [
                Curve("memory (MiB)", [sample.memory_kib / 1024 for sample in self.samples]),
                Curve("open descriptors", [sample.descriptors for sample in self.samples]),
                Curve("threads", [sample.threads for sample in self.samples]),
                Curve("Trio tasks", [sample.tasks for sample in self.samples]),
                Curve("events in the logs of the busy stores", [sample.events for sample in self.samples]),
            ],
        )

    def check_flat(self) -> None:
        """The last third holds no more than the second, but for noise. Raises Violation."""
        third = len(self.samples) // 3
        for what, slack in (("memory_kib", 1.10), ("descriptors", 1.15), ("threads", 1.0), ("tasks", 1.15)):
            middle = statistics.median(getattr(sample, what) for sample in self.samples[third : 2 * third])
            last = statistics.median(getattr(sample, what) for sample in self.samples[2 * third :])
            if last > middle * slack + 2:
                raise Violation(f"{what} grows: {middle:g} in the second third, {last:g} in the last")


def _tasks(noted: Path) -> int:
    """What the hook wrote down last."""
    return int(json.loads(noted.read_text())["tasks"]) if noted.exists() else 0


def _is_settled(leader: Leader) -> bool:
    return leader.settled


def _together(leaders: list[Leader]) -> bool:
    first = leaders[0].log
    return all(
        leader.settled and leader.log.backend_id == first.backend_id and leader.log.head == first.head
        for leader in leaders
    )


async def _read_slowly(server: proc.ServerProcess, dice: random.Random, stores: list[str]) -> None:
    """Readers that take a little at a time and then vanish."""
    while True:
        stream = await open_stream(server.port)
        if stream is not None:
            async with stream:
                target = target_of(dice.choice(stores))
                line = f"GET {target} HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                await stream.send_all(
                    f"{line}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode()
                )
                for _ in range(30):
                    with trio.move_on_after(1):
                        if not await stream.receive_some(500):
                            break
                    await trio.sleep(0.3)
        await trio.sleep(1)


async def _pull_over_http(server: proc.ServerProcess, dice: random.Random, stores: list[str]) -> None:
    """Whole logs over HTTP, one after another."""
    while True:
        await trio.sleep(dice.expovariate(0.5))
        store = dice.choice(stores)
        body = json.dumps(
            {
                "_tag": "Request",
                "id": "1",
                "tag": "SyncHttpRpc.Pull",
                "payload": {"storeId": store, "cursor": {"_tag": "None"}},
                "headers": [],
            }
        ).encode()
        head = f"POST /?storeId={store}&transport=http HTTP/1.1\r\nHost: t\r\nConnection: close\r\n"
        stream = await open_stream(server.port)
        if stream is None:
            continue
        async with stream:
            await stream.send_all(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            size = 0
            while data := await stream.receive_some(65536):
                size += len(data)
            if size < 100:
                raise Violation(f"a pull over HTTP of {store} gave {size} bytes")
