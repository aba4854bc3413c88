"""End to end: a Python store and the unmodified LiveStore 0.4.0 runtime share a store, and converge."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.livestore.todo_app import PythonApp

from .apps import App, Commit
from .clients import Generation
from .conftest import MakeClient, StartServer
from .events import flatten
from .proxy import TcpProxy
from .test_livestore_runtime import PACE_MS, session
from .waiting import eventually

CONVERGED_DEADLINE_S = 150.0


@pytest.fixture
def anna(node_packages_ready: None, tmp_path: Path) -> Iterator[App]:
    app = App("anna", tmp_path / "anna.log")
    yield app
    app.close()


def as_pairs(commits: list[Commit]) -> list[tuple[str, dict[str, Any]]]:
    return [(commit.event, commit.args) for commit in commits]


def wait_until_converged(anna: App, python: PythonApp, head: int) -> None:
    def converged() -> bool:
        settled = anna.is_settled_at(head) and python.is_settled_at(head)
        return settled and anna.tables() == python.tables()

    try:
        eventually(converged, f"both converge at {head}", CONVERGED_DEADLINE_S)
    except AssertionError as too_late:
        states = [(app.sync_states(), app.tables()) for app in (anna, python)]
        raise AssertionError(f"{too_late}: {states}") from None


def test_a_python_store_and_a_real_application_converge_through_kills_and_offline_work(
    anna: App,
    start_server: StartServer,
    make_proxy: Callable[[int], TcpProxy],
    make_client: MakeClient,
    store_id: str,
    tmp_path: Path,
) -> None:
    server = start_server()
    proxies = [make_proxy(server.port), make_proxy(server.port)]
    anna.open(proxies[0].url, store_id)
    path = tmp_path / "python.db"
    python = PythonApp(path, proxies[1].url, store_id, "python")

    # Both online, both at work.
    both = anna.start_committing(session("anna", "online", 2), PACE_MS, confirmed=True)
    python.start_committing(as_pairs(session("python", "online", 2)), PACE_MS)
    both.result(CONVERGED_DEADLINE_S)
    told = python.committed(5)
    wait_until_converged(anna, python, 10)

    # Both offline and at work; the Python process is killed meanwhile, then the server.
    for proxy in proxies:
        proxy.cut()
    both = anna.start_committing(session("anna", "apart", 2), PACE_MS)
    python.start_committing(as_pairs(session("python", "apart", 10)))
    told += python.committed(random.randint(3, 20))
    told += python.kill()
    both.result(CONVERGED_DEADLINE_S)
    server.kill()
    server.start()
    python = PythonApp(path, proxies[1].url, store_id, "python")
    [head, upstream, pending] = python.sync_states()
    assert (upstream, head) == (10, 10 + pending)
    python.start_committing([("settingSet", {"key": "last", "value": "python-again"})])
    told += python.committed(1)
    for proxy in proxies:
        proxy.restore()
    wait_until_converged(anna, python, 15 + pending + 1)

    # Every commit is in the log once, and none that the killed process had promised is missing.
    log = flatten(make_client(Generation.V04_HTTP, server.url, store_id).pull())
    assert [event.seq_num for event in log] == list(range(1, 15 + pending + 2))
    mine = [describe(event.name, event.args) for event in log if event.client_id == "python"]
    assert len(mine) == 5 + pending + 1
    assert mine[:5] == told[:5]
    assert set(told) <= set(mine)
    assert len(set(mine)) == len(mine)
    assert sum(event.client_id == "anna" for event in log) == 10
    python.close()


def describe(name: str, args: Any) -> str:
    """As the Python process tells what it has committed."""
    values = json.loads(args) if isinstance(args, str | bytes) else args
    return f"{name[3].lower()}{name[4:]} {values.get('id', values.get('value'))}"
