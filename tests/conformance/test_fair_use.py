"""A real application that is too fast for its rate: slowed, refused, and everything arrives in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .apps import App, todo_created
from .clients import Generation
from .conftest import MakeClient, StartServer
from .events import chain, numbers
from .waiting import eventually

COMMITS = 13
PACE_MS = 150
CONVERGED_DEADLINE_S = 150.0


@pytest.fixture
def app(node_packages_ready: None, tmp_path: Path) -> Iterator[App]:
    """One application process."""
    started = App("hasty", tmp_path / "hasty.log")
    yield started
    started.close()


def test_an_application_survives_being_refused_for_its_haste(
    start_server: StartServer, app: App, make_client: MakeClient, store_id: str
) -> None:
    # A bucket of ten; then one push every 6 s, of which the server waits for no more than 5.
    server = start_server(LIVESYNC_RATE_STORE="pushes=10/min")
    app.open(server.url, store_id)
    for number in range(COMMITS):
        app.commit(todo_created(f"todo-{number}"), every_ms=PACE_MS)
    eventually(lambda: app.is_settled_at(COMMITS), "everything is confirmed", CONVERGED_DEADLINE_S)
    assert "too-fast" in server.log_tail(1000)
    assert len(app.tables()["todos"]) == COMMITS
    assert numbers(make_client(Generation.V04_HTTP, server.url, store_id).pull()) == list(range(1, COMMITS + 1))


def test_a_client_over_http_is_told_why_it_is_refused(
    start_server: StartServer, make_client: MakeClient, store_id: str
) -> None:
    server = start_server(LIVESYNC_RATE_STORE="pushes=2/h")
    client = make_client(Generation.V04_HTTP, server.url, store_id)
    client.push(chain(1, 1))
    client.push(chain(2, 1))
    refusal = client.refusal_of_push(chain(3, 1))
    assert refusal.tag == "UnknownError"
    assert "Try again in" in refusal.detail["message"]
    assert numbers(client.pull()) == [1, 2]
