"""`livesync bench`: what a running server does on this machine, as clients see it; a first impression, not a study."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from statistics import quantiles
from typing import Any

import attrs
import click
import trio

from livesync_trio.archive.sources.wire import told_as_command
from livesync_trio.cli import printing
from livesync_trio.cli.control_plane import ControlPlane
from livesync_trio.cli.options import configuration_options, json_option, sync_options, url_option
from livesync_trio.cli.probe import payload, probe_event, scratch, sync_url
from livesync_trio.client import START, open_backend
from livesync_trio.config import load
from livesync_trio.errors import CommandError
from livesync_trio.model import StoreId


@attrs.frozen
class _Work:
    """What one client does."""

    url: str
    who: Any
    client: int
    pushes: int
    batch: int


@click.command()
@click.option(
    "--clients", type=click.IntRange(1, 64), default=4, show_default=True, help="Each with a store of its own."
)
@click.option("--pushes", type=click.IntRange(2), default=200, show_default=True, help="Pushes of each client.")
@click.option("--batch", type=click.IntRange(1, 100), default=10, show_default=True, help="Events in a push.")
@url_option("Control plane, to empty the stores again.")
@sync_options
@json_option
@configuration_options("host", "port", "admin_secret")
def bench(
    *,
    clients: int,
    pushes: int,
    batch: int,
    url: str | None,
    sync_url: str | None,
    payload_file: Path | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Push through scratch stores and pull it all back; tell rates and latencies.

    The clients run in this one Python process, which is what is measured once the server is faster.
    """
    config = load(flags, os.environ)
    where, who = _where(config, sync_url), payload(config, payload_file)
    work = [_Work(where, who, number, pushes, batch) for number in range(clients)]
    total = clients * pushes * batch
    with told_as_command(), ThreadPoolExecutor(clients) as pool, printing.progress("pushing", total) as advance:
        begin_s = time.monotonic()
        latencies_s = sorted(latency for done in pool.map(lambda one: _push(one, advance), work) for latency in done)
        push_s = time.monotonic() - begin_s
        begin_s = time.monotonic()
        pulled = sum(pool.map(_pull, work))
        pull_s = time.monotonic() - begin_s
    if url is not None:
        plane = ControlPlane(url, config.admin_secret)
        for one in work:
            with suppress(CommandError):
                plane.post("/store/delete", {"storeId": _store(one), "confirm": _store(one)})
    cuts = quantiles(latencies_s, n=100)
    result = {
        "clients": clients,
        "pushesPerSecond": round(len(latencies_s) / push_s),
        "eventsPerSecond": round(len(latencies_s) * batch / push_s),
        "pushP50Ms": round(cuts[49] * 1000, 2),
        "pushP99Ms": round(cuts[98] * 1000, 2),
        "pulledEventsPerSecond": round(pulled / pull_s),
    }
    if as_json:
        printing.line(result)
    else:
        printing.facts(list(result.items()))


_where = sync_url


def _store(work: _Work) -> StoreId:
    return scratch("bench", work.client)


def _push(work: _Work, advance: printing.Advance) -> list[float]:
    """Push batch after batch; how long each took until it was durable."""

    async def push_all() -> list[float]:
        latencies_s = []
        async with open_backend(work.url, store_id=_store(work), payload=work.who, offline="fail") as backend:
            head = START.seq_num
            async for page in backend.pull(live=False):
                head = page.head
            for _ in range(work.pushes):
                events = [probe_event(number + 1, number) for number in range(head, head + work.batch)]
                begin_s = time.monotonic()
                await backend.push(events)
                latencies_s.append(time.monotonic() - begin_s)
                head += work.batch
                advance(work.batch)
        return latencies_s

    return trio.run(push_all)


def _pull(work: _Work) -> int:
    """Pull everything; how many events came."""

    async def pull_all() -> int:
        events = 0
        async with open_backend(work.url, store_id=_store(work), payload=work.who, offline="fail") as backend:
            async for page in backend.pull(live=False):
                events += len(page.events)
        return events

    return trio.run(pull_all)
