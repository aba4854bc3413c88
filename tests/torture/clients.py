"""Unmodified LiveStore sync clients (`tests/clients`) at work while the server is killed and restarted under them.

Each client pushes its own events as LiveStore's leader does: on top of what its live pull brought, again after a
failure, behind the others after `ServerAheadError`; and goes on until the last restart is over. Nobody helps: at the
end every live pull of 0.4 must hold the whole log. On SQLite there is one server, on PostgreSQL there are two.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from tests.conformance.clients import Follower, Generation, SyncClient
from tests.conformance.events import event
from tests.conformance.node_driver import ClientError, NodeDriver
from tests.conformance.servers import ServerProcess
from tests.simulation.leader import Violation
from tests.torture.audit import read_logs, read_postgres_logs

CONVERGED_LIMIT_S = 300.0
"""From the end of the last restart on. A client that lost its live pull needs a minute to be woken (SPEC 3.6)."""
PUSH_LIMIT_S = 60.0
RETRY_S = 0.5
EVENTS_AT_LEAST = 4
PACE_S = 1.0
"""Mean pause of a user between two events."""


@attrs.define(eq=False)
class Member:
    """One client with its live pull and what it has to say."""

    name: str
    store: str
    client: SyncClient
    follower: Follower
    pushed: list[str] = attrs.Factory(list)

    @property
    def contents(self) -> list[str]:
        return [str(each.args) for each in self.follower.events]

    def work(self, dice: random.Random, over: threading.Event) -> None:
        """Push event after event, each until it was acknowledged or came back, while the server is mistreated."""
        while len(self.pushed) < EVENTS_AT_LEAST or not over.is_set():
            self._push(f"{self.name}:{len(self.pushed)}", over)
            over.wait(dice.uniform(0, 2 * PACE_S))

    def _push(self, content: str, over: threading.Event) -> None:
        deadline_s = math.inf
        while time.monotonic() < deadline_s:
            if over.is_set() and deadline_s == math.inf:
                deadline_s = time.monotonic() + CONVERGED_LIMIT_S
            seen = self.follower.events
            if any(each.args == f'"{content}"' for each in seen):
                break  # its acknowledgement was lost
            head = seen[-1].seq_num if seen else 0
            try:
                self.client.push([event(head + 1, head, args=content, clientId=self.name)], timeout_s=PUSH_LIMIT_S)
                break
            except ClientError as failure:
                if failure.tag not in ("ServerAheadError", "UnknownError", "IsOfflineError"):
                    raise
            except TimeoutError:
                continue
            self._wait_for_more(len(seen))
        else:
            raise Violation(f"{self.name} could not push {content} within {CONVERGED_LIMIT_S:g} s")
        self.pushed.append(content)

    def _wait_for_more(self, than: int) -> None:
        """The leader pushes again when its pull has brought something, or after a while."""
        try:
            self.follower.wait(lambda follower: len(follower.events) > than, "news", RETRY_S)
        except AssertionError:
            return


def real_clients(
    directory: Path,
    count: int,
    restarts: int,
    dice: random.Random,
    say: Callable[[str], None],
    *,
    per_process: int = 50,
    postgres: str | None = None,
) -> None:
    """So many clients of 0.4 in a few Node processes, and one of 0.3 for each store. Raises Violation.

    `postgres`: URL of a database for two servers; without it one server works on an SQLite file.
    """
    servers = _servers(directory, postgres)
    drivers = [NodeDriver("v0.4", directory / f"node-{index}.log") for index in range(-(-count // per_process))]
    old_driver = NodeDriver("v0.3", directory / "node-old.log")
    stores = [f"real-{index}" for index in range(max(2, count // 10))]
    try:
        members = [
            _join(drivers[index // per_process], servers[index % len(servers)].url, stores[index % len(stores)], index)
            for index in range(count)
        ]
        old = {store: _join_old(old_driver, servers[0].url, store) for store in stores}
        _work(members, servers, restarts, dice)
        _converge(members)
        found = read_logs(directory / "live.db", live=True) if postgres is None else read_postgres_logs(postgres)
        logs = {store: found[store].contents for store in stores}
        _check(members, logs)
        _check_old(old, old_driver, servers[-1].url, logs)
    finally:
        for driver in (*drivers, old_driver):
            driver.close()
        for server in servers:
            server.stop_if_ours()
    say(
        f"{count} real 0.4 clients in {len(drivers)} processes and {len(stores)} of 0.3 on {len(servers)} servers met"
        f" {restarts} restarts; {sum(len(member.pushed) for member in members)} events, all converged"
    )


def _servers(directory: Path, postgres: str | None) -> list[ServerProcess]:
    urls = [f"sqlite:///{directory}/live.db"] if postgres is None else [postgres, postgres]
    servers: list[ServerProcess] = []
    for index, url in enumerate(urls):
        place = directory / f"server-{index}"
        place.mkdir()
        servers.append(ServerProcess(place, url))
        servers[-1].start()
    return servers


def _work(members: list[Member], servers: list[ServerProcess], restarts: int, dice: random.Random) -> None:
    """Let everybody work while servers end and come back."""
    over = threading.Event()
    with ThreadPoolExecutor(max_workers=len(members) + 1) as pool:
        mistreating = pool.submit(_restart, servers, restarts, dice, over)
        own = [random.Random(dice.random()) for _ in members]
        work = [pool.submit(member.work, each, over) for member, each in zip(members, own, strict=True)]
        for future in (mistreating, *work):
            future.result()


def _join(driver: NodeDriver, url: str, store: str, index: int) -> Member:
    client = SyncClient(driver, Generation.V04_WS, url, store)
    return Member(f"m{index}", store, client, client.follow(resume=True))


def _join_old(driver: NodeDriver, url: str, store: str) -> Follower:
    follower = SyncClient(driver, Generation.V03_WS, url, store).follow()
    follower.wait_for_first_page()
    return follower


def _restart(servers: list[ServerProcess], restarts: int, dice: random.Random, over: threading.Event) -> None:
    try:
        for _ in range(restarts):
            time.sleep(dice.uniform(1.0, 4.0))  # the time between two misfortunes
            server = dice.choice(servers)
            (server.kill if dice.random() < 0.7 else server.stop)()
            time.sleep(dice.uniform(0, 1.0))
            server.start()
    finally:
        over.set()


def _converge(members: list[Member]) -> None:
    deadline_s = time.monotonic() + CONVERGED_LIMIT_S
    for member in members:
        wanted = sum(len(other.pushed) for other in members if other.store == member.store)
        member.follower.wait(
            lambda follower, wanted=wanted: len(follower.events) >= wanted,  # type: ignore[misc]
            f"{wanted} events at {member.name}",
            max(1.0, deadline_s - time.monotonic()),
        )


def _check(members: list[Member], logs: dict[str, list[str]]) -> None:
    for member in members:
        if member.contents != [f'"{content}"' for content in logs[member.store]]:
            raise Violation(
                f"{member.name} has {len(member.contents)} events, the log {len(logs[member.store])}, or others"
            )
        if member.follower.end is not None:
            raise Violation(f"the live pull of {member.name} ended: {member.follower.end}")
    for store, contents in logs.items():
        pushed = sorted(content for member in members if member.store == store for content in member.pushed)
        if pushed != sorted(contents):
            raise Violation(f"store {store} holds something else than what was pushed")


def _check_old(old: dict[str, Follower], driver: NodeDriver, url: str, logs: dict[str, list[str]]) -> None:
    """A 0.3 client that was connected misses what passed meanwhile, but nothing twice or out of order; a new one has
    all."""
    for store, follower in old.items():
        numbers = follower.numbers
        if numbers != sorted(set(numbers)):
            raise Violation(f"0.3 on {store} was sent {numbers}")
        fresh = SyncClient(driver, Generation.V03_WS, url, store)
        if [each.args for page in fresh.pull() for each in page.events] != [f'"{content}"' for content in logs[store]]:
            raise Violation(f"a new 0.3 client on {store} has another log")
