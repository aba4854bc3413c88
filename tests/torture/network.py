"""Attacks on the network before a real server: half-open connections, and readers that stop. For storms see `storm.py`.

Everything over loopback sockets of this process; a connection becomes half-open when its client simply stops to read
and to answer, or, over TCP, when a proxy swallows what passes (`tests/conformance/proxy.py`).
"""

from __future__ import annotations

import functools
import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import trio

from tests.conformance.proxy import TcpProxy
from tests.simulation.leader import Leader, Violation
from tests.simulation.waiting import until
from tests.torture import server as proc
from tests.torture.audit import Auditor
from tests.torture.crash import IMPATIENT
from tests.torture.server import ServerProcess
from tests.torture.sockets import SocketLine, open_stream, shake_hands, target_of, to_store

PATIENCE_S = 60.0
NOTICED_LATE_S = 15.0
"""How late a limit may be met on a machine that is busy with other things."""


async def health(port: int) -> dict[str, Any]:
    """What `/health` says."""
    stream = await open_stream(port)
    if stream is None:
        return {}
    async with stream:
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := await stream.receive_some(65536):
            answer += data
    found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return found


async def until_connections(port: int, wanted: Callable[[int], bool]) -> float:
    """Wait until the server has that many connections; gives how long it took. Raises Violation."""
    start_s = trio.current_time()
    with trio.move_on_after(PATIENCE_S):
        while not wanted((await health(port)).get("connections", -1)):  # noqa: ASYNC110 -- only asking tells
            await trio.sleep(0.1)
        return trio.current_time() - start_s
    raise Violation(f"the server still has {(await health(port)).get('connections')} connections")


def pull_request(store: str) -> bytes:
    payload = {"storeId": store, "live": True, "cursor": {"_tag": "None"}}
    return msgspec.json.encode(
        {"_tag": "Request", "id": "1", "tag": "SyncWsRpc.Pull", "payload": payload, "headers": []}
    )


# --- half-open --------------------------------------------------------------------------------------------------------


async def half_open(
    directory: Path, dice: random.Random, say: Callable[[str], None], *, orphaning: bool = True
) -> None:
    """The network falls silent under clients: the server notices within its limit, frees what they held, and they
    recover.

    `orphaning`: clients of 0.4, which lose their live pull in this way and must be woken; that takes a while (SPEC
    3.6).
    """
    limit_s = 3.0
    server = ServerProcess(directory, {"LIVESYNC_IDLE_LIMIT_S": str(limit_s)})
    await server.start()
    proxy = TcpProxy(server.port)
    try:
        async with trio.open_nursery() as nursery:
            connect = to_store(lambda: proxy.port, "half")
            leaders = [
                Leader(connect, "half", f"h{index}", dice, string_ids=orphaning, pace=IMPATIENT) for index in range(20)
            ]
            for leader in leaders:
                nursery.start_soon(leader.run)
                leader.commit()
            await settled(leaders)
            proxy.refuse()  # who comes back before the server has noticed would hide that it has
            proxy.silence()
            noticed_s = await until_connections(server.port, lambda count: count == 0)
            if noticed_s > limit_s + NOTICED_LATE_S:
                raise Violation(f"half-open connections were noticed after {noticed_s:.1f} s, the limit is {limit_s} s")
            proxy.restore()
            for leader in leaders:
                leader.commit()
            await settled(leaders)
            nursery.cancel_scope.cancel()
        Auditor().audit(server.database, {"half": leaders}, live=True)
        await server.stop()
    finally:
        proxy.close()
        await server.end(signal.SIGKILL)
    say(f"20 half-open connections were noticed within {noticed_s:.1f} s (limit {limit_s:g} s), and all came back")


async def settled(leaders: list[Leader]) -> None:
    if not await until(
        lambda: all(each.settled and each.log.head == leaders[0].log.head > 0 for each in leaders), PATIENCE_S
    ):
        raise Violation(f"not converged: {[(each.name, len(each.pending), each.log.head) for each in leaders]}")


# --- readers that stop ------------------------------------------------------------------------------------------------


async def stopped_readers(
    directory: Path, readers: int, megabytes: int, dice: random.Random, say: Callable[[str], None]
) -> None:
    """Some readers take no bytes while much is pushed: memory is bounded, the others' latency unmoved."""
    server = ServerProcess(directory, {"LIVESYNC_STALL_LIMIT_S": "600", "LIVESYNC_IDLE_LIMIT_S": "1200"})
    await server.start()
    try:
        async with trio.open_nursery() as nursery:
            writer = Leader(to_store(lambda: server.port, "stop"), "stop", "writer", dice, pace=IMPATIENT)
            reader = Leader(to_store(lambda: server.port, "stop"), "stop", "reader", dice, pace=IMPATIENT)
            for leader in (writer, reader):
                nursery.start_soon(leader.run)
            alone_s = await latencies(writer, reader, rounds=100)
            before_kib = proc.memory_kib(server.pid)
            for _ in range(readers):
                nursery.start_soon(_never_read, server.port, "stop")
            await until_connections(server.port, lambda count: count == readers + 2)
            for _ in range(megabytes * 4):
                writer.commit("x" * 250_000)
                await settled([writer, reader])
            among_s = await latencies(writer, reader, rounds=100)
            grown_kib = proc.memory_kib(server.pid) - before_kib
            nursery.cancel_scope.cancel()
        await server.stop()
    finally:
        await server.end(signal.SIGKILL)
    say(
        f"{readers} stopped readers, {megabytes} MB pushed: memory +{grown_kib / 1024:.1f} MiB, p99 of the others"
        f" {alone_s[-1] * 1000:.1f} ms before, {among_s[-1] * 1000:.1f} ms among them (medians"
        f" {alone_s[len(alone_s) // 2] * 1000:.1f} and {among_s[len(among_s) // 2] * 1000:.1f} ms)"
    )
    if grown_kib > (readers * 2 + 60) * 1024:  # an outbox holds 1 MiB and what was queued last; page caches 32 MiB
        raise Violation(f"memory grew by {grown_kib / 1024:.0f} MiB for {readers} stopped readers")
    for what, at, slack_s in (("median", len(alone_s) // 2, 0.1), ("p99", -1, 1.0)):
        if among_s[at] > 5 * alone_s[at] + slack_s:
            raise Violation(f"the others wait, {what}: {alone_s[at]:.4f} s before, {among_s[at]:.4f} s among them")


async def latencies(writer: Leader, reader: Leader, rounds: int) -> list[float]:
    """From commit to the other client's pull, sorted."""
    taken: list[float] = []
    for _ in range(rounds):
        if writer.log.head:
            await settled([writer, reader])
        start_s = time.perf_counter()
        writer.commit()
        count = len(reader.log.contents)
        if not await until(functools.partial(_has_more, reader, count), PATIENCE_S, every_s=0.001):
            raise Violation("a commit did not reach the other client")
        taken.append(time.perf_counter() - start_s)
    return sorted(taken)


def _has_more(reader: Leader, than: int) -> bool:
    return len(reader.log.contents) > than


async def _never_read(port: int, store: str) -> None:
    stream = await open_stream(port)
    assert stream is not None
    async with stream:
        stream.setsockopt(1, 8, 4096)  # SOL_SOCKET, SO_RCVBUF
        await shake_hands(stream, target_of(store))
        line = SocketLine(stream, b"")
        line.put(pull_request(store))
        await line.write_for_ever()
