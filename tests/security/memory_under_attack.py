"""Memory of a server process under each attack on it, and a chart of that for docs/hardening.md.

    python -m tests.security.memory_under_attack [--seconds S] [--clients N] [--only NAME]

Writes docs/hardening/memory-under-attack.json and .svg. Needs some 4,096 descriptors.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click
import trio

from tests.bad_input.clients import NO_CURSOR, event, http_rpc, pull, push, sync_url, v3_url
from tests.bad_input.websockets import TEXT, frame, text, upgrade
from tests.bad_input.wires import head
from tests.conformance.servers import ServerProcess

from .measuring import memory_bytes

DOCS: Final = Path(__file__).resolve().parents[2] / "docs" / "hardening"
MIB: Final = 1024 * 1024
LIMIT_MIB: Final = 512
STORE: Final = "attacked"
LARGE: Final = 30_000_000
ADMIN: Final = "a secret of the attacker's dreams"

HELD: Final[list[trio.SocketStream]] = []

Attack = Callable[[int, int, trio.Nursery, int], Awaitable[None]]


async def opened(port: int, *, small_buffer: bool = True) -> trio.SocketStream:
    socket = trio.socket.socket()
    if small_buffer:
        socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
    await socket.connect(("127.0.0.1", port))
    return trio.SocketStream(socket)


async def say(stream: trio.SocketStream, data: bytes) -> None:
    """Say it and hold the connection: a stream that nobody refers to is closed."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await stream.send_all(data)
    HELD.append(stream)


async def hear(stream: trio.SocketStream) -> None:
    try:
        while await stream.receive_some(65536):
            pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def fill(port: int, nursery: trio.Nursery, events: int, size: int) -> None:
    """Events to ask for, pushed one by one by a client that listens."""
    stream = await opened(port, small_buffer=False)
    nursery.start_soon(hear, stream)
    await say(stream, upgrade(sync_url(STORE)))
    for number in range(1, events + 1):
        await say(stream, text(push(str(number), STORE, event(number, number - 1, "x" * size))))
    await trio.sleep(2)


async def many(port: int, clients: int, nursery: trio.Nursery, data: bytes) -> None:
    for _ in range(clients):
        nursery.start_soon(say, await opened(port), data)


async def closed_pulls(port: int, clients: int, nursery: trio.Nursery, _: int) -> None:
    """Two 0.3 sockets that read nothing and pull again and again"""
    await fill(port, nursery, 20, 100_000)
    asked = b"".join(text({"_tag": "WSMessage.PullReq", "requestId": f"r{n}", "cursor": None}) for n in range(20_000))
    for _ in range(2):
        nursery.start_soon(say, await opened(port), upgrade(v3_url(STORE)) + asked * 20)


async def large_pushes(port: int, clients: int, nursery: trio.Nursery, _: int) -> None:
    """One socket with forty pushes of 30 MB, one behind the other"""
    data = b"".join(text(push(str(n), STORE, event(n, n - 1, "x" * LARGE))) for n in range(1, 3))
    stream = await opened(port)

    async def push_on() -> None:
        await say(stream, upgrade(sync_url(STORE)))
        for _ in range(20):
            await say(stream, data)

    nursery.start_soon(push_on)


async def large_publication(port: int, clients: int, nursery: trio.Nursery, _: int) -> None:
    """A push of 30 MB to forty followers that read nothing"""
    await many(port, 40, nursery, upgrade(sync_url(STORE)) + text(pull("1", STORE, live=True)))
    await trio.sleep(1)
    await fill(port, nursery, 1, LARGE)


async def large_history(port: int, clients: int, nursery: trio.Nursery, _: int) -> None:
    """Forty pulls of a log with three events of 30 MB, unread"""
    await fill(port, nursery, 3, LARGE)
    await trio.sleep(3)
    await many(port, 40, nursery, upgrade(sync_url(STORE)) + text(pull("1", STORE, live=True)))


async def unread_history(port: int, clients: int, nursery: trio.Nursery, _: int) -> None:
    """Pulls of 18 MB over WebSockets, unread"""
    await fill(port, nursery, 20, 900_000)
    await many(port, clients, nursery, upgrade(sync_url(STORE)) + text(pull("1", STORE, live=True)) * 1)


async def unread_answers(port: int, clients: int, nursery: trio.Nursery, _: int) -> None:
    """The same over HTTP, unread"""
    await fill(port, nursery, 20, 900_000)
    asked = http_rpc(STORE, "1", "Pull", {"storeId": STORE, "cursor": NO_CURSOR})
    await many(port, clients, nursery, asked)


async def half_messages(port: int, clients: int, nursery: trio.Nursery, _: int) -> None:
    """All but the last bytes of a message of 900 kB"""
    data = frame(TEXT, b"x" * 900_000)[:-10]
    await many(port, clients, nursery, upgrade(sync_url(STORE)) + data)


async def half_bodies(port: int, clients: int, nursery: trio.Nursery, _: int) -> None:
    """All but the last bytes of a body of 900 kB"""
    begin = head(f"POST {sync_url(STORE, 'http')} HTTP/1.1", "Content-Length: 900000")
    await many(port, clients, nursery, begin + b"x" * 899_990)


async def unread_pongs(port: int, clients: int, nursery: trio.Nursery, _: int) -> None:
    """Pings without end, their pongs unread"""
    streams = [await opened(port) for _ in range(clients)]
    for stream in streams:
        await say(stream, upgrade(sync_url(STORE)))  # all are in before the first of them floods
    for stream in streams:
        nursery.start_soon(say, stream, frame(TEXT, b'{"_tag":"Ping"}') * 30_000)


async def tails(port: int, clients: int, nursery: trio.Nursery, control_port: int) -> None:
    """Ten tails that read nothing, and an event of 15 MB of line ends"""
    await fill(port, nursery, 1, 10)
    asked = head(f"GET /api/v1/store/tail?storeId={STORE} HTTP/1.1", f"Authorization: Bearer {ADMIN}")
    await many(control_port, 10, nursery, asked)
    await trio.sleep(1)
    stream = await opened(port, small_buffer=False)
    nursery.start_soon(hear, stream)
    args = b'{"a":%b1}' % (b"\n" * 15_000_000)
    body = json.dumps(push("1", STORE, event(2, 1, "HERE"))).encode().replace(b'"HERE"', args)
    await say(stream, upgrade(sync_url(STORE)) + frame(TEXT, body))


ATTACKS: Final[tuple[Attack, ...]] = (
    *(closed_pulls, large_pushes, large_publication, large_history, unread_history, unread_answers),
    *(half_messages, half_bodies, unread_pongs, tails),
)


def measured(attack: Attack, clients: int, seconds: float) -> tuple[list[tuple[float, float]], int]:
    """Seconds and MiB; and the most descriptors the server had open, so that it is known how many got in."""
    points: list[tuple[float, float]] = []
    held: list[int] = [0]

    async def run(pid: int, port: int, control_port: int) -> None:
        began_s = time.monotonic()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attack, port, clients, nursery, control_port)
            while (now_s := time.monotonic() - began_s) < seconds:
                points.append((round(now_s, 2), round(memory_bytes(pid) / MIB, 1)))
                held.append(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))  # noqa: ASYNC240 - a few microseconds
                await trio.sleep(0.1)
            nursery.cancel_scope.cancel()

    with tempfile.TemporaryDirectory() as directory:
        control_port = free_port()
        settings = {"ADMIN_SECRET": ADMIN, "ADMIN_PORT": str(control_port), "LOG_LEVEL": "error"}
        server = ServerProcess(Path(directory), f"sqlite:///{directory}/livesync.db", settings)
        server.start()
        try:
            assert server._process is not None
            trio.run(run, server._process.pid, server.port, control_port)
        finally:
            HELD.clear()  # which closes them
            server.stop()
    return points, max(held)


def free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def chart(found: dict[str, Any]) -> str:
    """One small picture for each attack: memory over time, below the documented bound."""
    width, height, columns, gap = 250, 110, 3, 46
    rows = -(-len(found["attacks"]) // columns)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * (width + 40)} {rows * (height + gap) + 20}" '
        'font-family="sans-serif" font-size="10"><rect width="100%" height="100%" fill="#fff"/>'
    ]
    for index, (name, one) in enumerate(found["attacks"].items()):
        left, top = (index % columns) * (width + 40) + 34, (index // columns) * (height + gap) + 30
        points = [
            f"{left + at_s / one['seconds'] * width:.1f},{top + height - min(mib, 1400) / 1400 * height:.1f}"
            for at_s, mib in one["points"]
        ]
        for mib in (0, LIMIT_MIB, 1024):
            y = top + height - mib / 1400 * height
            line = "#c33" if mib == LIMIT_MIB else "#ddd"
            parts.append(f'<path d="M{left} {y:.1f}h{width}" stroke="{line}"/>')
            parts.append(f'<text x="{left - 4}" y="{y + 3:.1f}" text-anchor="end" fill="#555">{mib}</text>')
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="#2563eb" stroke-width="1.5"/>')
        label = name.replace("_", " ")
        parts.append(f'<text x="{left}" y="{top - 8}" fill="#111">{label}: at most {one["most_mib"]:.0f} MiB</text>')
    return "\n".join([*parts, "</svg>\n"])


def allow_descriptors() -> None:
    """Each client costs two: one here, one in the server."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))


def beyond_limit(clients: int, seconds: float, say: Callable[[str], None]) -> list[str]:
    """The attacks that took the server past the documented figure."""
    allow_descriptors()
    found = []
    for attack in ATTACKS:
        points, _ = measured(attack, clients, seconds)
        most_mib = max(mib for _, mib in points)
        say(f"{attack.__doc__}: at most {most_mib:.0f} MiB")
        if most_mib > LIMIT_MIB:
            found.append(f"{attack.__name__} ({most_mib:.0f} MiB)")
    return found


@click.command()
@click.option("--seconds", default=12.0)
@click.option("--clients", default=2_000)
@click.option("--only", default="")
def main(seconds: float, clients: int, only: str) -> None:
    """Measure, and draw."""
    allow_descriptors()
    file = DOCS / "memory-under-attack.json"
    found: dict[str, Any] = {"seconds": seconds, "clients": clients, "attacks": {}}
    if only and file.exists():
        found = json.loads(file.read_text())
    for attack in ATTACKS:
        if only in ("", attack.__name__):
            points, descriptors = measured(attack, clients, seconds)
            most_mib = max(mib for _, mib in points)
            found["attacks"][attack.__name__] = {
                "what": attack.__doc__,
                "most_mib": most_mib,
                "descriptors": descriptors,
                "seconds": seconds,
                "points": points,
            }
            print(
                f"{attack.__name__:20} {points[0][1]:7.0f} -> {most_mib:7.0f} MiB, {descriptors} descriptors",
                flush=True,
            )
    file.write_text(json.dumps(found) + "\n")
    file.with_suffix(".svg").write_text(chart(found))


if __name__ == "__main__":
    main()
