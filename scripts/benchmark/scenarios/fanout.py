"""One client pushes single events, 200 others follow the store."""

import time
from collections.abc import Callable
from typing import Final

from scripts.benchmark.api_client import StreamFollower
from scripts.benchmark.clients import Follower, Pusher
from scripts.benchmark.measuring import Figures, Ground, window
from scripts.benchmark.scenarios.pushing import stop
from scripts.benchmark.scenarios.verifying import expect_log
from scripts.benchmark.sockets import Address, BenchError, Loop, Socket

AHEAD_PUSHES: Final = 16
"""How many pushes the deliveries may lag behind on average, so that no queue grows without bound. Apart from that the
pusher goes on when its push is acknowledged, as clients do."""

SAMPLED_EVERY: Final = 10
"""Every tenth follower measures the time from a push to its arrival."""


def fanout200(ground: Ground) -> Figures:
    """One pusher, 200 live subscribers."""
    return fanning_out(ground, 200)


Follow = Callable[[Address, str, Callable[[int], None] | None], Follower | StreamFollower]
"""Makes a follower of a store, which tells how many events it has."""


def fanning_out(ground: Ground, followers: int, follow: Follow = Follower, store_id: str = "fanout") -> Figures:
    """One pusher, any number of live subscribers of one kind."""
    loop = Loop()
    pusher = Pusher(ground.address, store_id, 1)
    pusher.may_go_on = False
    sent_s: list[float] = [0.0]
    latencies_s: list[float] = []

    def sampled(events: int) -> None:
        latencies_s.append(time.perf_counter() - sent_s[events])

    members = [
        follow(ground.address, store_id, None if number % SAMPLED_EVERY else sampled) for number in range(followers)
    ]
    everybody: list[Socket] = [pusher, *members]
    for each in everybody:
        loop.add(each)
    loop.run_for(0.5)  # until the live pulls are registered; a push to another state would be found as a lost event

    def push_on() -> None:
        if not pusher.waiting and delivered() >= (pusher.acknowledged - AHEAD_PUSHES) * followers:
            sent_s.append(time.perf_counter())
            pusher.push()

    def delivered() -> int:
        return sum([member.events for member in members])

    push_on()
    figures = window(ground, loop, "deliveries", delivered, [latencies_s], after_each=push_on)
    stop(loop, [pusher])
    loop.run_until(lambda: delivered() >= pusher.acknowledged * followers, "the last deliveries")
    loop.run_for(0.1)
    wrong = {member.events for member in members} - {pusher.acknowledged}
    if wrong:
        raise BenchError(f"{pusher.acknowledged} events were pushed, some subscribers have got {sorted(wrong)[:5]}")
    expect_log(ground, loop, store_id, pusher.acknowledged)
    for each in everybody:
        loop.drop(each)
    return figures
