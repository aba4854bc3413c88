"""`deploy/Caddyfile` with a real Caddy: the clients of a store meet on one server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.deploy.caddy import ShippedCaddy
from tests.deploy.processes import answers


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


def test_the_clients_of_a_store_meet_on_one_server(upstreams: list[ThreadingHTTPServer], tmp_path: Path) -> None:
    caddy = ShippedCaddy(tmp_path, [server.server_address[1] for server in upstreams])
    try:
        met = {store: {answers(caddy.port, f"/?storeId={store}&transport=ws") for _ in range(5)} for store in range(30)}
    finally:
        caddy.close()
    assert {len(servers) for servers in met.values()} == {1}
    assert len(set().union(*met.values())) == 2
