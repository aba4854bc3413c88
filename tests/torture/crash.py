"""Kills a real server with -9 at random points while clients work on it; the auditor looks at the file after each.

Clients live on through the server's lives, as real ones do. Points: under load, while starting (with a new file:
while its tables are made), during a reset, during shutdown, after its WAL was removed under it.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import attrs
import trio

from livesync_trio.storage.sqlite.side_files import holds_more_than
from tests.simulation.leader import Leader, Pace, Violation
from tests.simulation.old_client import OldClient
from tests.simulation.waiting import until
from tests.torture.admin import reset
from tests.torture.audit import Auditor
from tests.torture.server import ServerProcess
from tests.torture.sockets import to_store

LIVES_A_FILE = 20
CONVERGED_LIMIT_S = 120.0
IMPATIENT = Pace(reconnect_s=(0.02, 0.1), retry_first_s=0.05, retry_max_s=0.5, ping_s=3.0)
POINTS = ("load",) * 12 + ("start",) * 4 + ("reset",) * 3 + ("shutdown",) * 2 + ("wal",) * 2


@attrs.define
class Crashes:
    """Who works on the server, and what has been done to it."""

    writers: int = 50
    readers: int = 20
    stores: int = 5
    commits_per_s: float = 150.0
    points: Counter[str] = attrs.Factory(Counter)
    acknowledged: int = 0
    events: int = 0

    async def run(self, directory: Path, kills: int, dice: random.Random, say: Callable[[str], None]) -> None:
        """Kill so often. Raises Violation."""
        done = 0
        while done < kills:
            lives = min(LIVES_A_FILE, kills - done)
            place = directory / f"from-{done}"
            place.mkdir()
            await self._one_file(place, lives, dice)
            done += lives
            say(f"{done} kills {dict(self.points)}, {self.acknowledged} acknowledged pushes, {self.events} events")

    async def _one_file(self, directory: Path, lives: int, dice: random.Random) -> None:
        server = ServerProcess(directory)
        auditor = Auditor()
        clients = self._clients(server, dice)
        everybody = [leader for leaders in clients.values() for leader in leaders]
        writers = dice.sample(everybody, self.writers)
        try:
            async with trio.open_nursery() as nursery:
                for leader in everybody:
                    nursery.start_soon(leader.run)
                for store in clients:
                    nursery.start_soon(self._old_client(server, auditor, store, dice).run)
                with trio.CancelScope() as work:
                    async with trio.open_nursery() as working:
                        working.start_soon(self._commit, writers, dice)
                        for life in range(lives):
                            await self._one_life(server, auditor, list(clients), dice, first=life == 0)
                            auditor.audit(server.database, clients)
                        work.cancel()
                await server.start()
                await _converge(clients)
                nursery.cancel_scope.cancel()
            logs = auditor.audit(server.database, clients, live=True)
            await server.stop()
        finally:
            await server.end(signal.SIGKILL)
        _check_complete(clients, {store: log.contents for store, log in logs.items()})
        self.acknowledged += auditor.acknowledgements
        self.events += sum(len(log.numbers) for log in logs.values())

    def _clients(self, server: ServerProcess, dice: random.Random) -> dict[str, list[Leader]]:
        clients: dict[str, list[Leader]] = {f"store-{number}": [] for number in range(self.stores)}
        for number in range(self.writers + self.readers):
            store = f"store-{number % self.stores}"
            name, own = f"client-{number}", random.Random(dice.random())
            connect = to_store(lambda: server.port, store)
            leader = Leader(connect, store, name, own, string_ids=own.random() < 0.7, pace=IMPATIENT)
            clients[store].append(leader)
        return clients

    def _old_client(self, server: ServerProcess, auditor: Auditor, store: str, dice: random.Random) -> OldClient:
        connect = to_store(lambda: server.port, store, v3=True)
        return OldClient(connect, f"{store}-old", dice, lambda: auditor.resets_asked[store])

    async def _commit(self, writers: list[Leader], dice: random.Random) -> None:
        while True:
            await trio.sleep(dice.expovariate(self.commits_per_s))
            writer = dice.choice(writers)
            if len(writer.pending) < 100:
                writer.commit("x" * dice.choice([0] * 20 + [3_000]))

    async def _one_life(
        self, server: ServerProcess, auditor: Auditor, stores: list[str], dice: random.Random, *, first: bool
    ) -> None:
        point = "start" if first and dice.random() < 0.5 else dice.choice(POINTS)
        self.points[point] += 1
        if point == "start":
            await server.launch()
            await trio.sleep(dice.uniform(0.2, 1.0))
            await server.kill()
            return
        await server.start()
        await trio.sleep(dice.uniform(0, 0.6))
        async with trio.open_nursery() as nursery:
            if point == "reset":
                store = dice.choice(stores)
                auditor.resets_asked[store] += 1
                nursery.start_soon(reset, server.port, store)
                await trio.sleep(dice.uniform(0, 0.03))
            elif point == "shutdown":
                assert server.process is not None
                server.process.terminate()
                await trio.sleep(dice.uniform(0, 0.15))
            elif point == "wal":
                remove_wal(server.database)
                await trio.sleep(dice.choice([0, dice.uniform(0, 0.5)]))
            await server.kill()
            nursery.cancel_scope.cancel()
        if point == "wal":
            put_wal_back(server.database)


def remove_wal(database: Path) -> None:
    """What an operator does who takes the files beside the database for rubbish."""
    for path in database.parent.glob(f"{database.name}-*"):
        path.unlink(missing_ok=True)


def put_wal_back(database: Path) -> None:
    """What the server asks for when it starts after it was killed before it could do so itself."""
    spare = database.with_name(f".{database.name}-wal")
    if spare.exists() and holds_more_than(spare, database):
        spare.replace(database.with_name(f"{database.name}-wal"))


async def _converge(clients: dict[str, list[Leader]]) -> None:
    if await until(lambda: all(_together(leaders) for leaders in clients.values()), CONVERGED_LIMIT_S):
        return
    apart = [
        (leader.name, len(leader.pending), leader.log.head, leader.log.backend_id)
        for leaders in clients.values()
        if not _together(leaders)
        for leader in leaders
    ]
    raise Violation(f"not converged: {apart}")


def _together(leaders: list[Leader]) -> bool:
    first = leaders[0].log
    return first.backend_id is not None and all(
        leader.settled and (leader.log.backend_id, leader.log.head) == (first.backend_id, first.head)
        for leader in leaders
    )


def _check_complete(clients: dict[str, list[Leader]], contents: dict[str, list[str]]) -> None:
    """After convergence, everybody has what is in the file."""
    for store, leaders in clients.items():
        for leader in leaders:
            if leader.log.contents != contents.get(store, []):
                raise Violation(f"{leader.name} has {len(leader.log.contents)} events, the file {len(contents[store])}")
