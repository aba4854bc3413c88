"""`livesync health`, against a server that says yes, says no, or is not there."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from livesync_trio.cli.main import main
from tests.conformance.servers import free_port
from tests.security.certificates import write_certificate

Answering = Callable[..., int]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """Starts a server that answers `/health` with a status; gives its port."""
    servers: list[HTTPServer] = []

    def start(status: int, context: ssl.SSLContext | None = None) -> int:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/health" else 404)
                self.end_headers()
                self.wfile.write(b'{"status": "as it is"}')

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return int(server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_the_exit_code_tells(
    answering: Answering, capsys: pytest.CaptureFixture[str], status: int, code: int, host: str
) -> None:
    assert main(["health", "--host", host, "--port", str(answering(status))]) == code
    assert capsys.readouterr() == ('{"status": "as it is"}\n', "")


def test_it_finds_the_server_by_the_same_environment(answering: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", str(answering(200)))
    assert main(["health"]) == 0


def test_a_server_of_tls(answering: Answering, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    flags = ["--tls-cert", str(certificate), "--tls-key", str(key)]
    assert main(["health", "--port", str(answering(200, context)), *flags]) == 0


def test_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert main(["health", "--port", str(port)]) == 1
    assert f"no answer from 127.0.0.1:{port}" in capsys.readouterr().err
