"""A new version takes over under real clients at work: they notice nothing but a reconnect, and nothing is lost.

One server on one SQLite file, whose successor waits for it; and several on PostgreSQL behind the Caddyfile that is
shipped, replaced one after the other.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.clients import Generation
from tests.conformance.conftest import MakeClient
from tests.conformance.events import chain, flatten
from tests.conformance.servers import free_port
from tests.conformance.waiting import eventually
from tests.deploy.caddy import ShippedCaddy
from tests.deploy.conftest import Serve
from tests.deploy.load import Writer
from tests.deploy.processes import Served
from tests.postgres.server import fresh_schema

ROOT = Path(__file__).resolve().parents[2]
SERVE = [sys.executable, "-m", "livesync_trio", "serve"]
ENDED_LIMIT_S = 90

HELD = "held"
HOOK = f"""
from pathlib import Path

def on_push(batch, context):
    if context.store_id == {HELD!r} and Path("gate").exists():
        Path("gate").read_text()
"""
"""A push to one store takes until the test lets it go on."""

Deploy = Callable[..., Served]


@pytest.fixture
def deploy(serve: Serve, tmp_path: Path) -> Deploy:
    """Starts the next version on a port and a database; returns when it answers."""

    (tmp_path / "rules.py").write_text(HOOK)

    def start(port: int, database_url: str, **how: Any) -> Served:
        settings = {
            "PYTHONPATH": str(ROOT),
            "PORT": str(port),
            "DATABASE_URL": database_url,
            "LIVESYNC_HOOKS": "rules.py",
            "LIVESYNC_HOOK_LIMIT_S": "60",
            "LIVESYNC_DRAIN_LIMIT_S": "120",
        }
        return serve(SERVE, port, tmp_path, settings, **how)

    return start


@pytest.fixture
def start_writers(make_client: MakeClient, store_id: str) -> Iterator[Callable[[str], list[Writer]]]:
    """Real clients of both transports of 0.4, each with a store of its own that another client follows."""
    with ExitStack() as at_the_end:

        def start(url: str) -> list[Writer]:
            writers = []
            for number, generation in enumerate([Generation.V04_WS, Generation.V04_HTTP] * 2):
                store = f"{store_id}-{number}"
                follower = make_client(Generation.V04_WS, url, store).follow(resume=True)
                follower.wait_for_first_page()
                writers.append(Writer(make_client(generation, url, store), follower))
                at_the_end.callback(writers[-1]._stop.set)
            return writers

        yield start


def all_is_there(writers: list[Writer], make_client: MakeClient, url: str) -> None:
    """Every acknowledged event is in the log exactly once, and nothing else is."""
    for writer in writers:
        writer.finish()
        stored = flatten(make_client(Generation.V04_HTTP, url, writer.client.store_id).pull())
        assert [each.seq_num for each in stored] == list(range(1, writer.acknowledged + 1))
        assert [f'"id":"e{each.seq_num}"' in (each.args or "") for each in stored] == [True] * len(stored)


def test_the_next_process_waits_for_the_one_that_drains(
    deploy: Deploy, start_writers: Callable[[str], list[Writer]], make_client: MakeClient, store_id: str, tmp_path: Path
) -> None:
    port, database_url = free_port(), f"sqlite:///{tmp_path}/livesync.db"
    old = deploy(port, database_url)
    writers = start_writers(old.url)
    for writer in writers:
        writer.goes_on()
    os.mkfifo(tmp_path / "gate")
    in_flight = make_client(Generation.V04_HTTP, old.url, HELD).start_push(chain(1, 1))
    with (tmp_path / "gate").open("w"):  # opens when the hook stands at it
        old.process.send_signal(signal.SIGTERM)
        new = deploy(port, database_url, wait=False)
        eventually(lambda: "still finishes its work" in new.log.read_text(), "the new one waits", ENDED_LIMIT_S)
        assert not in_flight.done()
        (tmp_path / "gate").unlink()
    in_flight.result(ENDED_LIMIT_S)  # begun before the signal, so it is finished
    assert old.process.wait(ENDED_LIMIT_S) == 0
    new.becomes_ready()
    for writer in writers:
        writer.goes_on()
    all_is_there(writers, make_client, new.url)
    assert new.stop() == 0


def test_two_servers_behind_caddy_are_replaced_one_after_the_other(
    deploy: Deploy, start_writers: Callable[[str], list[Writer]], make_client: MakeClient, store_id: str, tmp_path: Path
) -> None:
    database_url = fresh_schema(store_id)
    servers = [deploy(free_port(), database_url) for _ in range(2)]
    caddy = ShippedCaddy(tmp_path, [server.port for server in servers])
    try:
        writers = start_writers(caddy.url)
        for number, old in enumerate(servers):
            for writer in writers:
                writer.goes_on()
            assert old.stop() == 0
            servers[number] = deploy(old.port, database_url)
        for writer in writers:
            writer.goes_on()
        all_is_there(writers, make_client, caddy.url)
    finally:
        caddy.close()
