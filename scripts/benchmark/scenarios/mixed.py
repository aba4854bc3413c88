"""Busy stores at a steady pace, first alone, then beside everything that could disturb them."""

import time
from collections import deque
from typing import Final

from scripts.benchmark import wire
from scripts.benchmark.clients import Puller, Pusher
from scripts.benchmark.measuring import Figures, Ground, window
from scripts.benchmark.scenarios.idle import Pings, affordable, subscribe
from scripts.benchmark.scenarios.pushing import fill, stop
from scripts.benchmark.sockets import Loop, finish_upgrade

BUSY_STORES: Final = 200
"""Stores pushed to (issue 5)."""

PACE_PER_S: Final = 1_000
"""Pushes a second over all busy stores: a load, but not one that fills queues, so that latency tells of disturbance."""

IDLE_CONNECTIONS: Final = 5_000
LONG_LOG_EVENTS: Final = 100_000
"""What is beside them (issue 5), and one reader who takes nothing."""

SLOW_BUFFER_BYTES: Final = 4_096
"""Receive buffer of the slow reader, so that little of what it does not read is on its way."""


def mixed(ground: Ground) -> Figures:
    """200 stores busy; then the same beside 5,000 idle ones, a slow reader and 100,000-event pulls."""
    loop = Loop()
    limit = affordable(ground.scaled(IDLE_CONNECTIONS))
    fill(loop, ground.address, "long", ground.scaled(LONG_LOG_EVENTS))
    busy = _Busy(ground, loop, ground.scaled(BUSY_STORES))
    alone = window(ground, loop, "events", busy.acknowledged, busy.latencies, after_each=busy.push_due)
    busy.pause()
    pings = Pings(subscribe(ground.address, loop, limit, "idle"))
    slow = ground.address.begin_websocket("busy-0", SLOW_BUFFER_BYTES)
    finish_upgrade(slow).sendall(wire.frame(wire.pull("busy-0", live=True)))
    long_pull = Puller(ground.address, "long")
    loop.add(long_pull)
    pulled = 0

    def beside() -> None:
        nonlocal long_pull, pulled
        busy.push_due()
        pings.send_due()
        if long_pull.done:
            pulled += long_pull.events
            loop.drop(long_pull)
            long_pull = Puller(ground.address, "long")
            loop.add(long_pull)

    busy.resume()
    figures = window(ground, loop, "events", busy.acknowledged, busy.latencies, after_each=beside)
    busy.pause()
    slow.close()
    figures.more |= {
        "p50_ms_alone": alone.p50_ms,
        "p99_ms_alone": alone.p99_ms,
        "p99_ratio": figures.p99_ms / alone.p99_ms if figures.p99_ms and alone.p99_ms else None,
        "idle": limit,
        "events_pulled_beside": pulled + long_pull.events,
    }
    return figures


class _Busy:
    """Clients that push one event each in turn, at a steady pace over all of them together.

    A client that still waits for its last answer is left out until it has got it; the delay then counts from when it
    was due, so that a server that stops does not look fast (no coordinated omission).
    """

    def __init__(self, ground: Ground, loop: Loop, stores: int) -> None:
        self._loop = loop
        self._pushers = [Pusher(ground.address, f"busy-{number}", 1) for number in range(stores)]
        self._late: deque[tuple[Pusher, float]] = deque()
        self.latencies = [pusher.latencies_s for pusher in self._pushers]
        for pusher in self._pushers:
            pusher.may_go_on = False
            loop.add(pusher)
        self.resume()

    def acknowledged(self) -> int:
        """Events stored so far."""
        return sum(pusher.acknowledged for pusher in self._pushers)

    def push_due(self) -> None:
        """Push what is due by now."""
        now_s = time.perf_counter()
        while (due_s := self._start_s + self._begun / PACE_PER_S) <= now_s:
            self._late.append((self._pushers[self._begun % len(self._pushers)], due_s))
            self._begun += 1
        for _ in range(len(self._late)):
            pusher, due_s = self._late.popleft()
            if pusher.waiting:
                self._late.append((pusher, due_s))
            else:
                pusher.push(since_s=due_s)

    def pause(self) -> None:
        """Push nothing, and have everything answered."""
        self._late.clear()
        stop(self._loop, self._pushers)

    def resume(self) -> None:
        """Begin (again) at the pace."""
        self._start_s, self._begun = time.perf_counter(), 0
