"""A storm: every client of a server loses its connection at one moment and comes back at once.

Twice: the server is killed and starts again; then it runs on, and all but a few lose their network, while those few go
on working. They do that in a process of their own (`python -m tests.torture.storm PORT`), so that what is
measured there is the server and not this process, which is busy with the crowd.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import trio

from tests.simulation.leader import Leader, Pace, Violation
from tests.simulation.waiting import until
from tests.torture import server as proc
from tests.torture.audit import Auditor
from tests.torture.crash import IMPATIENT
from tests.torture.network import PATIENCE_S, latencies, pull_request, settled
from tests.torture.server import ROOT, ServerProcess
from tests.torture.sockets import SocketLine, connected, target_of, to_store

OPENING_AT_ONCE = 400
"""Connections that this process opens at the same time; the kernel's queue of a listener has a few hundred places."""
STORES = 100
CALM_S = 3.0
REAL = Pace(reconnect_s=(0.8, 1.2))
"""As published clients: one that gave up after less than 10 s would be measured, not the server. They are of generation
next, which loses no live pull when it does."""


def raise_descriptors() -> int:
    """Allow as many descriptors as the system lets us; gives the number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _share(sorted_s: list[float], share: float) -> float:
    return sorted_s[min(len(sorted_s) - 1, int(len(sorted_s) * share))]


def _told(sorted_s: list[float]) -> str:
    return f"p50 {_share(sorted_s, 0.5):.3f} s, p99 {_share(sorted_s, 0.99):.3f} s, last {sorted_s[-1]:.3f} s"


async def storm(directory: Path, clients: int, dice: random.Random, say: Callable[[str], None]) -> None:
    """All are served again, nothing is lost, and who stayed goes on. Raises Violation."""
    allowed = raise_descriptors()
    if allowed < clients + 500:
        raise Violation(f"{clients} connections need more descriptors than the {allowed} that are allowed here")
    server = ServerProcess(directory, {"LIVESYNC_MAX_ADDRESS_CONNECTIONS": "0"})
    await server.start()
    empty_kib = proc.memory_kib(server.pid)
    crowd = _Crowd(server, dice)
    try:
        async with trio.open_nursery() as nursery:
            writer = Leader(to_store(lambda: server.port, "crowd-0"), "crowd-0", "writer", dice, pace=IMPATIENT)
            nursery.start_soon(writer.run)
            writer.commit()
            for number in range(clients):
                nursery.start_soon(crowd.member, number)
            await crowd.all_served(clients)
            memory_kib = proc.memory_kib(server.pid) - empty_kib
            await server.kill()
            crowd.served_s.clear()
            await server.start()
            listening_s, cpu_s = trio.current_time(), proc.cpu_s(server.pid)
            await crowd.all_served(clients)
            say(
                f"{clients} clients came back at once after kill -9; from the start's end to their pulls' answers:"
                f" {_told(crowd.waited_since(listening_s))}; {proc.cpu_s(server.pid) - cpu_s:.1f} s of the server's"
                f" processor time; {memory_kib / clients:.1f} KiB of its memory a client"
            )
            await _storm_beside_others(server, crowd, clients, say)
            again_kib = proc.memory_kib(server.pid) - empty_kib
            say(f"after both storms {again_kib / clients:.1f} KiB of server memory a client")
            writer.commit()
            await settled([writer])
            nursery.cancel_scope.cancel()
        Auditor().audit(server.database, {"crowd-0": [writer]}, live=True)
        await server.stop()
    finally:
        await server.end(signal.SIGKILL)
    if again_kib > 2 * memory_kib + 64 * 1024:
        raise Violation(f"{clients} clients took {memory_kib} KiB, after the storms {again_kib} KiB")


async def _storm_beside_others(server: ServerProcess, crowd: _Crowd, clients: int, say: Callable[[str], None]) -> None:
    others = _Others(server.port)
    async with trio.open_nursery() as nursery:
        await nursery.start(others.run)
        await trio.sleep(CALM_S)
        crowd.served_s.clear()
        calm = others.take()
        begin_s, cpu_s = trio.current_time(), proc.cpu_s(server.pid)
        crowd.lose_all()
        await crowd.all_served(clients)
        say(
            f"{clients} lost their network at once and came back: {_told(crowd.waited_since(begin_s))};"
            f" {proc.cpu_s(server.pid) - cpu_s:.1f} s of the server's processor time"
        )
        await others.next_one()  # which may have begun before
        during = others.take()
        nursery.cancel_scope.cancel()
    say(f"commits of those who stayed, to the other's pull: {_told(calm)} before, {_told(during)} meanwhile")
    if during[-1] > PATIENCE_S / 2:
        raise Violation(f"who stayed waited {during[-1]:.1f} s for a commit")


class _Crowd:
    """Clients that only pull, and come back at once when they are cut off."""

    def __init__(self, server: ServerProcess, dice: random.Random) -> None:
        self._server = server
        self._dice = dice
        self._opening = trio.Semaphore(OPENING_AT_ONCE)
        self._lines: dict[int, SocketLine] = {}
        self.served_s: dict[int, float] = {}
        """When each had the first answer of its present connection."""

    async def member(self, number: int) -> None:
        """One client, for ever."""
        store = f"crowd-{number % STORES}"
        while True:
            await self._opening.acquire()
            opening = True
            try:
                async with connected(self._server.port, target_of(store)) as line:
                    if isinstance(line, SocketLine):
                        self._lines[number] = line
                        line.put(pull_request(store))
                        while await line.get() is not None:
                            self.served_s.setdefault(number, trio.current_time())
                            if opening:
                                self._opening.release()
                                opening = False
            finally:
                self._lines.pop(number, None)
                if opening:
                    self._opening.release()
            await trio.sleep(self._dice.uniform(0.05, 0.5))

    def lose_all(self) -> None:
        """Everybody's network ends; the server learns it socket by socket."""
        for line in tuple(self._lines.values()):
            line.leave()

    async def all_served(self, clients: int) -> None:
        """Wait until everybody has an answer to the pull. Raises Violation."""
        if not await until(lambda: len(self.served_s) >= clients, PATIENCE_S + clients / 50):
            raise Violation(f"only {len(self.served_s)} of {clients} clients have been served")

    def waited_since(self, start_s: float) -> list[float]:
        """How long each waited, sorted."""
        return sorted(at_s - start_s for at_s in self.served_s.values())


# --- those who stay -------------------------------------------------------------------------------------------------


class _Others:
    """A writer and a reader at work in another process."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._taken: list[float] = []
        self._came = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Collect what they measure until cancelled; started when they are connected and at work."""
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "tests.torture.storm", str(self._port)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        said, started = b"", False
        try:
            async for data in process.stdout:
                *lines, said = (said + data).split(b"\n")
                self._taken += map(float, lines)
                self._came.set()
                if lines and not started:
                    task_status.started()
                    started = True
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                await process.stdout.aclose()

    async def next_one(self) -> None:
        """Wait for a commit to arrive. Raises Violation."""
        self._came = trio.Event()
        with trio.move_on_after(PATIENCE_S) as late:
            await self._came.wait()
        if late.cancelled_caught:
            raise Violation(f"no commit of those who stayed arrived for {PATIENCE_S:g} s")

    def take(self) -> list[float]:
        """How long commits took to the reader since it was asked last, sorted."""
        taken, self._taken = sorted(self._taken), []
        return taken


async def work_beside(port: int) -> None:
    """What the other process does: tell how long each commit took, but for the first, until it is ended."""
    dice = random.Random(port)
    writer, reader = (
        Leader(to_store(lambda: port, "others"), "others", f"{name}-{os.getpid()}", dice, string_ids=False, pace=REAL)
        for name in ("writer", "reader")
    )
    async with trio.open_nursery() as nursery:
        for leader in (writer, reader):
            nursery.start_soon(leader.run)
        await latencies(writer, reader, rounds=1)
        while True:
            for taken_s in await latencies(writer, reader, rounds=1):
                print(taken_s, flush=True)
            await trio.sleep(0.02)


if __name__ == "__main__":
    trio.run(work_beside, int(sys.argv[1]))
