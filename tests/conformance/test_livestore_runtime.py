"""End to end: unmodified LiveStore 0.4.0 applications sync through the server and converge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from .apps import App, Commit, setting_set, todo_completed, todo_created
from .clients import Generation
from .conftest import MakeClient, StartServer
from .events import numbers
from .proxy import TcpProxy
from .servers import RunningServer
from .waiting import eventually

PACE_MS = 50
FAST_PACE_MS = 5
FAST_ROUNDS = 2
# After a lost connection the client retries after 1, 2, 4 ... s, its pushes as well.
CONVERGED_DEADLINE_S = 150.0


class StartApp(Protocol):
    """Starts an application process; its name is its client id."""

    def __call__(self, name: str, *, simulation_off: bool = False) -> App: ...


@pytest.fixture
def start_app(node_packages_ready: None, tmp_path: Path) -> Iterator[StartApp]:
    """Application processes that end with the test."""
    started: list[App] = []

    def start(name: str, *, simulation_off: bool = False) -> App:
        app = App(name, tmp_path / f"{name}.log", simulation_off=simulation_off)
        started.append(app)
        return app

    yield start
    for app in started:
        app.close()


def wait_until_converged(apps: Sequence[App], *, head: int, todos: int) -> None:
    """Wait until all have had everything up to ``head`` confirmed, show ``todos`` rows, and the same in every table.

    The tables are waited for as well: a session knows that it is up to date a little before it has materialized it.
    """

    def converged() -> bool:
        if not all(app.is_settled_at(head) for app in apps):
            return False
        tables = [app.tables() for app in apps]
        return len(tables[0]["todos"]) == todos and all(other == tables[0] for other in tables[1:])

    try:
        eventually(converged, f"all apps converge at {head} with {todos} todos", CONVERGED_DEADLINE_S)
    except AssertionError as too_late:
        states = {app.name: (app.sync_states(), app.tables()) for app in apps}
        raise AssertionError(f"{too_late}: {states}") from None


def wait_for_setting(app: App, value: str) -> None:
    """Wait until the setting everybody writes has the value of whoever was ordered last."""
    expected = [{"key": "last", "value": value}]
    eventually(lambda: app.tables()["settings"] == expected, f"{app.name} has the setting {value}")


def session(name: str, round_name: str, count: int) -> list[Commit]:
    """What one user does: new todos, all but the last completed, and always the same setting as everybody else."""
    commits: list[Commit] = []
    for number in range(count):
        todo_id = f"{name}-{round_name}-{number}"
        commits.append(todo_created(todo_id))
        commits.append(setting_set("last", todo_id))
        if number < count - 1:
            commits.append(todo_completed(todo_id))
    return commits


def test_applications_converge_through_offline_work_and_a_killed_server(
    start_app: StartApp,
    start_server: StartServer,
    make_proxy: Callable[[int], TcpProxy],
    make_client: MakeClient,
    store_id: str,
) -> None:
    server = start_server()
    proxy = make_proxy(server.port)
    anna, ben = start_app("anna"), start_app("ben")
    anna.open(server.url, store_id)
    ben.open(proxy.url, store_id)

    # Both online, both at work.
    committing = [
        anna.start_committing(session("anna", "online", 2), PACE_MS, confirmed=True),
        ben.start_committing(session("ben", "online", 2), PACE_MS, confirmed=True),
    ]
    for each in committing:
        each.result(CONVERGED_DEADLINE_S)
    wait_until_converged([anna, ben], head=10, todos=4)

    # Ben is offline, and both go on.
    proxy.cut()
    committing = [
        anna.start_committing(session("anna", "apart", 2), PACE_MS),
        ben.start_committing(session("ben", "apart", 2), PACE_MS),
    ]
    for each in committing:
        each.result(CONVERGED_DEADLINE_S)
    wait_until_converged([anna], head=15, todos=6)
    assert ben.tables() != anna.tables()
    proxy.restore()
    wait_until_converged([anna, ben], head=20, todos=8)
    # Ben was rebased on top of Anna, whatever the clock said when they typed.
    wait_for_setting(anna, "ben-apart-1")

    # The server is killed under them, both go on, and it comes back.
    committing = [anna.start_committing(session("anna", "killed", 2), PACE_MS)]
    server.kill()
    committing.append(ben.start_committing(session("ben", "killed", 2), PACE_MS))
    for each in committing:
        each.result(CONVERGED_DEADLINE_S)
    server.start()
    wait_until_converged([anna, ben], head=30, todos=12)

    # A third starts cold.
    carol = start_app("carol")
    carol.open(server.url, store_id)
    wait_until_converged([anna, ben, carol], head=30, todos=12)
    carol.commit(todo_created("carol-1"), every_ms=PACE_MS)
    wait_until_converged([anna, ben, carol], head=31, todos=13)

    # Every commit is there once: the tables say so, and so does the log.
    assert sum(todo["completed"] for todo in carol.tables()["todos"]) == 6
    plain = make_client(Generation.V04_HTTP, server.url, store_id)
    assert numbers(plain.pull()) == list(range(1, 32))


def test_application_that_was_closed_offline_brings_its_work_along(
    start_app: StartApp,
    shared_server: RunningServer,
    make_proxy: Callable[[int], TcpProxy],
    store_id: str,
    tmp_path: Path,
) -> None:
    proxy = make_proxy(int(shared_server.url.rsplit(":", 1)[1]))
    directory = str(tmp_path / "anna-disk")
    anna, ben = start_app("anna"), start_app("ben")
    anna.open(proxy.url, store_id, directory=directory)
    ben.open(shared_server.url, store_id)
    anna.commit(*session("anna", "online", 1), every_ms=PACE_MS)
    wait_until_converged([anna, ben], head=2, todos=1)
    proxy.cut()
    anna.commit(*session("anna", "offline", 1), every_ms=PACE_MS)
    anna.shutdown()
    ben.commit(*session("ben", "meanwhile", 1), every_ms=PACE_MS)
    wait_until_converged([ben], head=4, todos=2)
    proxy.restore()
    anna.open(proxy.url, store_id, directory=directory)
    wait_until_converged([anna, ben], head=6, todos=3)
    wait_for_setting(ben, "anna-offline-0")


def test_applications_without_the_shipped_simulation_converge_at_a_fast_pace(
    start_app: StartApp, shared_server: RunningServer, store_id: str
) -> None:
    """The same runtime with its simulation off: where the published one does not converge, it is not the server."""
    apps = [start_app("anna", simulation_off=True), start_app("ben", simulation_off=True)]
    for round_number in range(FAST_ROUNDS):
        for app in apps:
            app.open(shared_server.url, f"{store_id}-{round_number}")
        committing = [app.start_committing(session(app.name, "fast", 10), FAST_PACE_MS) for app in apps]
        for each in committing:
            each.result(CONVERGED_DEADLINE_S)
        wait_until_converged(apps, head=2 * 29, todos=20)
        for app in apps:
            app.shutdown()
    for app in apps:
        assert "simulation switched off" in app.driver.log_tail(10_000)
