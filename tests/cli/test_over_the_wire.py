"""Moving in from a running livesync, as a client with a token; and what is told when it does not let us in."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from livesync_trio.cli.doctor import proxy_check
from livesync_trio.client import open_backend_blocking
from livesync_trio.config import Config
from tests.cli.conftest import Livesync
from tests.conformance.events import chain, python_events
from tests.conformance.servers import ServerProcess

TOKEN = {"authToken": "sesame"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that asks for a token, with a store of 250 events."""
    process = ServerProcess(tmp_path, f"sqlite:///{tmp_path}/theirs.db", {"AUTH_TOKEN": "sesame"})
    process.start()
    try:
        with open_backend_blocking(process.url, store_id="notes", payload=TOKEN) as client:
            for first in range(1, 251, 50):
                client.push(python_events(chain(first, 50)))
        yield process
    finally:
        process.stop_if_ours()


def test_with_a_token_everything_comes_in(server: ServerProcess, livesync: Livesync, tmp_path: Path) -> None:
    (tmp_path / "payload.json").write_text(json.dumps(TOKEN))
    ours = ("--payload-file", "payload.json", "--json", "--database-url", "sqlite:///ours.db")
    dry = livesync("import", server.url, "--store", "notes", "--dry-run", *ours)
    assert (dry.returncode, json.loads(dry.stdout)["outcome"]) == (0, "ready")
    done = livesync("import", server.url, "--store", "notes", *ours)
    assert done.returncode == 0, done.stderr
    with open_backend_blocking(server.url, store_id="notes", payload=TOKEN) as client:
        identity = next(client.pull()).backend_id
    assert json.loads(done.stdout)["backendId"] == identity
    assert json.loads(done.stdout)["events"] == 250
    for name in ("theirs", "ours"):
        exported = livesync("export", f"{name}.jsonl", "--store", "notes", "--database-url", f"sqlite:///{name}.db")
        assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "ours.jsonl").read_bytes() == (tmp_path / "theirs.jsonl").read_bytes()


def test_without_a_token_it_is_told(server: ServerProcess, livesync: Livesync, tmp_path: Path) -> None:
    refused = livesync("import", server.url, "--store", "notes", "--database-url", "sqlite:///ours.db")
    assert refused.returncode == 9
    assert len(refused.stderr.splitlines()) == 1
    assert server.url in refused.stderr
    listed = livesync("stores", "--json", "--database-url", "sqlite:///ours.db")
    assert listed.stdout == ""
    nameless = livesync("import", server.url, "--database-url", "sqlite:///ours.db")
    assert nameless.returncode == 2
    assert "--store" in nameless.stderr


class Plane:
    """A control plane that saw the probe come from one address."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    def all(self, path: str, members: str, **query: str | int | None) -> Iterator[bytes]:
        assert (path, members) == ("/connections", "connections")
        return (json.dumps({"address": address}).encode() for address in self._addresses)


@pytest.mark.parametrize(
    ("where", "address", "state"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:5000", "ok"),
        ("https://sync.example.org", "203.0.113.7:5000", "ok"),
        ("https://sync.example.org", "127.0.0.1:5000", "careful"),
        ("https://sync.example.org", "[::1]:5000", "careful"),
    ],
)
def test_a_proxy_that_hides_its_clients_is_noticed(where: str, address: str, state: str) -> None:
    assert proxy_check(Config(), where, Plane(address), "probe").state == state
