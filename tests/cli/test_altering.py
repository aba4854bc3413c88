"""`livesync delete`, `rename`, `freeze`, `thaw`, on a database and through a running server."""

import json
from pathlib import Path
from typing import Any

import pytest

from livesync_trio.client import open_backend_blocking
from tests.archive.conftest import Run
from tests.archive.logs import Opened, plain_log, put
from tests.cli.conftest import SECRET, Livesync, Site, push


@pytest.fixture
def database(tmp_path: Path) -> str:
    with Opened(tmp_path / "live.db") as target:
        put(target, "notes", plain_log(5))
        put(target, "other", plain_log(2), "its identity")
    return f"sqlite:///{tmp_path}/live.db"


def stores(text: str) -> dict[str, dict[str, Any]]:
    return {one["storeId"]: one for one in map(json.loads, text.splitlines())}


def test_a_store_is_deleted(run: Run, database: str) -> None:
    code, _, error = run("delete", "notes", "--database-url", database)
    assert code == 2
    assert "all 5 events" in error
    assert "--yes" in error
    assert run("delete", "nope", "--yes", "--database-url", database)[0] == 6
    assert json.loads(run("delete", "notes", "--yes", "--json", "--database-url", database)[1]) == {"storeId": "notes"}
    assert list(stores(run("stores", "--json", "--database-url", database)[1])) == ["other"]
    assert run("delete", "notes", "--yes", "--database-url", database)[0] == 6
    assert run("verify", "--database-url", database)[0] == 0


def test_a_store_is_renamed(run: Run, database: str) -> None:
    before = stores(run("stores", "--json", "--database-url", database)[1])
    assert run("rename", "notes", "new", "--database-url", database)[0] == 2
    assert run("rename", "notes", "other", "--yes", "--database-url", database)[0] == 8
    for to in ("notes", "livesync-staged/x", ""):
        assert run("rename", "notes", to, "--yes", "--database-url", database)[0] == 2
    assert stores(run("stores", "--json", "--database-url", database)[1]) == before
    told = json.loads(run("rename", "notes", "new", "--yes", "--json", "--database-url", database)[1])
    assert told == {"storeId": "new", "previous": "notes", "backendId": before["notes"]["backendId"], "head": 5}
    after = stores(run("stores", "--json", "--database-url", database)[1])
    assert after == {"new": {**before["notes"], "storeId": "new"}, "other": before["other"]}


def test_a_store_is_frozen_and_thawed(run: Run, database: str) -> None:
    told = json.loads(run("freeze", "notes", "--json", "--database-url", database)[1])
    assert told == {"storeId": "notes", "frozen": True, "head": 5}
    assert stores(run("stores", "--json", "--database-url", database)[1])["notes"]["frozen"] is True
    assert "frozen" in run("stores", "notes", "--database-url", database)[1]
    assert run("thaw", "notes", "--database-url", database)[0] == 0
    assert stores(run("stores", "--json", "--database-url", database)[1])["notes"]["frozen"] is False
    assert run("freeze", "nope", "--database-url", database)[0] == 6


def test_a_running_server_does_it(site: Site, livesync: Livesync) -> None:
    there = {"LIVESYNC_URL": site.control, "ADMIN_SECRET": SECRET}
    assert livesync("freeze", "notes", "--database-url", site.database_url).returncode == 3
    assert livesync("freeze", "notes", **there).returncode == 0
    assert "frozen" in livesync("stores", **there).stdout
    erased = livesync("erase", "notes", "--event", "2", "--args", '"gone"', "--yes", "--json", **there)
    assert (json.loads(erased.stdout)["head"], json.loads(erased.stdout)["overwritten"]) == (30, True)
    assert livesync("thaw", "notes", **there).returncode == 0
    push(site.server.url, "notes", 31, 1)
    assert livesync("rename", "notes", "a b", "--yes", **there).returncode == 8
    renamed = livesync("rename", "notes", "new", "--yes", "--json", **there)
    assert json.loads(renamed.stdout)["head"] == 31
    push(site.server.url, "new", 32, 1)
    assert livesync("delete", "a b", "--yes", **there).returncode == 0
    assert list(stores(livesync("stores", "--json", **there).stdout)) == ["new"]
    with open_backend_blocking(site.server.url, store_id="new") as client:
        assert sum(len(page.events) for page in client.pull()) == 32


# --- rewind, erase ---------------------------------------------------------------------------------------------------


def args_of(run: Run, database: str) -> list[object]:
    return [
        json.loads(line)["args"]
        for line in run("events", "notes", "--json", "--database-url", database)[1].splitlines()
    ]


def test_a_store_goes_back_to_an_event(run: Run, database: str) -> None:
    before = args_of(run, database)
    assert run("rewind", "notes", "3", "--database-url", database)[0] == 2
    assert run("rewind", "notes", "9", "--yes", "--database-url", database)[0] == 2
    assert args_of(run, database) == before
    told = json.loads(run("rewind", "notes", "3", "--yes", "--json", "--database-url", database)[1])
    assert (told["head"], told["events"], told["overwritten"]) == (3, 3, True)
    assert args_of(run, database) == before[:3]
    assert run("verify", "--database-url", database)[0] == 0
    assert list(stores(run("stores", "--json", "--database-url", database)[1])) == ["notes", "other"]


def test_events_are_erased(run: Run, database: str) -> None:
    before = args_of(run, database)
    erase = ("erase", "notes", "--yes", "--json", "--database-url", database)
    assert run(*erase, "--args", "null")[0] == 2
    assert run(*erase, "--event", "2", "--args", "{")[0] == 2
    assert run(*erase, "--event", "9", "--args", "null")[0] == 2
    assert args_of(run, database) == before
    told = json.loads(run(*erase, "--event", "2", "--event", "4", "--args", '{"text": "gone"}')[1])
    assert (told["head"], told["events"], told["overwritten"]) == (5, 5, True)
    gone = {"text": "gone"}
    assert args_of(run, database) == [before[0], gone, before[2], gone, before[4]]
    assert run("verify", "--database-url", database)[0] == 0
