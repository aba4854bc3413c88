"""Several servers under random pushes, resets and kills; what clients saw is checked against what is stored.

The checker knows nothing of the server: it takes what pushers were answered, what followers were sent, and the tables.

    LIVESYNC_HISTORY_SEED=7 LIVESYNC_HISTORY_STEPS=5000 pytest tests/postgres/test_histories.py
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import psycopg
import pytest
import trio
import trio.lowlevel
from trio_websocket import ConnectionClosed, HandshakeError

from tests.conformance.servers import ServerProcess
from tests.postgres.peers import Follower, peer, reset
from tests.postgres.server import PostgresServer

SECRET: Final = "the operator's own"
STORES: Final = ("a", "b", "c")
RESET_STORE: Final = "c"
"""The logs of the others live through everything, so that nothing of them may be lost."""
CUT_EVERYBODY: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'livesync'"
PUSHERS_PER_STORE: Final = 3
STEPS: Final = int(os.environ.get("LIVESYNC_HISTORY_STEPS", "60"))
"""Pushes that each pusher tries."""
SEED: Final = int(os.environ.get("LIVESYNC_HISTORY_SEED", random.SystemRandom().randrange(2**32)))


@attrs.define
class Event:
    """As it is stored, or was pushed."""

    number: int
    parent: int
    text: str


@attrs.define
class History:
    """What clients were told."""

    acknowledged: dict[str, list[tuple[str | None, Event]]] = attrs.Factory(dict)
    """By store: the log the pusher named, None when it named none, and each event of a batch that was accepted."""
    followers: list[Follower] = attrs.Factory(list)
    problems: list[str] = attrs.Factory(list)


class Fleet:
    """Servers of one database, killed and started again at random."""

    def __init__(self, servers: list[ServerProcess], dice: random.Random) -> None:
        self.servers = servers
        self._dice = dice

    def any_url(self) -> str:
        return self._dice.choice(self.servers).url

    async def mistreat(self, database: PostgresServer) -> None:
        """For ever: kill a server, end the sessions of all, or restart the database."""
        while True:
            await trio.sleep(self._dice.uniform(0.3, 1.0))
            what = self._dice.choice(["restart", "cut", "cut", "kill"])
            if what == "restart":
                await trio.to_thread.run_sync(database.stop)
                await trio.sleep(self._dice.uniform(0, 0.5))
                await trio.to_thread.run_sync(database.start)
            elif what == "cut":
                await trio.to_thread.run_sync(database.run, CUT_EVERYBODY)
            else:
                server = self._dice.choice(self.servers)
                await trio.to_thread.run_sync(server.kill)
                await trio.to_thread.run_sync(server.start)


async def push_often(fleet: Fleet, history: History, store: str, name: str, dice: random.Random) -> None:
    """Push through any server, continuing what it last heard of; note what was acknowledged."""
    head, backend_id, tries = 0, None, 0
    while tries < STEPS:
        try:
            async with peer(fleet.any_url(), store) as client:
                for _ in range(dice.randint(1, 12)):
                    tries += 1
                    size = dice.randint(1, 3)
                    first = head + dice.randint(1, 4)  # gaps are legal, and let two heirs of one parent differ
                    numbers = [*range(first, first + size)]
                    text = f"{name} {tries}"
                    answer = await client.push(head, *numbers, text=text, backend_id=backend_id)
                    if answer.what == "accepted":
                        parents = (head, *numbers)
                        events = [Event(n, parent, text) for n, parent in zip(numbers, parents, strict=False)]
                        history.acknowledged.setdefault(store, []).extend((backend_id, event) for event in events)
                        head = numbers[-1]
                    elif answer.what == "ahead":
                        if answer.head == head and backend_id is not None:
                            history.problems.append(f"{name} was refused at e{head} by a head of e{answer.head}")
                        head = answer.head
                    elif answer.what == "error":
                        await trio.sleep(dice.uniform(0, 0.1))
                    if answer.what != "accepted" or backend_id is None or dice.random() < 0.1:
                        backend_id, head = await _look(client, head)
        except* (ConnectionClosed, HandshakeError, OSError):
            await trio.sleep(dice.uniform(0, 0.1))


async def _look(client: object, head: int) -> tuple[str | None, int]:
    """Pull, as a client does that was refused."""
    from tests.postgres.peers import Peer

    assert isinstance(client, Peer)
    events = await client.pull()
    return client.backend_id, events[-1]["seqNum"] if events else 0


async def reset_sometimes(fleet: Fleet, dice: random.Random) -> None:
    while True:
        await trio.sleep(dice.uniform(0.5, 2.0))
        try:
            await reset(fleet.any_url(), RESET_STORE, SECRET)
        except* (ConnectionClosed, HandshakeError, OSError, trio.TooSlowError):
            pass


def stored_logs(url: str) -> dict[str, tuple[str, str, list[Event]]]:
    """By identity, current logs and those replaced: store, text of its state, events."""
    logs = {}
    with psycopg.connect(url) as connection:
        states = connection.execute(
            "SELECT log_id, convert_from(store_id, 'UTF8'), backend_id, head, event_count FROM livesync_7_stores"
        ).fetchall()
        for log_id, store, backend_id, head, event_count in states:
            rows = connection.execute(
                "SELECT seq_num, parent_seq_num, ordinal, event::json->>'args' FROM livesync_7_events "
                "WHERE log_id = %s ORDER BY seq_num",
                (log_id,),
            ).fetchall()
            assert [ordinal for _, _, ordinal, _ in rows] == list(range(1, event_count + 1))
            assert (rows[-1][0] if rows else 0) == head
            logs[backend_id] = (store, backend_id, [Event(number, parent, text) for number, parent, _, text in rows])
    return logs


def check(history: History, logs: dict[str, tuple[str, str, list[Event]]]) -> None:
    """The promise: an acknowledged event is durable, delivered once, in order, to every client of its store."""
    assert history.problems == []
    for store, _, events in logs.values():
        parents = [event.parent for event in events]
        assert parents == [0, *(event.number for event in events)][: len(events)], f"{store} has a hole"
        assert len(set(parents)) == len(parents), f"{store} has two winners for one parent"
    for store, acknowledged in history.acknowledged.items():
        for backend_id, event in acknowledged:
            if backend_id in logs:  # a log that was reset since may lose everything
                assert event in logs[backend_id][2], f"{event} was acknowledged in {store} and is lost"
    for follower in history.followers:
        assert follower.problems == [], follower.store
        for backend_id, numbers in follower.logs.items():
            assert numbers == sorted(set(numbers))
            if backend_id in logs:
                assert numbers == [event.number for event in logs[backend_id][2]], follower.store


@pytest.fixture
def servers(private_server: PostgresServer, database: str, tmp_path: Path, count: int) -> Iterator[list[ServerProcess]]:
    started = []
    for i in range(count):
        (tmp_path / str(i)).mkdir()
        server = ServerProcess(tmp_path / str(i), private_server.url(database=database), {"ADMIN_SECRET": SECRET})
        server.start()
        started.append(server)
    yield started
    for server in started:
        server.stop_if_ours()


@pytest.mark.parametrize("count", [2, 3])
async def test_random_histories(
    private_server: PostgresServer, database: str, servers: list[ServerProcess], count: int
) -> None:
    print(f"LIVESYNC_HISTORY_SEED={SEED}")
    dice = random.Random(f"{SEED} {count}")
    fleet, history = Fleet(servers, dice), History()
    async with trio.open_nursery() as forever:
        for store in STORES:
            for server in servers:
                follower = Follower(store)
                history.followers.append(follower)
                forever.start_soon(follower.run, server.url)
        async with trio.open_nursery() as troubled:
            troubled.start_soon(fleet.mistreat, private_server)
            troubled.start_soon(reset_sometimes, fleet, dice)
            async with trio.open_nursery() as pushers:
                for store in STORES:
                    for i in range(PUSHERS_PER_STORE):
                        name = f"{store}{i}"
                        pushers.start_soon(
                            push_often, fleet, history, store, name, random.Random(f"{SEED} {count} {name}")
                        )
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            troubled.cancel_scope.cancel()
        for server in servers:
            if server._process is None:
                await trio.to_thread.run_sync(server.start)
        logs = await trio.to_thread.run_sync(stored_logs, private_server.url(database=database))
        heads = {store: (backend_id, events[-1].number if events else 0) for store, backend_id, events in logs.values()}
        for follower in history.followers:
            await follower.stands_at(*heads[follower.store])
        forever.cancel_scope.cancel()
    assert sum(map(len, history.acknowledged.values())) > STEPS
    check(history, logs)
