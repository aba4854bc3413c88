"""What PostgreSQL and several servers cost: `scripts/bench --postgres`.

Brings a PostgreSQL of its own, as the tests do, or uses the one in LIVESYNC_TEST_DATABASE_URL. One load generator, in
this process, for one or two servers.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql
from scripts.benchmark.clients import Follower, Pusher
from scripts.benchmark.measuring import Figures, Ground, percentile_ms, window
from scripts.benchmark.scenarios.pushing import stop
from scripts.benchmark.servers import Running, ours
from scripts.benchmark.sockets import Loop
from tests.postgres.server import new_cluster

STORES: Final = (1, 20, 200)
"""Stores that push at the same time, batches of ten (issue 3)."""

BATCH_EVENTS: Final = 10
DELIVERIES: Final = 200
"""Events sent one after the other from one server to a client of another."""


def measure(say: Callable[[str], None], seconds: float) -> None:
    """Measure and print: throughput for 1, 20 and 200 stores with one server and with two, and delivery between two."""
    with database() as url, ExitStack() as running:
        servers = [running.enter_context(ours(arguments=("--database-url", url)).running()) for _ in range(2)]
        for count in (1, 2):
            for stores in STORES:
                figures = _throughput(servers[:count], stores, seconds)
                say(
                    f"{count} server(s), {stores:>3} store(s): {figures.rate:>8,.0f} events/s, "
                    f"p50 {figures.p50_ms or 0:.2f} ms, p99 {figures.p99_ms or 0:.1f} ms, "
                    f"server CPU {figures.server_cpu_us or 0:.1f} µs an event, load {figures.client_cpu:.2f}"
                )
        latencies_s = sorted(_deliveries(*servers))
        say(
            f"from a push to server A to a client of server B: p50 {percentile_ms(latencies_s, 0.5):.2f} ms, "
            f"p99 {percentile_ms(latencies_s, 0.99):.1f} ms"
        )


@contextmanager
def database() -> Iterator[str]:
    """The URL of a PostgreSQL that is durable: the one that is given, or one of our own."""
    given = os.environ.get("LIVESYNC_TEST_DATABASE_URL")
    if given:
        yield given
        return
    server = new_cluster("bench")
    server.start("fsync=on", "synchronous_commit=on", "full_page_writes=on")  # the tests do without some of it
    try:
        yield server.url()
    finally:
        server.stop()


def fresh_database(url: str) -> str:
    """The URL of a new, empty database on the same server."""
    name = f"bench_{time.time_ns()}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _throughput(servers: Sequence[Running], stores: int, seconds: float) -> Figures:
    loop = Loop()
    started = time.time_ns()  # stores of this run only
    pushers = [
        Pusher(servers[number % len(servers)].address, f"{started}-{number}", BATCH_EVENTS) for number in range(stores)
    ]
    for pusher in pushers:
        loop.add(pusher)
        pusher.push()
    ground = Ground(servers[0].address, [pid for server in servers for pid in server.pids], seconds)
    figures = window(
        ground,
        loop,
        "events",
        lambda: sum(pusher.acknowledged for pusher in pushers),
        [pusher.latencies_s for pusher in pushers],
    )
    stop(loop, pushers)
    for pusher in pushers:
        loop.drop(pusher)
    return figures


def _deliveries(sender: Running, receiver: Running) -> list[float]:
    """Seconds from sending a push to one server until a client of the other has its event."""
    loop, store_id = Loop(), f"{time.time_ns()}-news"
    latencies_s: list[float] = []
    pusher = Pusher(sender.address, store_id, 1)
    pusher.may_go_on = False
    sent_s = 0.0

    def arrived(_events: int) -> None:
        latencies_s.append(time.perf_counter() - sent_s)

    follower = Follower(receiver.address, store_id, arrived)
    loop.add(pusher)
    loop.add(follower)
    for number in range(1, DELIVERIES + 1):
        sent_s = time.perf_counter()
        pusher.push()
        loop.run_until(lambda: not pusher.waiting and follower.events >= number, "an event at the other server")  # noqa: B023
    loop.drop(pusher)
    loop.drop(follower)
    return latencies_s
