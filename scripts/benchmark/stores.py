"""A Python store beside `@livestore/adapter-node`, on the same server: `python -m scripts.benchmark.stores`.

Two things are measured, each in a process of its own and with a new store on disk: pulling and materializing a long
log, and committing small events one after the other, until they are durable. They take turns, so that what else the
machine does meets both; the best of the rounds is compared, and CPU time beside it, which other programs disturb less.
Goal (issue 19): at least the rate of `adapter-node`.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import click
import trio
from livesync_trio.client import Event, open_backend
from livesync_trio.livestore import open_store
from tests.conformance.servers import ServerProcess
from tests.livestore.todo_app import TodoCreated, schema

ROOT: Final = Path(__file__).resolve().parents[2]
RUNTIME: Final = ROOT / "tests/clients/runtime-0.4"
PUSHED_AT_ONCE: Final = 100
LIMIT_S: Final = 600.0


async def fill(url: str, store_id: str, count: int) -> None:
    """Push a log of todos."""
    async with open_backend(url, store_id=store_id) as backend:
        for first in range(1, count + 1, PUSHED_AT_ONCE):
            numbers = range(first, min(first + PUSHED_AT_ONCE, count + 1))
            await backend.push([_event(number) for number in numbers])


def _event(number: int) -> Event:
    args = json.dumps({"id": f"todo-{number}", "text": f"Todo number {number}"}).encode()
    return Event(number, number - 1, "v1.TodoCreated", args, "filler", "static")


async def pull(url: str, store_id: str, directory: str, count: int) -> dict[str, float]:
    """Seconds from opening an empty store until all is pulled and materialized."""
    begin = _now()
    async with open_store(Path(directory) / "store.db", schema, store_id=store_id, url=url) as store:
        await store.synced()
        took = _since(begin)
        assert store.query("SELECT count(*) AS n FROM todos") == [{"n": count}]
    return took


async def commit(url: str, store_id: str, directory: str, count: int) -> dict[str, float]:
    """Seconds for commits one after the other; each is durable when it returns."""
    async with open_store(Path(directory) / "store.db", schema, store_id=store_id, url=url) as store:
        begin = _now()
        for number in range(count):
            store.commit(TodoCreated(f"todo-{number}", f"Todo number {number}"))
        return _since(begin)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(begin: tuple[float, float]) -> dict[str, float]:
    seconds, cpu_s = _now()
    return {"seconds": seconds - begin[0], "cpu_s": cpu_s - begin[1]}


def measured(program: list[str], cwd: Path, *arguments: Any) -> dict[str, float]:
    """Run one measurement in a process and a directory of its own."""
    with tempfile.TemporaryDirectory() as directory:
        url, store_id, act, count = map(str, arguments)
        command = [*program, url, store_id, directory, act, count]
        done = subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, timeout=LIMIT_S)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


@click.command()
@click.option("--events", default=100_000, help="Length of the log that is pulled.")
@click.option("--commits", default=10_000, help="Commits, one after the other.")
@click.option("--rounds", default=3, help="How often each is measured.")
def main(events: int, commits: int, rounds: int) -> None:
    """Measure, and say how they compare."""
    programs = {
        "python": ([sys.executable, "-m", "scripts.benchmark.stores", "measure"], ROOT),
        "adapter-node": (["node", "--import", "./simulation-off.mjs", "measure.mjs"], RUNTIME),
    }
    with tempfile.TemporaryDirectory() as directory:
        server = ServerProcess(Path(directory), f"sqlite:///{directory}/livesync.db")
        server.start()
        try:
            trio.run(fill, server.url, "log", events)
            for act, count in (("pull", events), ("commit", commits)):
                best: dict[str, dict[str, float]] = {}
                for turn in range(rounds):
                    for name, (program, cwd) in programs.items():
                        store_id = "log" if act == "pull" else f"{name}-{turn}"
                        figures = measured(program, cwd, server.url, store_id, act, count)
                        best[name] = {key: min(n, best.get(name, figures)[key]) for key, n in figures.items()}
                        click.echo(f"{act:7} {name:13} {count / figures['seconds']:9.0f} events/s  {figures}")
                ratios = [best["adapter-node"][key] / best["python"][key] for key in ("seconds", "cpu_s")]
                click.echo(f"{act:7} python : adapter-node = {ratios[0]:.2f}, by CPU time {ratios[1]:.2f}")
        finally:
            server.stop_if_ours()


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        url, store_id, directory, act, count = sys.argv[2:]
        print(json.dumps(trio.run({"pull": pull, "commit": commit}[act], url, store_id, directory, int(count))))
    else:
        main()
