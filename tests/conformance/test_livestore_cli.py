"""LiveStore's own command line (`@livestore/cli` 0.4.0) against this server, as `docs/livestore-cli.md` shows it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import StartServer
from .node_packages import CLIENTS
from .servers import RunningServer

pytestmark = pytest.mark.usefixtures("node_packages_ready")

PATIENCE_S = 120
EVENTS = [
    {
        "name": "v1.TodoCreated",
        "args": {"id": "t1", "text": 'quotes " and \\ and \u2028 and 😀', "more": [1, 2.5, None, {"deep": True}]},
        "seqNum": 1,
        "parentSeqNum": 0,
        "clientId": "a client",
        "sessionId": "s1",
    },
    {"name": "v1.Unknown", "args": {}, "seqNum": 2, "parentSeqNum": 1, "clientId": "another", "sessionId": "s2"},
]


def livestore(server: RunningServer, payload: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `livestore sync`."""
    directory = CLIENTS / "runtime-0.4"
    return subprocess.run(
        [str(directory / "node_modules/.bin/livestore"), "sync", *arguments],
        cwd=directory,
        env={**os.environ, "SYNC_URL": server.url.replace("http", "ws", 1), "SYNC_PAYLOAD": json.dumps(payload)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_what_it_imports_it_exports(start_server: StartServer, tmp_path: Path) -> None:
    """It waits for a second Pong before its client asks for one (SPEC 3.6)."""
    given, taken = tmp_path / "given.json", tmp_path / "taken.json"
    exported = {"version": 1, "storeId": "s", "exportedAt": "2026-01-01T00:00:00.000Z"}
    given.write_text(json.dumps({**exported, "eventCount": len(EVENTS), "events": EVENTS}), encoding="utf-8")
    token, where = "a token that is long enough", ("--config", "cli-config.mjs", "--store-id", "s")
    server = start_server(AUTH_TOKEN=token)
    imported = livestore(server, {"authToken": token}, "import", *where, str(given))
    assert imported.returncode == 0, imported.stdout
    told = livestore(server, {"authToken": token}, "export", *where, str(taken))
    assert told.returncode == 0, told.stdout
    assert json.loads(taken.read_text(encoding="utf-8"))["events"] == EVENTS
