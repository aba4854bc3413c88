"""What is asked of a server for the curves: the same thing again and again, while something grows.

Each function returns a row of figures for JSON; `scripts.benchmark.curves` says which sizes are asked for.
"""

import time
from collections.abc import Callable
from itertools import chain
from typing import Any, Final

from scripts.benchmark.clients import Puller, Pusher
from scripts.benchmark.http_client import HttpSower
from scripts.benchmark.measuring import Ground, percentile_ms, window
from scripts.benchmark.scenarios.fanout import fanning_out
from scripts.benchmark.scenarios.idle import PER_CONNECTION, Pings, affordable, idle, subscribe
from scripts.benchmark.scenarios.pushing import fill, stop
from scripts.benchmark.sockets import BenchError, Loop

PROBE_PUSHES: Final = 500
"""Single pushes whose latency and CPU time are measured at every size."""

SOWERS: Final = 50
"""Connections over which stores are made, each for many stores: HTTP names the store in every request."""

FOLLOWED_MAX: Final = 10_000
"""Actors that have a follower; a connection each, and descriptors are limited."""

BURST_STORES: Final = 5
BURST_EVERY_S: Final = 0.02
"""Where pauses are looked for: so many pushes so often, a load that leaves the server idle most of the time."""

Row = dict[str, Any]


def log_length(ground: Ground, *, longest: int) -> Row:
    """Push latency over log length: single pushes measured each time the log has doubled."""
    loop = Loop()
    pusher = Pusher(ground.address, "long", 100)
    loop.add(pusher)
    rows: list[Row] = []
    length = 1_000

    def long_enough() -> bool:
        return pusher.acknowledged >= length

    while True:
        pusher.may_go_on = True
        pusher.push()
        loop.run_until(long_enough, f"{length} events to be stored")
        stop(loop, [pusher])
        rows.append({"events": pusher.acknowledged} | _probe(ground, loop, "long", pusher.head))
        pusher.head += PROBE_PUSHES
        pusher.acknowledged += PROBE_PUSHES
        if length >= longest:
            return {"rows": rows}
        length = min(2 * length, longest)


def _probe(ground: Ground, loop: Loop, store_id: str, head: int) -> Row:
    """Single pushes, one after the other, to a store with this head."""
    probe = Pusher(ground.address, store_id, 1)
    probe.head = head
    loop.add(probe)
    server_s = ground.server_cpu_s()
    probe.push()
    loop.run_until(lambda: probe.acknowledged >= PROBE_PUSHES - 1, "single pushes")
    stop(loop, [probe])
    server_end_s = ground.server_cpu_s()
    loop.drop(probe)
    if probe.acknowledged != PROBE_PUSHES:
        raise BenchError(f"{probe.acknowledged} single pushes instead of {PROBE_PUSHES}")
    ordered = sorted(probe.latencies_s)
    cpu_us = None if server_s is None or server_end_s is None else (server_end_s - server_s) * 1e6 / PROBE_PUSHES
    return {"p50_ms": percentile_ms(ordered, 0.5), "p99_ms": percentile_ms(ordered, 0.99), "cpu_us": cpu_us}


def stores_known(ground: Ground, *, stores: int) -> Row:
    """Make a number of stores, one event in each; measured by `known` after the server has started again."""
    loop = Loop()
    names = iter([f"known-{number}" for number in range(stores)])
    sowers = [HttpSower(ground.address, names) for _ in range(min(SOWERS, stores))]
    for sower in sowers:
        loop.add(sower)
        sower.ask()
    loop.run_until(lambda: not any(sower.waiting for sower in sowers), f"{stores} stores to be made")
    for sower in sowers:
        loop.drop(sower)
    if sum(sower.answers for sower in sowers) != stores:
        raise BenchError(f"not all of {stores} stores were made")
    return {"stores": stores}


def known(ground: Ground, *, stores: int) -> Row:
    """Push latency of one store among so many known ones, opened for the first time since the start."""
    loop = Loop()
    opened_s = time.perf_counter()
    first = Pusher(ground.address, f"known-{stores // 2}", 1)
    first.head, first.may_go_on = 1, False
    loop.add(first)
    first.push()
    stop(loop, [first])
    first_ms = (time.perf_counter() - opened_s) * 1000
    loop.drop(first)
    return {
        "stores": stores,
        "first_push_ms": first_ms,
        "memory_kib": ground.memory_kib(),
    } | _probe(ground, loop, f"known-{stores // 2}", 2)


def subscribers(ground: Ground, *, followers: int) -> Row:
    """CPU time and rate of deliveries with a number of subscribers."""
    figures = fanning_out(ground, followers)
    return {
        "subscribers": followers,
        "deliveries_per_s": figures.rate,
        "cpu_us": figures.server_cpu_us,
        "p50_ms": figures.p50_ms,
        "p99_ms": figures.p99_ms,
    }


def connections(ground: Ground, *, number: int) -> Row:
    """Memory of a number of connections, each following a store of its own."""
    figures = idle(Ground(ground.address, ground.pids, ground.seconds, scale=number / 10_000))
    return {
        "connections": figures.more["connections"],
        "memory_kib": figures.memory_kib,
        PER_CONNECTION: figures.more[PER_CONNECTION],
        "opened_per_s": figures.rate,
        "ping_cpu_us": figures.server_cpu_us,
    }


def long_pull(ground: Ground, *, events: int) -> Row:
    """Memory of the server while one client pulls a very long log, and the latency of another who pushes meanwhile."""
    loop = Loop()
    fill(loop, ground.address, "long", events)
    other = Pusher(ground.address, "other", 1)
    loop.add(other)
    other.push()
    alone = window(ground, loop, "events", lambda: other.acknowledged, [other.latencies_s])
    other.latencies_s.clear()
    puller = Puller(ground.address, "long")
    loop.add(puller)
    start_s = time.perf_counter()
    samples: list[tuple[float, int, int]] = []

    def sample() -> None:
        now_s = time.perf_counter() - start_s
        if not samples or now_s - samples[-1][0] >= 0.1:
            samples.append((now_s, puller.events, ground.memory_kib() or 0))

    while not puller.done:
        loop.once(0.05)
        sample()
    length_s = time.perf_counter() - start_s
    beside = sorted(other.latencies_s)
    stop(loop, [other])
    if puller.events != events:
        raise BenchError(f"a pull of {events} events brought {puller.events}")
    return {
        "events": events,
        "events_per_s": events / length_s,
        "memory_kib_before": alone.memory_kib,
        "samples": [{"s": at_s, "events": got, "memory_kib": kib} for at_s, got, kib in samples],
        "p50_ms_alone": alone.p50_ms,
        "p99_ms_alone": alone.p99_ms,
        "p50_ms_beside": percentile_ms(beside, 0.5),
        "p99_ms_beside": percentile_ms(beside, 0.99),
    }


def pauses(ground: Ground, *, actors: int, seconds: int) -> Row:
    """Latency of steady pushes to a few stores beside many actors, whose garbage collection would pause everything.

    One connection can hold one store, so that actors beyond the number of connections are stores that were pushed to
    within the time after which a store leaves memory.
    """
    loop = Loop()
    followed = affordable(min(actors, FOLLOWED_MAX))
    if actors > followed:
        stores_known(ground, stores=actors - followed)
    members = subscribe(ground.address, loop, followed, "idle")
    busy = [Pusher(ground.address, f"busy-{number}", 1) for number in range(BURST_STORES)]
    pings = Pings(members)
    for pusher in busy:
        pusher.may_go_on = False
        loop.add(pusher)
    due_s = time.perf_counter()

    def push_due() -> None:
        nonlocal due_s
        pings.send_due()
        now_s = time.perf_counter()
        if now_s >= due_s:
            due_s = now_s + BURST_EVERY_S
            for pusher in busy:
                if not pusher.waiting:
                    pusher.push()

    loop.run_for(1.0, push_due)
    for pusher in busy:
        pusher.latencies_s.clear()
    loop.run_for(seconds, push_due)
    stop(loop, busy)
    ordered = sorted(chain.from_iterable(pusher.latencies_s for pusher in busy))
    return {
        "actors": actors,
        "pushes": len(ordered),
        "p50_ms": percentile_ms(ordered, 0.5),
        "p99_ms": percentile_ms(ordered, 0.99),
        "p999_ms": percentile_ms(ordered, 0.999),
        "max_ms": percentile_ms(ordered, 1.0),
        "memory_kib": ground.memory_kib(),
    }


CURVES: Final[dict[str, Callable[..., Row]]] = {
    "log_length": log_length,
    "stores_known": stores_known,
    "known": known,
    "subscribers": subscribers,
    "connections": connections,
    "long_pull": long_pull,
    "pauses": pauses,
}
