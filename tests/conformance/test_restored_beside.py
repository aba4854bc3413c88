"""An unmodified LiveStore 0.4.0 application with work of its own while its log is restored beside the running server.

Only PostgreSQL allows that: an SQLite file belongs to its server.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from livesync_trio.client import open_backend_blocking
from tests.postgres.server import fresh_schema

from .apps import App, todo_created
from .events import JsonObject, event, python_events
from .proxy import TcpProxy
from .servers import ServerProcess
from .waiting import eventually

STORE = "restored"
LIMIT_S = 120.0


def livesync(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "livesync_trio", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def todo(number: int) -> JsonObject:
    args = {"id": f"t{number}", "text": f"Todo {number}"}
    return event(number, number - 1, name="v1.TodoCreated", args=args)


def ids(app: App) -> set[str]:
    return {row["id"] for row in app.tables()["todos"]}


def test_unpushed_work_survives_a_complete_restore(
    node_packages_ready: None, make_proxy: Callable[[int], TcpProxy], tmp_path: Path
) -> None:
    """It was told of a mismatch of an identity with itself, upon which a client wipes what it has."""
    # One log, as of two moments: the second database holds its beginning, under the same identity.
    source = fresh_schema(str(tmp_path / "first"))
    first = ServerProcess(tmp_path, source)
    first.start()
    beginning, whole = str(tmp_path / "beginning.jsonl"), str(tmp_path / "whole.jsonl")
    try:
        with open_backend_blocking(first.url, store_id=STORE) as plain:
            plain.push(python_events([todo(number) for number in range(1, 6)]))
            livesync("export", beginning, "--database-url", source)
            identity = next(plain.pull()).backend_id
            plain.push(python_events([todo(number) for number in range(6, 11)]), identity)
        livesync("backup", whole, "--database-url", source)
    finally:
        first.stop_if_ours()
    database = fresh_schema(str(tmp_path / "second"))
    livesync("import", beginning, "--database-url", database)

    server = ServerProcess(tmp_path, database)
    server.start()
    app = App("anna", tmp_path / "anna.log")
    try:
        proxy = make_proxy(server.port)
        app.open(proxy.url, STORE)
        eventually(lambda: app.is_settled_at(5), "the application has the beginning", LIMIT_S)

        proxy.mute()  # what it pushes from now on arrives nowhere, but it hears everything
        app.commit(todo_created("mine-1"), todo_created("mine-2"), every_ms=50)
        assert app.sync_states()["leader"]["pending"] == 2
        livesync("restore", whole, "--store", STORE, "--complete", "--database-url", database)
        eventually(lambda: len(ids(app)) == 12, "the application has read on", LIMIT_S)
        states = app.sync_states()
        assert (states["leader"]["upstreamHead"], states["leader"]["pending"]) == (10, 2)

        proxy.cut()
        proxy.restore()
        eventually(lambda: app.is_settled_at(12), "its own work is pushed", LIMIT_S)
        assert ids(app) == {f"t{number}" for number in range(1, 11)} | {"mine-1", "mine-2"}
        with open_backend_blocking(server.url, store_id=STORE) as plain:
            pages = list(plain.pull())
        assert pages[-1].backend_id == identity
        assert sum(len(page.events) for page in pages) == 12
    finally:
        app.close()
        server.stop_if_ours()
