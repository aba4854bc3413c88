"""Unmodified LiveStore sync clients (`tests/clients`) at work while the server is killed and restarted under them.

Each client pushes its own events as LiveStore's leader does: on top of what its live pull brought, again after a
failure, behind the others after `ServerAheadError`. Nobody helps: at the end every live pull of 0.4 must hold the
whole log.
"""

from __future__ import annotations

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
from tests.torture.audit import read_logs

CONVERGED_LIMIT_S = 180.0
PUSH_LIMIT_S = 60.0
RETRY_S = 0.5


@attrs.define(eq=False)
class Member:
    """One client with its live pull and what it has to say."""

    name: str
    store: str
    client: SyncClient
    follower: Follower
    to_push: int
    pushed: list[str] = attrs.Factory(list)

    @property
    def contents(self) -> list[str]:
        return [str(each.args) for each in self.follower.events]

    def push_all(self, dice: random.Random) -> None:
        """Push every own event, until each was acknowledged or came back."""
        for number in range(self.to_push):
            self._push(f"{self.name}:{number}")
            time.sleep(dice.uniform(0, 1.0))  # a user's pace, not a wait for something

    def _push(self, content: str) -> None:
        deadline_s = time.monotonic() + CONVERGED_LIMIT_S
        while time.monotonic() < deadline_s:
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
) -> None:
    """So many clients of 0.4 in a few Node processes, and one of 0.3 for each store. Raises Violation."""
    server = ServerProcess(directory, f"sqlite:///{directory}/live.db")
    server.start()
    drivers = [NodeDriver("v0.4", directory / f"node-{index}.log") for index in range(-(-count // per_process))]
    old_driver = NodeDriver("v0.3", directory / "node-old.log")
    stores = [f"real-{index}" for index in range(max(2, count // 10))]
    try:
        members = [
            _join(drivers[index // per_process], server.url, stores[index % len(stores)], index)
            for index in range(count)
        ]
        old = {store: _join_old(old_driver, server.url, store) for store in stores}
        with ThreadPoolExecutor(max_workers=count) as pool:
            own = [random.Random(dice.random()) for _ in members]
            work = [pool.submit(member.push_all, each) for member, each in zip(members, own, strict=True)]
            killer = threading.Thread(target=_restart, args=(server, restarts, dice))
            killer.start()
            for future in work:
                future.result()
            killer.join()
        _converge(members)
        logs = read_logs(directory / "live.db")
        _check(members, {store: logs[store].contents for store in stores})
        _check_old(old, old_driver, server.url, {store: logs[store].contents for store in stores})
    finally:
        for driver in (*drivers, old_driver):
            driver.close()
        server.stop_if_ours()
    say(
        f"{count} real 0.4 clients in {len(drivers)} processes and {len(stores)} of 0.3 met {restarts} restarts;"
        f" {sum(len(member.pushed) for member in members)} events, all converged"
    )


def _join(driver: NodeDriver, url: str, store: str, index: int) -> Member:
    client = SyncClient(driver, Generation.V04_WS, url, store)
    return Member(f"m{index}", store, client, client.follow(resume=True), to_push=4)


def _join_old(driver: NodeDriver, url: str, store: str) -> Follower:
    follower = SyncClient(driver, Generation.V03_WS, url, store).follow()
    follower.wait_for_first_page()
    return follower


def _restart(server: ServerProcess, restarts: int, dice: random.Random) -> None:
    for _ in range(restarts):
        time.sleep(dice.uniform(1.0, 4.0))  # the time between two misfortunes
        (server.kill if dice.random() < 0.7 else server.stop)()
        time.sleep(dice.uniform(0, 1.0))
        server.start()


def _converge(members: list[Member]) -> None:
    deadline_s = time.monotonic() + CONVERGED_LIMIT_S
    for member in members:
        wanted = sum(other.to_push for other in members if other.store == member.store)
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
