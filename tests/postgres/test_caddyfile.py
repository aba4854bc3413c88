"""`deploy/Caddyfile` with a real Caddy: the clients of a store meet on one server, and move when it goes."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.postgres.server import free_port

ROOT = Path(__file__).resolve().parents[2]
CADDYFILE = ROOT / "deploy" / "Caddyfile"
CADDY = shutil.which("caddy")
OLDEST = (2, 7)
"""The first Caddy that balances by a parameter of the query."""


def _version() -> tuple[int, ...]:
    if CADDY is None:
        return (0,)
    text = subprocess.run([CADDY, "version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0,)


needs_caddy = pytest.mark.skipif(_version() < OLDEST, reason="Caddy 2.7 or newer is not installed")


@pytest.fixture
def upstreams() -> Iterator[list[ThreadingHTTPServer]]:
    """Two servers that answer with their port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = str(self.connection.getsockname()[1]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield servers
    for server in servers:
        server.shutdown()
        server.server_close()


def _get(port: int, path: str) -> str | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.read().decode() if response.status == 200 else None
    except OSError:
        return None
    finally:
        connection.close()


@needs_caddy
def test_the_clients_of_a_store_meet_on_one_server(upstreams: list[ThreadingHTTPServer], tmp_path: Path) -> None:
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "SITE": f"http://127.0.0.1:{port}",
        "SERVERS": " ".join(f"127.0.0.1:{server.server_address[1]}" for server in upstreams),
    }
    command = [str(CADDY), "run", "--config", str(CADDYFILE), "--adapter", "caddyfile"]
    with (tmp_path / "log").open("wb") as log:
        caddy = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 15
        while _get(port, "/") is None:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        met = {store: {_get(port, f"/?storeId={store}&transport=ws") for _ in range(5)} for store in range(30)}
        assert {len(servers) for servers in met.values()} == {1}
        assert len(set().union(*met.values())) == 2
    finally:
        caddy.kill()
        caddy.wait()


def test_the_caddyfile_balances_by_the_parameter_that_clients_send() -> None:
    """Also where there is no Caddy: `storeId`, as SPEC 3.1 spells it."""
    assert re.search(r"^\s*lb_policy query storeId$", CADDYFILE.read_text(), re.MULTILINE)
