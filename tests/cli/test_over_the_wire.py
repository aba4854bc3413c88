"""Moving in from a running livesync, as a client with a token; and what is told when it does not let us in."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from livesync_trio.archive.entries import Broken, Entry
from livesync_trio.archive.moving import Wishes, move_in
from livesync_trio.archive.sources import SourceStore
from livesync_trio.archive.sources.wire import RESET, OverTheWire
from livesync_trio.cli.control_plane import ControlPlane
from livesync_trio.cli.doctor import proxy_check
from livesync_trio.client import open_backend_blocking
from livesync_trio.config import Config, Secret
from livesync_trio.model import BackendId, StoreId
from tests.archive.conftest import Run
from tests.archive.logs import Opened, plain_log, put
from tests.cli.conftest import SECRET, Livesync, Site
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


def test_a_mistyped_name_makes_nothing_where_the_source_is_ours(site: Site, run: Run, tmp_path: Path) -> None:
    ours = ("--database-url", f"sqlite:///{tmp_path}/ours.db")
    for dry in (("--dry-run",), ()):
        code, _, error = run("import", site.server.url, "--store", "nots", *dry, *ours)
        assert (code, "There is no store 'nots'" in error) == (6, True), error
    _, known, _ = run("stores", "--json", "--database-url", site.database_url)
    assert sorted(json.loads(line)["storeId"] for line in known.splitlines()) == ["a b", "notes"]
    code, _, error = run("import", site.server.url, "--store", "notes", *ours)
    assert (code, error) == (0, "")


EMPTY = {"batch": [], "pageInfo": {"_tag": "NoMore"}, "backendId": "made-by-asking"}
MISMATCH = {"_tag": "BackendIdMismatchError", "expected": "second", "received": "first"}


@contextmanager
def other_server(exit_: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """A sync server that does not say which stores it has, as Cloudflare's: its URL, and how it was asked."""
    asked: list[str] = []

    def answer(connection: ServerConnection, request: Request) -> Response | None:
        upgrade = request.headers.get("Upgrade")
        asked.append(str(upgrade))
        if upgrade is None:
            return connection.respond(HTTPStatus.UPGRADE_REQUIRED, "Durable Object expected Upgrade: websocket")
        return None

    def talk(connection: ServerConnection) -> None:
        for text in connection:
            message = json.loads(text)
            if message["_tag"] == "Request":
                if exit_["_tag"] == "Success":
                    connection.send(json.dumps({"_tag": "Chunk", "requestId": message["id"], "values": [EMPTY]}))
                connection.send(json.dumps({"_tag": "Exit", "requestId": message["id"], "exit": exit_}))

    with serve(talk, "127.0.0.1", 0, process_request=answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}", asked
        finally:
            server.shutdown()
            thread.join()


def test_a_server_that_cannot_tell_is_pulled_after_that_was_said() -> None:
    said: list[tuple[str, list[str]]] = []
    with other_server({"_tag": "Success", "value": None}) as (url, asked):
        source = OverTheWire(url, [StoreId("nots")], say=lambda text: said.append((text, list(asked))))
        (store,) = source.stores()
    assert "a name that it does not know becomes an empty store" in said[0][0]
    assert said[0][1] == ["None"]
    assert "is its name mistyped" in store.problems[0]


class Interrupted(OverTheWire):
    """Something happens at the source while it is asked for its events for the n-th time."""

    def __init__(self, url: str, store: str, time: int, happens: Callable[[], object]) -> None:
        super().__init__(url, [StoreId(store)])
        self._left = time
        self._happens = happens

    def entries(self, store: SourceStore) -> Iterator[Entry]:
        self._left -= 1
        now = self._left == 0
        for entry in super().entries(store):
            yield entry
            if now:
                self._happens()
                now = False


@pytest.mark.parametrize("time", [1, 2])
def test_a_source_that_is_reset_meanwhile_is_told_and_not_let_in(site: Site, tmp_path: Path, time: int) -> None:
    """While it is looked at, and while it comes in."""
    plane = ControlPlane(site.control, Secret(SECRET))
    source = Interrupted(
        site.server.url, "notes", time, lambda: plane.post("/store/reset", {"storeId": "notes", "confirm": "notes"})
    )
    with Opened(tmp_path / "ours.db") as target:
        (moved,) = move_in(target, source, Wishes())
        assert (moved.outcome, moved.problems) == ("refused", (RESET,))
        assert target.reader.state(StoreId("notes")) is None


def test_a_source_that_is_reset_while_it_is_compared_is_no_fault(site: Site, tmp_path: Path) -> None:
    with Opened(tmp_path / "ours.db") as target:
        before = put(target, "notes", plain_log(3), "ours")
        plane = ControlPlane(site.control, Secret(SECRET))
        again = {"storeId": "notes", "confirm": "notes"}
        source = Interrupted(site.server.url, "notes", 1, lambda: plane.post("/store/reset", again))
        (moved,) = move_in(target, source, Wishes())
        assert (moved.outcome, moved.problems) == ("refused", (RESET,))
        assert target.reader.state(StoreId("notes")) == before


def test_a_reset_in_the_middle_of_one_pull_is_told() -> None:
    with other_server({"_tag": "Failure", "cause": {"_tag": "Fail", "error": MISMATCH}}) as (url, _):
        source = OverTheWire(url, [StoreId("notes")])
        with pytest.raises(Broken, match="it was reset"):
            list(source.entries(SourceStore(url, StoreId("notes"), BackendId("first"))))


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
