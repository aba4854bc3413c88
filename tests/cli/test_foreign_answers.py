"""A server behind --url that is none of ours, or of another version: a sentence, never a fault of the program."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from livesync_trio.errors import RULES, Kind
from tests.archive.conftest import Run

ANSWERS: dict[str, Any] = {
    "nothing": {},
    "no array": {"stores": 1, "connections": None, "settings": "x", "events": {}, "next": 0},
    "empty entries": {key: [{}] for key in ("stores", "connections", "settings", "events")} | {"next": None},
    "entries of another kind": {
        "stores": [{"storeId": "s", "events": "many", "head": None, "bytes": "x", "lastPushAt": 5, "peers": []}],
        "connections": [{"connectionId": 1, "storeId": 2, "queuedBytes": "x", "since": 3}],
        "settings": [{"name": 1, "origin": 2}],
        "events": [5],
        "next": None,
    },
}
COMMANDS = (
    ("stores",),
    ("events", "s"),
    ("connections",),
    ("config",),
    ("reset", "s", "--yes"),
    ("delete", "s", "--yes"),
    ("rename", "s", "t", "--yes"),
    ("freeze", "s"),
)


@pytest.fixture(params=list(ANSWERS))
def foreign(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a server that gives one answer to whatever it is asked."""
    body = json.dumps(ANSWERS[request.param]).encode()

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Nobody wants to know."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_it_is_told_as_what_it_is(
    run: Run, foreign: str, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADMIN_SECRET", "correct horse battery staple")
    code, _, error = run(*command, "--url", foreign)
    assert "a fault of the program" not in error
    assert code in {0, RULES[Kind.SERVER_UNREACHABLE].exit_code, RULES[Kind.NO_SUCH_STORE].exit_code}, error
