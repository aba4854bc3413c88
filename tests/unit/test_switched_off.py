"""A capability that is switched off costs nothing: what it is made of is not even loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from livesync_trio.errors import RULES, Kind
from livesync_trio.storage.url import engine_from_url

REPOSITORY = Path(__file__).parents[2]
OF_CAPABILITIES = (
    *("livesync_trio.admin", "quart", "quart_trio", "hypercorn", "werkzeug", "jinja2"),  # the control plane
    *("livesync_trio.operators", "argon2"),  # the console
    *("livesync_trio.api", "jsonschema_rs"),  # the HTTP API, schemas of events
    *("livesync_trio.delivery.service", "httpx", "httpcore", "standardwebhooks"),  # webhooks
    *("livesync_trio.feed", "sqlglot"),  # the change feed
    *("livesync_trio.storage.postgresql", "psycopg"),  # PostgreSQL
    *("livesync_trio.backups", "livesync_trio.archive"),  # backups, moving in
    *("livesync_trio.traces.spans", "opentelemetry", "prometheus_client", "google"),  # traces, metrics
    *("livesync_trio.client", "livesync_trio.livestore", "trio_websocket", "apsw"),  # Python as a client
)
_PROGRAM = """
import json, sys, trio
from livesync_trio.app.server import Server
from livesync_trio.cli import main as command  # the process of `livesync serve`
from livesync_trio.config import Config
from livesync_trio.hooks import Hooks
from livesync_trio.storage.url import engine_from_url

async def main():
    Server(Config(), Hooks(), engine_from_url("sqlite:///none.db"))

trio.run(main)
print(json.dumps(list(sys.modules)))
"""


def test_a_server_loads_only_what_it_is_asked_for() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    loaded = json.loads(ended.stdout)
    assert "livesync_trio.storage.sqlite.engine" in loaded
    assert [name for name in loaded if name.startswith(tuple(f"{one}." for one in OF_CAPABILITIES))] == []
    assert sorted(set(OF_CAPABILITIES) & set(loaded)) == []


OF_THE_SERVER = (
    *("trio", "structlog", "rich", "httpx", "trio_websocket"),
    *("livesync_trio.client", "livesync_trio.connection", "livesync_trio.store", "livesync_trio.telemetry"),
)
"""What a command that only looks does without: it is called from scripts, again and again."""

_COMMAND = """
import json, sys
from livesync_trio.cli.main import main

code = main(sys.argv[1:])
print(json.dumps([code, *sys.modules]), file=sys.stderr)
"""


@pytest.mark.parametrize("command", ["--version", "stores --help", "stores", "events notes", "info", "config"])
def test_a_command_that_looks_loads_no_server(command: str, tmp_path: Path) -> None:
    database = tmp_path / "notes.db"
    engine = engine_from_url(f"sqlite:///{database}")
    engine.open()
    engine.close()
    environment = {**os.environ, "LIVESYNC_DATABASE_URL": f"sqlite:///{database}", "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(
        [sys.executable, "-c", _COMMAND, *command.split()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    code, *loaded = json.loads(ended.stderr.splitlines()[-1])
    assert code == (RULES[Kind.NO_SUCH_STORE].exit_code if command.startswith("events") else 0), ended.stderr
    assert "livesync_trio.cli.main" in loaded
    assert [name for name in loaded if f"{name}.".startswith(tuple(f"{one}." for one in OF_THE_SERVER))] == []
