"""A Python store beside `@livestore/adapter-node`, on the same server: `scripts/bench --stores`.

Two things are measured, each in a process of its own and with a new store on disk: pulling and materializing a long
log, and committing small events one after the other, until they are durable. They take turns, so that what else the
machine does meets both; the best of the rounds is compared, and CPU time beside it, which other programs disturb less.
Goal: at least the rate of `adapter-node`. A run that takes longer than the limit is stopped, and counts as if
it had ended then.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import trio
from livesync_trio.client import Event, open_backend
from livesync_trio.livestore import open_store
from tests.conformance.servers import ServerProcess
from tests.livestore.todo_app import TodoCreated, schema

ROOT: Final = Path(__file__).resolve().parents[2]
RUNTIME: Final = ROOT / "tests/clients/runtime-0.4"
PUSHED_AT_ONCE: Final = 100
EVENTS: Final = 100_000
COMMITS: Final = 10_000
LIMIT_S: Final = 900.0

Say = Callable[[str], None]


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


PROGRAMS: Final = {
    "python": ([sys.executable, "-m", "scripts.benchmark.stores"], ROOT),
    "adapter-node": (["node", "--import", "./simulation-off.mjs", "measure.mjs"], RUNTIME),
}


def measured(program: list[str], cwd: Path, limit_s: float, *arguments: Any) -> dict[str, float]:
    """Run one measurement in a process and a directory of its own."""
    before_s = _children_s()
    with tempfile.TemporaryDirectory() as directory:
        url, store_id, act, count = map(str, arguments)
        command = [*program, url, store_id, directory, act, count]
        try:
            done = subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, timeout=limit_s)
        except subprocess.TimeoutExpired:
            return {"seconds": limit_s, "cpu_s": _children_s() - before_s, "stopped": 1.0}
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _children_s() -> float:
    """CPU time of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(say: Say, *, events: int, commits: int, rounds: int, limit_s: float) -> dict[str, list[float]]:
    """Measure all programs in turn.

    Args:
        say: is told each figure, and how they compare.
        events: length of the log that is pulled.
        commits: commits, one after the other.
        rounds: how often each is measured.
        limit_s: seconds after which a run is stopped.

    Returns:
        For `pull` and `commit` how many times the rate of `adapter-node` the Python store has: by the clock, and by CPU
        time.
    """
    ratios = {}
    with tempfile.TemporaryDirectory() as directory:
        server = ServerProcess(Path(directory), f"sqlite:///{directory}/livesync.db")
        server.start()
        try:
            trio.run(fill, server.url, "log", events)
            for act, count in (("pull", events), ("commit", commits)):
                best: dict[str, dict[str, float]] = {}
                for turn in range(rounds):
                    for name, (program, cwd) in PROGRAMS.items():
                        store_id = "log" if act == "pull" else f"{name}-{turn}"
                        figures = measured(program, cwd, limit_s, server.url, store_id, act, count)
                        best[name] = {key: min(n, best.get(name, figures).get(key, n)) for key, n in figures.items()}
                        say(f"{act:7} {name:13} {count / figures['seconds']:9.0f} events/s  {figures}")
                ratios[act] = [best["adapter-node"][key] / best["python"][key] for key in ("seconds", "cpu_s")]
                least = "at least " if "stopped" in best["adapter-node"] else ""
                say(f"{act:7} python : adapter-node = {least}{ratios[act][0]:.2f}, by CPU time {ratios[act][1]:.2f}")
        finally:
            server.stop_if_ours()
    return ratios


if __name__ == "__main__":
    url, store_id, directory, act, count = sys.argv[1:]
    print(json.dumps(trio.run({"pull": pull, "commit": commit}[act], url, store_id, directory, int(count))))
