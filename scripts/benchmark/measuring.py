"""A window of time in which things are counted: units, latencies, CPU of the server and of the load generator."""

import math
import os
import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final

import attrs
from scripts.benchmark import processes
from scripts.benchmark.sockets import Address, Loop

BUSY_SHARE: Final = 0.9
"""Of a core: a load generator that used more may have been the bottleneck, and the table says so."""


@attrs.define
class Figures:
    """What one run of one scenario against one server gave.

    Attributes:
        unit: what is counted.
        rate: units per second.
        p50_ms: half of the latencies are below; None where no latency is measured.
        p99_ms: 99 of 100 latencies are below.
        server_cpu_us: CPU time of the server per unit; None when its process is not on this machine.
        client_cpu: CPU time of the load generator per second of the window, 1 is a whole core.
        memory_kib: memory of the server at the end of the window.
        more: what only this scenario has.
    """

    unit: str
    rate: float
    p50_ms: float | None
    p99_ms: float | None
    server_cpu_us: float | None
    client_cpu: float
    memory_kib: int | None
    more: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Ground:
    """Where a scenario takes place.

    Attributes:
        address: the server.
        pids: its processes, empty when they are not to be seen.
        seconds: length of the window.
        warm_up_s: what goes before it.
        scale: 1 for the sizes of the issue, less for a quick look.
        most_stores: how many stores the server can keep open here.
    """

    address: Address
    pids: list[int]
    seconds: float
    warm_up_s: float = 0.5
    scale: float = 1.0
    most_stores: int = 1_000_000

    def scaled(self, number: int) -> int:
        """A size, scaled."""
        return max(1, int(number * self.scale))

    def server_cpu_s(self) -> float | None:
        """CPU time the server has used so far."""
        return processes.cpu_s(self.pids) if self.pids else None

    def memory_kib(self) -> int | None:
        """Memory the server uses now."""
        return processes.memory_kib(self.pids) if self.pids else None


def window(
    ground: Ground,
    loop: Loop,
    unit: str,
    counted: Callable[[], int],
    latencies: Sequence[list[float]] = (),
    *,
    after_each: Callable[[], None] | None = None,
) -> Figures:
    """Let a load that has begun run warm, then count what happens in a window.

    Args:
        ground: where.
        loop: serves the clients.
        unit: name of what is counted.
        counted: how many there have been so far.
        latencies: lists that the clients append to, seconds each.
        after_each: called after every look at the sockets.
    """
    loop.run_for(ground.warm_up_s, after_each)
    for some in latencies:
        some.clear()
    count, server_s, own_s = counted(), ground.server_cpu_s(), own_cpu_s()
    start_s = time.perf_counter()
    loop.run_for(ground.seconds, after_each)
    length_s = time.perf_counter() - start_s
    units = counted() - count
    server_end_s, own_end_s = ground.server_cpu_s(), own_cpu_s()
    ordered = sorted(chain.from_iterable(latencies))
    server_us = None
    if server_s is not None and server_end_s is not None and units:
        server_us = (server_end_s - server_s) / units * 1e6
    return Figures(
        unit=unit,
        rate=units / length_s,
        p50_ms=percentile_ms(ordered, 0.5),
        p99_ms=percentile_ms(ordered, 0.99),
        server_cpu_us=server_us,
        client_cpu=(own_end_s - own_s) / length_s,
        memory_kib=ground.memory_kib(),
        more={"units": units},
    )


def own_cpu_s() -> float:
    """CPU time this process has used."""
    times = os.times()
    return times.user + times.system


def percentile_ms(ordered_s: Sequence[float], share: float) -> float | None:
    """The value that `share` of the values do not exceed, in milliseconds; None when there are none."""
    if not ordered_s:
        return None
    return ordered_s[max(0, math.ceil(share * len(ordered_s)) - 1)] * 1000
