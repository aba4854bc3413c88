"""What open consoles cost those who sync: clients that push at once, with and without consoles that look on, by turns.

    .venv/bin/python -m scripts.console_cost [--rounds 6] [--consoles 10] [--clients 8] [--pushes 150] [--idle 10000]

A console is a stream of the overview; every second one follows a live tail of the store that is pushed to most instead.
Rounds alternate, so that whatever else the machine does falls on both; what counts is the ratio. With `--idle` the
rounds are played once more beside so many connections that follow a store each. At the end nobody pushes, and it is
measured what consoles cost by themselves.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs
import httpx
import trio

from livesync_trio.client import Event, open_backend
from scripts.benchmark.scenarios.idle import Pings, affordable, subscribe
from scripts.benchmark.sockets import Address, Loop
from scripts.console_pictures import SECRET, server

_HEADERS: Final = {"authorization": f"Bearer {SECRET}"}


@attrs.frozen
class Urls:
    """Where the server is reached."""

    public: str
    control: str


@attrs.frozen
class Round:
    """What a round took.

    Attributes:
        latencies_ms: from a push to its acknowledgement.
        cpu_ms: of the server, for each push.
    """

    latencies_ms: list[float]
    cpu_ms: float


async def push(url: str, store: str, count: int, latencies_ms: list[float]) -> None:
    """Push single events to a store, one after the other, and measure each."""
    args = b'{"text":"some sixty bytes of an event, as apps have them"}'
    async with open_backend(url, store_id=store) as backend:
        for number in range(1, count + 1):
            began = time.perf_counter()
            await backend.push([Event(number, number - 1, "v1.Pushed", args, "c", "s")])
            latencies_ms.append(1000 * (time.perf_counter() - began))


async def look(control: str, path: str, *, task_status: trio.TaskStatus[None]) -> None:
    """Be a console: take what a stream sends, until cancelled."""
    async with (
        httpx.AsyncClient(headers=_HEADERS, timeout=None) as http,
        http.stream("GET", f"{control}{path}") as answer,
    ):
        task_status.started()
        async for _ in answer.aiter_raw():
            pass


def cpu_s(control: str) -> float:
    """Processor time that the server has used, from its metrics."""
    page = httpx.get(f"{control}/metrics", headers=_HEADERS).text
    return next(float(line.split()[1]) for line in page.splitlines() if line.startswith("process_cpu_seconds_total "))


async def look_on(control: str, store: str, consoles: int) -> None:
    """Be several, and say when all have begun."""
    paths = ("/api/v1/series/live", f"/api/v1/store/tail?storeId={store}")
    async with trio.open_nursery() as nursery:
        for at in range(consoles):
            await nursery.start(look, control, paths[at % 2])
        print("ready", flush=True)


@contextmanager
def beside(*arguments: str) -> Iterator[None]:
    """This script once more, as a process that says when it has begun; those who push are not held up by it."""
    program = [sys.executable, "-m", "scripts.console_cost", *arguments]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"ready\n":
                raise SystemExit("a process that was to look on has ended")
            yield
        finally:
            process.kill()


@contextmanager
def looked_at(control: str, store: str, consoles: int) -> Iterator[None]:
    """Consoles, if there are to be any."""
    if not consoles:
        yield
        return
    with beside("--look", control, "--store", store, "--consoles", str(consoles)):
        yield


def follow_idly(public: str, connections: int) -> None:
    """Be clients that follow a store each, and say nothing but that they are there."""
    host, _, port = public.removeprefix("http://").partition(":")
    loop = Loop()
    members = subscribe(Address(host, int(port)), loop, affordable(connections), "idle")
    print("ready", flush=True)
    loop.run_for(3600.0, Pings(members).send_due)


def play(urls: Urls, name: str, given: argparse.Namespace, consoles: int) -> Round:
    """One round."""
    stores = [f"{name}-{client}" for client in range(given.clients)]
    httpx.post(f"{urls.public}/v1/stores/{stores[0]}/events", json={"type": "v1.First", "data": {}}).raise_for_status()
    # So that there is a store to follow, and then nothing in it.
    again = {"storeId": stores[0], "confirm": stores[0]}
    httpx.post(f"{urls.control}/api/v1/store/reset", json=again, headers=_HEADERS).raise_for_status()
    latencies_ms: list[float] = []

    async def pushing() -> None:
        async with trio.open_nursery() as nursery:
            for store in stores:
                nursery.start_soon(push, urls.public, store, given.pushes, latencies_ms)

    with looked_at(urls.control, stores[0], consoles):
        before = cpu_s(urls.control)
        trio.run(pushing)
        used = cpu_s(urls.control) - before
    return Round(latencies_ms, 1000 * used / len(latencies_ms))


def told(rounds: Sequence[Round]) -> tuple[float, float, float]:
    """Medians over the rounds: p50, p99, the server's time for a push."""
    quantiles = [statistics.quantiles(each.latencies_ms, n=100) for each in rounds]
    medians = [statistics.median(each[at] for each in quantiles) for at in (49, 98)]
    return medians[0], medians[1], statistics.median(each.cpu_ms for each in rounds)


def compare(urls: Urls, beside_what: str, given: argparse.Namespace) -> None:
    """Play rounds with and without consoles by turns, and say what came out."""
    found: dict[int, list[Round]] = {0: [], given.consoles: []}
    play(urls, f"{beside_what}-warm", given, 0)
    for number in range(given.rounds):
        for consoles, rounds in found.items():
            rounds.append(play(urls, f"{beside_what}-{number}-{consoles}", given, consoles))
    figures = {consoles: told(rounds) for consoles, rounds in found.items()}
    for consoles, (p50, p99, cpu) in figures.items():
        print(f"{beside_what}, {consoles:2} consoles: p50 {p50:.2f} ms, p99 {p99:.2f} ms, {cpu:.3f} ms of CPU a push")
    ratios = [on / off for on, off in zip(figures[given.consoles], figures[0], strict=True)]
    print(f"{beside_what}, ratio: p50 {ratios[0]:.3f}, p99 {ratios[1]:.3f}, CPU {ratios[2]:.3f}", flush=True)


def alone(urls: Urls, given: argparse.Namespace) -> None:
    """What consoles cost while nobody pushes."""
    for consoles in (0, given.consoles):
        with looked_at(urls.control, "idle-warm-0" if given.idle else "alone-warm-0", consoles):
            before = cpu_s(urls.control)
            time.sleep(given.seconds)
            used = cpu_s(urls.control) - before
        print(f"nobody pushes, {consoles:2} consoles: {100 * used / given.seconds:.2f} % of a core", flush=True)


def main() -> None:
    """Play the rounds, and say what came out."""
    options = argparse.ArgumentParser(description=__doc__)
    for option, default in (("rounds", 6), ("consoles", 10), ("clients", 8), ("pushes", 150), ("idle", 0)):
        options.add_argument(f"--{option}", type=int, default=default)
    options.add_argument("--seconds", type=float, default=20.0)
    for option in ("look", "store", "follow"):
        options.add_argument(f"--{option}", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.look:
        trio.run(look_on, given.look, given.store, given.consoles)
        return
    if given.follow:
        follow_idly(given.follow, given.idle)
        return
    affordable(0)  # the server inherits it
    # Without a secret that signs tokens, whoever is on this machine may connect.
    with tempfile.TemporaryDirectory() as name, server(Path(name), LIVESYNC_JWT_SECRET="") as (url, control):
        urls = Urls(url, control)
        compare(urls, "alone", given)
        alone(urls, given)
        if given.idle:
            with beside("--follow", url, "--idle", str(given.idle)):
                there = httpx.get(f"{control}/api/v1/info", headers=_HEADERS).json()["health"]["connections"]
                print(f"{there} connections are open", flush=True)
                compare(urls, "idle", given)
                alone(urls, given)


if __name__ == "__main__":
    main()
