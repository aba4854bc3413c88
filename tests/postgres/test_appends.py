"""Programs append under the same ids at the same time through two server processes, whatever gets killed meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import trio

from tests.conformance.servers import ServerProcess
from tests.postgres.peers import PATIENCE_S
from tests.postgres.server import PostgresServer

PROGRAMS = 4
EVENTS = 30
"""Each program sends all of them, the ids in the same order, so that they meet."""
BATCH = 3
OVERLAP = 1
"""Events of a batch that the next one has as well."""


@pytest.fixture(scope="module")
def two(private_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ServerProcess]]:
    private_server.run("CREATE DATABASE appends")
    url = private_server.url(database="appends")
    servers = [ServerProcess(tmp_path_factory.mktemp("server"), url, {"LIVESYNC_API": "true"}) for _ in range(2)]
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.stop_if_ours()


class Program:
    """Sends all events, each batch again and again, to one server or the other, until it is told their numbers."""

    def __init__(self, name: str, store: str, servers: list[ServerProcess]) -> None:
        self.name = name
        self._store = store
        self._servers = servers
        self.told: dict[str, int] = {}
        self.unanswered = 0

    async def run(self) -> None:
        async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False) as http:
            for first in range(0, EVENTS, BATCH - OVERLAP):
                ids = [f"event {number}" for number in range(first, min(first + BATCH, EVENTS))]
                while not await self._send(http, ids):
                    self.unanswered += 1
                    self._servers = self._servers[::-1]  # the other one may be there
                    await trio.sleep(0.05)

    async def _send(self, http: httpx.AsyncClient, ids: list[str]) -> bool:
        body = {"events": [{"type": "n", "id": each, "data": {"by": self.name}} for each in ids]}
        try:
            answer = await http.post(f"{self._servers[0].url}/v1/stores/{self._store}/events", json=body)
        except httpx.TransportError:
            return False
        if answer.status_code >= 500:
            return False
        assert answer.status_code in (200, 201), answer.text
        for event in answer.json()["events"]:
            assert self.told.setdefault(event["id"], event["seqNum"]) == event["seqNum"]
        return True


async def log_of(store: str, server: ServerProcess) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False) as http:
        url = f"{server.url}/v1/stores/{store}/events"
        while (answer := await http.get(url, params={"limit": 1000})).status_code == 503:  # noqa: ASYNC110
            await trio.sleep(0.05)  # its sessions with the database ended
    assert answer.status_code == 200, answer.text
    events: list[dict[str, Any]] = answer.json()["events"]
    return events


async def check(store: str, servers: list[ServerProcess], programs: list[Program]) -> None:
    """One log, every id once, under the number that everybody was told, the batches of each in their order."""
    logs = [await log_of(store, server) for server in servers]
    assert logs[0] == logs[1]
    assert [event["seqNum"] for event in logs[0]] == list(range(1, EVENTS + 1))
    numbers = {event["id"]: event["seqNum"] for event in logs[0]}
    assert numbers == {f"event {number}": number + 1 for number in range(EVENTS)}
    assert all(program.told == numbers for program in programs)
    again = Program("again", store, servers)
    await again.run()
    assert again.told == numbers
    assert await log_of(store, servers[0]) == logs[0]


async def test_an_id_is_one_event_although_two_servers_are_sent_it_at_once(two: list[ServerProcess]) -> None:
    programs = [Program(f"p{number}", "calm", two if number % 2 else two[::-1]) for number in range(PROGRAMS)]
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for program in programs:
                nursery.start_soon(program.run)
        await check("calm", two, programs)
    assert sum(program.unanswered for program in programs) == 0


async def test_an_id_is_one_event_whatever_is_killed(two: list[ServerProcess], private_server: PostgresServer) -> None:
    """Once one of the servers, then the other, and PostgreSQL's processes, in the middle of the sending."""
    programs = [Program(f"p{number}", "killed", two if number % 2 else two[::-1]) for number in range(PROGRAMS)]

    async def reached(events: int) -> None:
        while max(len(program.told) for program in programs) < events:  # noqa: ASYNC110 - other processes decide
            await trio.sleep(0.005)

    with trio.fail_after(2 * PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for program in programs:
                nursery.start_soon(program.run)
            await reached(3)
            await trio.to_thread.run_sync(two[0].kill)
            await reached(9)
            await trio.to_thread.run_sync(two[0].start)
            await trio.to_thread.run_sync(two[1].kill)
            await reached(15)
            await trio.to_thread.run_sync(two[1].start)
            for process in await trio.to_thread.run_sync(private_server.backends):
                with suppress(ProcessLookupError):  # the first one's death ends the others
                    os.kill(process, signal.SIGKILL)
        await check("killed", two, programs)
    assert sum(program.unanswered for program in programs) > 0
