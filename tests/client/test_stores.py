"""Python stores on real servers, ours and Cloudflare's, in every protocol; and programs that are killed."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import trio

from livesync_trio.client import open_backend
from livesync_trio.livestore import Store, open_store
from tests.client.conftest import Place
from tests.conformance.proxy import TcpProxy
from tests.conformance.servers import ServerProcess
from tests.livestore.todo_app import PythonApp, SettingSet, TodoCompleted, TodoCreated, schema, tables_of

LIMIT_S = 120.0
"""For one test, on a machine that has much else to do."""

KILLS = 3
COMMITS = 40


def opened(place: Place, path: Path, url: str = "") -> AbstractAsyncContextManager[Store]:
    backend = open_backend(url or place.url, store_id=place.store_id, protocol=place.protocol)  # type: ignore[arg-type]
    return open_store(path, schema, store_id=place.store_id, backend=backend)


async def until_equal(one: Store, other: Store, head: int) -> None:
    for store in (one, other):
        await store.synced()
        async for event in store.events(head - 1):
            assert event.seq_num == head
            break
    assert tables_of(one) == tables_of(other)


async def test_stores_converge_through_offline_work_on_every_server(
    place: Place, make_proxy: Callable[[str], TcpProxy], tmp_path: Path
) -> None:
    proxy = make_proxy(place.url)
    with trio.fail_after(LIMIT_S):
        async with opened(place, tmp_path / "a.db", proxy.url) as anna, opened(place, tmp_path / "b.db") as ben:
            anna.commit(TodoCreated("1", "ö\u2028"), SettingSet("k", "anna"))
            await until_equal(anna, ben, 2)
            await trio.to_thread.run_sync(proxy.cut)
            anna.commit(SettingSet("k", "anna again"), TodoCompleted("1"))
            ben.commit(TodoCreated("2", "ben's"), SettingSet("k", "ben"))
            await ben.synced()
            proxy.restore()
            await until_equal(anna, ben, 6)
            assert anna.query("SELECT value FROM settings") == [{"value": "anna again"}]
        async with opened(place, tmp_path / "c.db") as fresh, opened(place, tmp_path / "a.db") as again:
            await until_equal(fresh, again, 6)
            assert again.query("SELECT count(*) AS n FROM livesync_log") == [{"n": 6}]


def test_programs_that_are_killed_at_random_moments_lose_nothing_and_commit_nothing_twice(
    own_server: ServerProcess, tmp_path: Path
) -> None:
    """Both commit as fast as they can on one store, so that kills meet commits, pulls, rebases and acknowledgements."""
    dice, numbers = random.Random(), itertools.count()
    told: dict[str, list[str]] = {"anna": [], "ben": []}

    def start(name: str) -> PythonApp:
        app = PythonApp(tmp_path / f"{name}.db", own_server.url, "killed", name)
        ids = [f"{name}-{next(numbers)}" for _ in range(COMMITS)]
        app.start_committing([("todoCreated", {"id": each, "text": each}) for each in ids], every_ms=2)
        return app

    apps = {name: start(name) for name in told}
    for _ in range(KILLS):
        name = dice.choice([*told])
        told[name] += apps[name].committed(dice.randint(1, COMMITS - 5))
        told[name] += apps[name].kill()
        if dice.random() < 0.3:
            own_server.kill()
            own_server.start()
        apps[name] = start(name)
    for name, app in apps.items():
        told[name] += app.committed(COMMITS)
        app.close()

    async def check() -> None:
        place = Place(own_server.url, "ws", "killed")
        with trio.fail_after(LIMIT_S):
            async with opened(place, tmp_path / "anna.db") as anna, opened(place, tmp_path / "ben.db") as ben:
                await anna.synced()
                await ben.synced()
                await until_equal(anna, ben, max(anna.sync_status.upstream_head, ben.sync_status.upstream_head))
                log = anna.query("SELECT client_id, args FROM livesync_log ORDER BY seq_num")
        for name, committed in told.items():
            mine = [json.loads(row["args"])["id"] for row in log if row["client_id"] == name]
            assert len(set(mine)) == len(mine)
            assert {line.split()[1] for line in committed} <= set(mine)

    trio.run(check)
