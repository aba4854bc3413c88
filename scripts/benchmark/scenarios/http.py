"""The HTTP transport: one client pushes single events, others poll for them."""

from typing import Final

from scripts.benchmark.http_client import HttpClient, HttpPoller, HttpPusher
from scripts.benchmark.measuring import Figures, Ground, window
from scripts.benchmark.scenarios.verifying import expect_log
from scripts.benchmark.sockets import BenchError, Loop

POLLERS: Final = 3
"""Clients that ask for news as fast as they are answered; real ones ask every 5 s (SPEC 3.7)."""


def http(ground: Ground) -> Figures:
    """One pusher and three pollers of one store, each on a connection that is kept alive."""
    loop = Loop()
    pusher = HttpPusher(ground.address, "http")
    pollers = [HttpPoller(ground.address, "http") for _ in range(POLLERS)]
    clients: list[HttpClient] = [pusher, *pollers]
    for client in clients:
        loop.add(client)
        client.ask()
    figures = window(
        ground,
        loop,
        "requests",
        lambda: sum(client.answers for client in clients),
        [client.latencies_s for client in clients],
    )
    pusher.may_go_on = False
    loop.run_until(lambda: not pusher.waiting, "the last push")
    loop.run_until(lambda: all(poller.head >= pusher.head for poller in pollers), "the last polls")
    for poller in pollers:
        poller.may_go_on = False
    loop.run_until(lambda: not any(client.waiting for client in clients), "the last answers")
    wrong = {poller.events for poller in pollers} - {pusher.head}
    if wrong:
        raise BenchError(f"{pusher.head} events were pushed, some pollers have got {sorted(wrong)}")
    expect_log(ground, loop, "http", pusher.head)
    figures.more["pushes_share"] = pusher.answers / max(1, sum(client.answers for client in clients))
    return figures
