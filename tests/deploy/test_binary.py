"""The single executable in an empty environment: no Python, no variables, an empty directory, an ordinary user.

`scripts/build-binary --check` builds it and runs this, for which it names it in `LIVESYNC_BINARY`. Without that nothing
here is run, and the end of the test run says so (conftest.py): building takes a minute of two cores.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import pytest

from livesync_trio.cli.main import livesync
from tests.backups.bucket_server import bucket_server
from tests.conformance.clients import Generation
from tests.conformance.conftest import MakeClient
from tests.conformance.events import chain, numbers
from tests.conformance.servers import free_port
from tests.conformance.waiting import eventually
from tests.deploy.conftest import BINARY_VARIABLE, Serve
from tests.deploy.manager import heard_until
from tests.deploy.processes import Served, answers, health
from tests.postgres.server import as_other_user, fresh_schema, give_away

ROOT = Path(__file__).resolve().parents[2]
SECRET = "the operator's own"

HOOKS = """
import asyncio, concurrent.futures, csv, ctypes, datetime, decimal, email.mime.multipart, fractions, hmac, http.server
import ipaddress, json, logging.handlers, multiprocessing.pool, smtplib, sqlite3, ssl, statistics, tomllib
import unicodedata, urllib.request, uuid, wsgiref.simple_server, xml.etree.ElementTree, xmlrpc.client, zipfile, zoneinfo

def validate_payload(payload, context):
    with sqlite3.connect(":memory:") as connection:
        (expected,) = connection.execute("SELECT lower(hex('key'))").fetchone()
    if payload != {"key": expected}:
        raise PermissionError("the key is wrong")
"""

StartBinary = Callable[..., Served]


@pytest.fixture(scope="session")
def built() -> Path:
    """The executable."""
    return ROOT / os.environ[BINARY_VARIABLE]


@pytest.fixture
def target() -> Iterator[Path]:
    """An empty directory of an ordinary user's own."""
    directory = Path(tempfile.mkdtemp(prefix="livesync-target-"))
    give_away(directory)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def start(built: Path, target: Path, serve: Serve) -> StartBinary:
    """Copies the one file to the target and runs it there; settings are all of the environment."""

    def run(**settings: str) -> Served:
        executable = shutil.copy(built, target / "livesync")
        (target / "tmp").mkdir()
        give_away(target / "tmp")
        port = free_port()
        environment = {"TMPDIR": str(target / "tmp"), "PATH": str(target), "PORT": str(port), **settings}
        return serve([executable, "serve"], port, target, environment, **as_other_user())

    return run


def test_a_client_of_every_generation_syncs_and_sigterm_ends_it(
    start: StartBinary, target: Path, make_client: MakeClient, store_id: str
) -> None:
    server = start()
    follower = make_client(Generation.V04_WS, server.url, store_id).follow()
    follower.wait_for_first_page()
    for number, generation in enumerate(Generation):
        make_client(generation, server.url, store_id).push(chain(1 + 2 * number, 2))
    follower.wait_for_numbers([1, 2, 3, 4, 5, 6])
    assert server.stop() == 0
    assert list((target / "tmp").iterdir()) == [], "it unpacked itself and left that behind"
    assert (target / "livesync.db").stat().st_uid == target.stat().st_uid


def test_it_brings_what_postgresql_needs(start: StartBinary, make_client: MakeClient, store_id: str) -> None:
    server = start(DATABASE_URL=fresh_schema(store_id))
    assert (health(server.port) or {})["engine"] == "postgresql"
    client = make_client(Generation.V04_HTTP, server.url, store_id)
    client.push(chain(1, 3))
    assert numbers(client.pull()) == [1, 2, 3]
    assert server.stop() == 0


def test_backups_go_into_a_bucket_and_come_back(
    start: StartBinary, target: Path, make_client: MakeClient, store_id: str
) -> None:
    """Its library is native code, which has to be in the executable, too."""
    server = start()
    make_client(Generation.V04_HTTP, server.url, store_id).push(chain(1, 3))
    (target / "buckets").mkdir()
    with bucket_server(target / "buckets") as storage:

        def livesync(*arguments: str) -> str:
            done = subprocess.run(
                [str(target / "livesync"), *arguments],
                cwd=target,
                env={"TMPDIR": str(target / "tmp"), "PATH": str(target), **storage.settings},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert "1 store, 3 events" in livesync("backup", "s3://backups/livesync-20260301T000000Z.jsonl.gz")
        assert "livesync-20260301T000000Z.jsonl.gz" in livesync("backups", "s3://backups")
        told = livesync("verify", "--file", "s3://backups/livesync-20260301T000000Z.jsonl.gz")
        assert told == "1 store, 3 events: all is well\n"


def test_hooks_are_a_python_file_and_find_the_standard_library(
    start: StartBinary, target: Path, make_client: MakeClient, store_id: str
) -> None:
    (target / "rules.py").write_text(HOOKS)
    server = start(LIVESYNC_HOOKS="rules.py")
    make_client(Generation.V04_HTTP, server.url, store_id, payload={"key": "6b6579"}).push(chain(1, 1))
    stranger = make_client(Generation.V04_HTTP, server.url, store_id, payload={"key": "x"})
    assert "the key is wrong" in str(stranger.refusal_of_push(chain(2, 1)))


def test_the_control_plane_is_in_it(start: StartBinary) -> None:
    port = free_port()
    start(ADMIN_SECRET=SECRET, ADMIN_PORT=str(port))
    authorization = {"Authorization": f"Bearer {SECRET}"}
    eventually(lambda: answers(port, "/metrics", **authorization) is not None, "the control plane answers")
    assert b"livesync_" in (answers(port, "/metrics", **authorization) or b"")
    assert answers(port, "/metrics") is None


def test_traces_are_in_it(start: StartBinary, make_client: MakeClient, store_id: str) -> None:
    received = threading.Event()

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if self.path == "/v1/traces" and b"livesync" in self.rfile.read(int(self.headers["Content-Length"])):
                received.set()
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, args=(0.01,), daemon=True).start()
        endpoint = f"http://127.0.0.1:{collector.server_address[1]}"
        server = start(LIVESYNC_TRACES="true", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
        make_client(Generation.V04_HTTP, server.url, store_id).push(chain(1, 1))
        assert server.stop() == 0  # what is not sent yet is sent then
        assert received.wait(10)
        collector.shutdown()


def test_systemd_can_stop_and_reload_what_is_two_processes(
    start: StartBinary, target: Path, make_client: MakeClient, store_id: str
) -> None:
    """As with `KillMode=mixed` and `NotifyAccess=all`: signals go to the first process, word comes from the second."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(target / "notify"))
        give_away(target / "notify")
        server = start(NOTIFY_SOCKET=str(target / "notify"), LIVESYNC_AUDIT_LOG="audit.jsonl")
        follower = make_client(Generation.V04_WS, server.url, store_id).follow()
        follower.wait_for_first_page()
        told = heard_until(manager, "READY=1")
        server.process.send_signal(signal.SIGHUP)
        told += heard_until(manager, "READY=1")
        server.process.send_signal(signal.SIGTERM)
        told += heard_until(manager, "STOPPING=1")
        assert server.process.wait(30) == 0
    words = [message[0] for message in told]
    assert [word for word in words if not word.startswith(("STATUS=", "WATCHDOG=", "EXTEND_TIMEOUT_USEC="))] == [
        *("READY=1", "RELOADING=1", "READY=1", "STOPPING=1")
    ]
    assert "second signal: stopping" not in server.log.read_text()


@pytest.mark.parametrize("command", livesync.list_commands(click.Context(livesync)))
def test_every_command_is_in_it(built: Path, target: Path, command: str) -> None:
    """Most are loaded by name only when they are called, which no import tells."""
    run = subprocess.run(
        [built, command, "--help"], cwd=target, env={}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert f"livesync {command}" in run.stdout


def test_a_mistake_is_told_in_a_line(built: Path, target: Path) -> None:
    run = subprocess.run(
        [built, "serve"], cwd=target, env={"PORT": "many"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 2
    assert "PORT: 'many' is not a whole number" in run.stderr
    assert "Traceback" not in run.stderr
