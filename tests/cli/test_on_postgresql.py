"""Commands that change a PostgreSQL database while servers use it: clients learn of it at once."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from livesync_trio.client import BackendIdMismatch, open_backend_blocking
from livesync_trio.model import StoreId
from tests.cli.conftest import Livesync, push
from tests.conformance.events import chain, python_events
from tests.conformance.servers import ServerProcess
from tests.postgres.server import fresh_schema

NOTES = StoreId("notes")


@pytest.fixture
def database(tmp_path: Path) -> str:
    return fresh_schema(str(tmp_path))


@pytest.fixture
def server(tmp_path: Path, database: str) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path, database)
    process.start()
    yield process
    process.stop_if_ours()


def history(server: ServerProcess) -> tuple[str | None, int]:
    """Identity and number of events, as a client sees them."""
    with open_backend_blocking(server.url, store_id=NOTES) as client:
        pages = list(client.pull())
    return pages[-1].backend_id, sum(len(page.events) for page in pages)


def test_a_restore_beside_servers(server: ServerProcess, database: str, livesync: Livesync, tmp_path: Path) -> None:
    push(server.url, "notes", 1, 20)
    file = str(tmp_path / "backup.jsonl")
    assert livesync("backup", file, "--database-url", database).returncode == 0
    with open_backend_blocking(server.url, store_id=NOTES) as client:
        identity = next(client.pull()).backend_id
        client.push(python_events(chain(21, 5)), identity)
        done = livesync("restore", file, "--store", "notes", "--json", "--database-url", database)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["lostEvents"] == 5
        with pytest.raises(BackendIdMismatch):
            client.push(python_events(chain(26, 1)), identity)
    renewed, events = history(server)
    assert renewed == json.loads(done.stdout)["backendId"] != identity
    assert events == 20
    push(server.url, "notes", 21, 1)
    assert livesync("verify", "--database-url", database).stdout == "1 store, 21 events: all is well\n"


def test_an_import_and_a_reset_beside_servers(
    server: ServerProcess, database: str, livesync: Livesync, tmp_path: Path
) -> None:
    push(server.url, "notes", 1, 20)
    file = str(tmp_path / "out.jsonl")
    assert livesync("export", file, "--database-url", database).returncode == 0
    identity, _ = history(server)
    assert livesync("reset", "notes", "--yes", "--database-url", database).returncode == 0
    emptied, events = history(server)
    assert (emptied != identity, events) == (True, 0)
    assert livesync("import", file, "--database-url", database).returncode == 0
    assert history(server) == (identity, 20)
