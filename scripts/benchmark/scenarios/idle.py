"""Many clients who follow a store each and say nothing but that they are there."""

import resource
import time
from functools import partial
from typing import Final

from scripts.benchmark import wire
from scripts.benchmark.measuring import Figures, Ground, own_cpu_s
from scripts.benchmark.sockets import CLIENT_PING_S, Address, BenchError, Loop, WebSocket, finish_upgrade

CONNECTIONS: Final = 10_000
"""Subscribers, each of its own store (issue 5)."""

AT_A_TIME: Final = 100
"""Handshakes under way at once."""

PER_CONNECTION: Final = "kib_per_connection"
"""Under which the figures have the memory of one connection, its store included."""

_SPARE_DESCRIPTORS: Final = 200
"""For what else a process has open."""


def idle(ground: Ground) -> Figures:
    """10,000 live subscribers, each its own store: KiB per connection, then CPU time for one client's sign of life."""
    loop = Loop()
    before_kib = ground.memory_kib()
    start_s = time.perf_counter()
    members = subscribe(ground.address, loop, affordable(min(ground.scaled(CONNECTIONS), ground.most_stores)), "idle")
    opened_s = time.perf_counter() - start_s
    loop.run_for(1.0)
    after_kib = ground.memory_kib()
    own_s, server_s, start_s = own_cpu_s(), ground.server_cpu_s(), time.perf_counter()
    pings = Pings(members)
    loop.run_for(ground.seconds, pings.send_due)
    length_s = time.perf_counter() - start_s
    server_end_s = ground.server_cpu_s()
    each_kib = cpu_us = None
    if before_kib is not None and after_kib is not None:
        each_kib = (after_kib - before_kib) / len(members)
    if server_s is not None and server_end_s is not None:
        cpu_us = (server_end_s - server_s) * 1e6 / max(1, pings.sent)
    return Figures(
        unit="connections opened",
        rate=len(members) / opened_s,
        p50_ms=None,
        p99_ms=None,
        server_cpu_us=cpu_us,
        client_cpu=(own_cpu_s() - own_s) / length_s,
        memory_kib=after_kib,
        more={"connections": len(members), PER_CONNECTION: each_kib},
    )


class Subscriber(WebSocket):
    """A live pull of which only its first answer and the pongs are expected."""

    __slots__ = ("answered", "events")

    def __init__(self, address: Address, store_id: str) -> None:
        """The handshake is under way; `begin` goes on when it is answered."""
        super().__init__(address.begin_websocket(store_id))
        self.answered = False
        self.events = 0

    def begin(self, store_id: str) -> None:
        """Ask for the store's events."""
        finish_upgrade(self.sock)
        self.sendall(wire.frame(wire.pull(store_id, live=True)))

    def message(self, data: bytes, start: int, end: int) -> None:
        """A page or a pong."""
        if data.find(wire.CHUNK_MARK, start, end) >= 0:
            self.answered = True
            self.events += data.count(wire.EVENT_MARK, start, end)
        elif data.find(b'"Pong"', start, end) < 0:
            raise BenchError(f"an idle client was told {data[start : min(end, start + 400)]!r}")


def subscribe(address: Address, loop: Loop, number: int, stores: str) -> list[Subscriber]:
    """Open subscribers, each of a store of its own, some at a time; all have been answered when this returns."""
    members: list[Subscriber] = []
    for first in range(0, number, AT_A_TIME):
        names = [f"{stores}-{index}" for index in range(first, min(first + AT_A_TIME, number))]
        some = [Subscriber(address, name) for name in names]
        for member, name in zip(some, names, strict=True):
            member.begin(name)
            loop.add(member)
        members += some
        loop.run_until(partial(_all_answered, some), "live pulls to be answered")
    return members


def _all_answered(members: list[Subscriber]) -> bool:
    return all(member.answered for member in members)


def affordable(connections: int) -> int:
    """How many connections this process may hold: the limit on descriptors is raised as far as it goes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(connections, hard - _SPARE_DESCRIPTORS) if hard != resource.RLIM_INFINITY else connections


class Pings:
    """Lets clients give their signs of life, one after the other, each every ten seconds."""

    def __init__(self, members: list[Subscriber]) -> None:
        self._members = members
        self._start_s = time.perf_counter()
        self.sent = 0

    def send_due(self) -> None:
        """Send those whose time has come."""
        due = int((time.perf_counter() - self._start_s) / CLIENT_PING_S * len(self._members))
        while self.sent < due:
            self._members[self.sent % len(self._members)].sendall(wire.PING)
            self.sent += 1
