"""Through PgBouncer in transaction mode, where two statements of ours may run in two different sessions."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import trio

from livesync_trio.storage.postgresql.engine import PostgresEngine
from tests.conformance.servers import ServerProcess, free_port
from tests.postgres.peers import Answer, Follower, peer
from tests.postgres.server import PostgresServer, as_other_user, base_directory, die_with_parent, give_away
from tests.storage.making import Database, run_of, stored

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed")


@pytest.fixture
def pooled(private_server: PostgresServer, database: str) -> Iterator[str]:
    """URL of the database through a pooler that gives every transaction another session."""
    directory = base_directory() / f"pgbouncer-{database}"
    directory.mkdir()
    give_away(directory)
    port = free_port()
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": "transaction",
        "server_round_robin": 1,
        "default_pool_size": 4,
        "min_pool_size": 4,
        "logfile": directory / "log",
        "pidfile": directory / "pid",
    }
    lines = [f"[databases]\n* = host=127.0.0.1 port={private_server.port} user=postgres\n[pgbouncer]"]
    (directory / "ini").write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in settings.items())]))
    process = subprocess.Popen(
        [str(PGBOUNCER), str(directory / "ini")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - one system call, nothing of Python
        **as_other_user(),  # type: ignore[call-overload]
    )
    url = private_server.url(database=database, port=port)
    _wait_for(url, Path(directory / "log"))
    yield url
    process.terminate()
    process.wait()


def _wait_for(url: str, log: Path) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise RuntimeError(log.read_text()) from None
            time.sleep(0.05)


def test_the_engine_needs_no_session(pooled: str) -> None:
    db = Database(lambda: PostgresEngine(pooled))
    states = {f"s{i}": db.open(f"s{i}") for i in range(5)}
    for round_ in range(6):
        for store, state in states.items():
            states[store] = db.append(store, state, run_of(3, after=state.head))
            assert len(db.read(states[store])) == 3 * (round_ + 1)
    old = states.pop("s0")
    assert db.refused("s1", old, run_of(1, after=old.head)) == states["s1"]
    db.reset("s0")
    assert db.writer.clear_replaced(100) == 18
    db.restart()
    assert db.read(db.open("s1")) == stored([run_of(18)])
    db.stop()


async def test_servers_behind_it_listen_directly(
    private_server: PostgresServer, database: str, pooled: str, tmp_path: Path
) -> None:
    servers = []
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        settings = {"LIVESYNC_LISTEN_URL": private_server.url(database=database)}
        servers.append(ServerProcess(tmp_path / name, pooled, settings))
        servers[-1].start()
    follower = Follower("s")
    async with trio.open_nursery() as nursery, peer(servers[0].url, "s") as pusher:
        nursery.start_soon(follower.run, servers[1].url)
        before_s = trio.current_time()
        for number in range(1, 31):
            assert await pusher.push(number - 1, number) == Answer("accepted")
            await follower.reached(number)
        assert trio.current_time() - before_s < 10, "news comes late"
        nursery.cancel_scope.cancel()
    for server in servers:
        server.stop_if_ours()
    assert follower.numbers == list(range(1, 31))
