"""A healthy client whose every ping is timed, and the memory of a server process."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.bad_input.clients import RpcClient

KIB = 1024


def memory_bytes(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * KIB
    raise AssertionError("no such process")


class Patient:
    """A healthy client that pings and pushes as long as it is let."""

    def __init__(self, client: RpcClient, pause_s: float = 0.01) -> None:
        self._client = client
        self._pause_s = pause_s
        self.times_s: list[float] = []
        self._answered = trio.lowlevel.ParkingLot()

    async def live(self) -> None:
        """Pull, so that it is not taken for an orphan (SPEC 3.6), then ping until cancelled; any trouble is raised."""
        await self._client.pull()
        while True:
            start_s = trio.current_time()
            await self._client.send({"_tag": "Ping"})
            assert await self._client.receive() == {"_tag": "Pong"}
            self.times_s.append(trio.current_time() - start_s)
            self._answered.unpark_all()
            await trio.sleep(self._pause_s)

    async def p99_s(self) -> float:
        """The 99th percentile of what was measured since the last time; an attack may be over before the next ping."""
        while not self.times_s:
            await self._answered.park()
        times_s, self.times_s = sorted(self.times_s), []
        return times_s[int(len(times_s) * 0.99)]
