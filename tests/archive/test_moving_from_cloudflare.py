"""The real clients fill the real reference servers; their data moves in; the clients go on, and notice nothing."""

import json
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.archive.conftest import Run
from tests.archive.wrangler import Wrangler
from tests.conformance import node_packages
from tests.conformance.clients import Generation, SyncClient
from tests.conformance.conftest import MakeClient
from tests.conformance.events import PulledEvent, chain, event, flatten
from tests.conformance.node_driver import NodeDriver
from tests.conformance.servers import ServerProcess

HARD_ARGS = ['{"b":1,"a":[1e21,-0,1.5,"\\ud83d","\\u0000 ö \\u2028"]}', '"text"', "null", '{"line":"one\\ntwo; --"}']


@attrs.frozen
class Left:
    """A store that was left behind: what its client has, and the identity it remembers."""

    store_id: str
    generation: Generation
    events: list[PulledEvent]
    identity: str | None


@attrs.frozen
class Cloudflare:
    """What stays when both servers were stopped."""

    state_03: Path
    state_04: Path
    dump_04: Path
    over_the_wire: str
    old_app: Left
    in_object: Left
    in_d1: Left


def _fill(driver: NodeDriver, generation: Generation, url: str, store_id: str) -> Left:
    client = SyncClient(driver, generation, url, store_id)
    client.push(chain(1, 60))
    client.push(chain(61, 60))
    for number, text in enumerate(HARD_ARGS, 121):
        client.push([event(number, number - 1, args_text=text, name='it\'s; a "name"\n')])
    events = flatten(client.pull())
    identity = client.identity() if generation is not Generation.V03_WS else None
    client.close()
    assert len(events) == 120 + len(HARD_ARGS)
    return Left(store_id, generation, events, identity)


@pytest.fixture(scope="module")
def cloudflare(
    node_packages_ready: None, drivers: dict[str, NodeDriver], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloudflare]:
    """Both reference servers, filled, dumped and stopped; and what came in from one of them while it ran."""
    from livesync_trio.cli.main import main

    node_packages.install("cloudflare")
    old = Wrangler(tmp_path_factory.mktemp("cloudflare-0.3"), "v0.3")
    new = Wrangler(tmp_path_factory.mktemp("cloudflare-0.4"), "v0.4")
    database = f"sqlite:///{tmp_path_factory.mktemp('wire')}/wire.db"
    try:
        for server in (old, new):
            server.start()
        for server in (old, new):
            server.wait()
        old_app = _fill(drivers["v0.3"], Generation.V03_WS, f"{old.url}/websocket", "old-app")
        in_object = _fill(drivers["v0.4"], Generation.V04_WS, new.url, "notes/ö & co")
        in_d1 = _fill(drivers["v0.4"], Generation.V04_WS, f"{new.url}/d1", "todo-list")
        assert main(["import", new.url, "--store", in_object.store_id, "--database-url", database]) == 0
        for server in (old, new):
            server.stop()
        yield Cloudflare(old.state, new.state, new.dump(), database, old_app, in_object, in_d1)
    finally:
        for server in (old, new):
            server.stop()


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/live.db"


def goes_on(make_client: MakeClient, tmp_path: Path, database: str, left: Left) -> None:
    """The client that was left comes back with what it remembers; another one starts from nothing."""
    server = ServerProcess(tmp_path, database)
    server.start()
    try:
        url = f"{server.url}/websocket" if left.generation is Generation.V03_WS else server.url
        remembered = {} if left.identity is None else {"backendId": left.identity}
        client = make_client(left.generation, url, left.store_id, **remembered)
        head = left.events[-1].seq_num
        assert flatten(client.pull(cursor=head)) == []
        client.push(chain(head + 1, 2))
        fresh = make_client(Generation.V04_WS, server.url, left.store_id)
        seen = flatten(fresh.pull())
        assert seen[:head] == left.events
        assert [one.seq_num for one in seen[head:]] == [head + 1, head + 2]
        if left.identity is not None:
            assert fresh.identity() == left.identity
            assert client.identity() == left.identity
    finally:
        server.stop_if_ours()


def test_a_durable_object(
    cloudflare: Cloudflare, run: Run, database: str, make_client: MakeClient, tmp_path: Path
) -> None:
    files = list((cloudflare.state_04 / "v3/do/moving-out-InObject").glob("*.sqlite"))
    (file,) = [one for one in files if one.name != "metadata.sqlite"]
    code, out, _ = run("import", str(file), "--json", "--database-url", database)
    assert code == 0
    moved = json.loads(out)
    assert (moved["storeId"], moved["outcome"]) == (cloudflare.in_object.store_id, "imported")
    assert moved["backendId"] == cloudflare.in_object.identity
    goes_on(make_client, tmp_path, database, cloudflare.in_object)


def test_a_state_directory(
    cloudflare: Cloudflare, run: Run, database: str, make_client: MakeClient, tmp_path: Path
) -> None:
    code, dry, _ = run("import", str(cloudflare.state_04), "--dry-run", "--json", "--database-url", database)
    assert code == 0
    code, out, _ = run("import", str(cloudflare.state_04), "--json", "--database-url", database)
    assert code == 0
    moved = {one["storeId"]: one for one in map(json.loads, out.splitlines())}
    assert moved.keys() == {cloudflare.in_object.store_id, cloudflare.in_d1.store_id}
    assert [json.loads(one)["events"] for one in dry.splitlines()] == [one["events"] for one in moved.values()]
    for left in (cloudflare.in_object, cloudflare.in_d1):
        assert moved[left.store_id]["backendId"] == left.identity
        goes_on(make_client, tmp_path, database, left)


def test_a_dump_of_d1_with_the_identity_that_its_object_knows(
    cloudflare: Cloudflare, run: Run, database: str, make_client: MakeClient, tmp_path: Path
) -> None:
    left = cloudflare.in_d1
    assert left.identity is not None
    code, out, _ = run(
        "import", str(cloudflare.dump_04), "--rename", f"todo_list={left.store_id}", "--backend-id", left.identity,
        "--json", "--database-url", database,
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["outcome"] == "imported"
    goes_on(make_client, tmp_path, database, left)


def test_the_old_generation(
    cloudflare: Cloudflare, run: Run, database: str, make_client: MakeClient, tmp_path: Path
) -> None:
    code, out, _ = run(
        "import", str(cloudflare.state_03), "--rename", "old_app=old-app", "--json", "--database-url", database
    )
    assert code == 0
    assert json.loads(out)["outcome"] == "imported"
    goes_on(make_client, tmp_path, database, cloudflare.old_app)


def test_over_the_wire(cloudflare: Cloudflare, make_client: MakeClient, tmp_path: Path) -> None:
    goes_on(make_client, tmp_path, cloudflare.over_the_wire, cloudflare.in_object)
