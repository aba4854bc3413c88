"""A store is deleted, renamed, frozen over the control plane."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from livesync_trio.archive.rewriting import Erase, staged_anew
from livesync_trio.archive.staging import STAGED, Target
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.sqlite.engine import SqliteEngine
from tests.bad_input.clients import event, pull
from tests.bad_input.wires import head
from tests.postgres.server import fresh_schema

from .processes import serving
from .stage import PATIENCE_S, SECRET, STORE, Stage, refusal, running

HEADERS = {"authorization": f"Bearer {SECRET}"}


async def test_a_deleted_store_is_in_no_list_and_that_is_recorded(tmp_path: Path) -> None:
    record = tmp_path / "audit.jsonl"
    async with running(audit_log=str(record)) as stage:
        await stage.fill(3)
        answer = await stage.post("/api/v1/store/delete", storeId=STORE, confirm=STORE)
        assert (answer.status_code, answer.json()) == (200, {"storeId": STORE})
        assert (await stage.get("/api/v1/stores"))["stores"] == []
        refusal(await stage.post("/api/v1/store/delete", storeId=STORE, confirm=STORE), 404, "no-such-store")
        await stage.fill(1)
        assert (await stage.get("/api/v1/store", storeId=STORE))["head"] == 1
    (act,) = [act for line in record.read_text().splitlines() if (act := json.loads(line))["act"] == "delete"]
    assert (act["store"], act["via"]) == (STORE, "control plane")


async def test_a_store_is_renamed_with_its_identity(tmp_path: Path) -> None:
    record = tmp_path / "audit.jsonl"
    async with running(audit_log=str(record)) as stage:
        await stage.fill(3)
        before = await stage.get("/api/v1/store", storeId=STORE)
        answer = await stage.post("/api/v1/store/rename", storeId=STORE, to="new", confirm=STORE)
        assert answer.json() == {"storeId": "new", "previous": STORE, "backendId": before["backendId"], "head": 3}
        (after,) = (await stage.get("/api/v1/stores"))["stores"]
        assert {**after, "active": True} == {**before, "storeId": "new", "active": True}
        await stage.fill(1, "new", first=4)
    (act,) = [act for line in record.read_text().splitlines() if (act := json.loads(line))["act"] == "rename"]
    assert (act["store"], act["to"]) == (STORE, "new")


async def test_a_store_is_not_renamed_onto_another_or_to_what_no_client_could_name(stage: Stage) -> None:
    await stage.fill(1)
    await stage.fill(2, "other")
    refusal(await stage.post("/api/v1/store/rename", storeId=STORE, to="other", confirm=STORE), 409, "already-there")
    for to in ("livesync-staged/x", "", STORE, "x" * 5_000):
        refusal(await stage.post("/api/v1/store/rename", storeId=STORE, to=to, confirm=STORE), 400, "bad-parameter")
    heads = {told["storeId"]: told["head"] for told in (await stage.get("/api/v1/stores"))["stores"]}
    assert heads == {STORE: 1, "other": 2}


async def test_a_frozen_store_refuses_pushes_until_it_is_thawed(tmp_path: Path) -> None:
    record = tmp_path / "audit.jsonl"
    async with running(audit_log=str(record)) as stage:
        client = await stage.client()
        assert (await client.push(event(1)))["exit"]["_tag"] == "Success"
        frozen = await stage.post("/api/v1/store/freeze", storeId=STORE, frozen=True, confirm=STORE)
        assert frozen.json() == {"storeId": STORE, "frozen": True, "head": 1}
        assert (await stage.get("/api/v1/store", storeId=STORE))["frozen"] is True
        refused = (await client.push(event(2, 1)))["exit"]["cause"]["error"]
        assert refused["_tag"] == "UnknownError"
        assert "frozen" in str(refused["cause"])
        thawed = await stage.post("/api/v1/store/freeze", storeId=STORE, frozen=False, confirm=STORE)
        assert thawed.json() == {"storeId": STORE, "frozen": False, "head": 1}
        assert (await client.push(event(2, 1)))["exit"]["_tag"] == "Success"
    acts = [json.loads(line)["act"] for line in record.read_text().splitlines()]
    assert [act for act in acts if act in ("freeze", "thaw")] == ["freeze", "thaw"]


@pytest.mark.parametrize("verb", ["delete", "rename", "freeze"])
async def test_the_name_must_be_repeated_and_known(stage: Stage, verb: str) -> None:
    await stage.fill(1)
    members: dict[str, dict[str, object]] = {"rename": {"to": "new"}, "freeze": {"frozen": True}}
    more = members.get(verb, {})
    path = f"/api/v1/store/{verb}"
    refusal(await stage.post(path, storeId=STORE, **more), 400, "bad-parameter")
    refusal(await stage.post(path, storeId=STORE, confirm="store", **more), 400, "bad-parameter")
    refusal(await stage.post(path, storeId="nowhere", confirm="nowhere", **more), 404, "no-such-store")
    (told,) = (await stage.get("/api/v1/stores"))["stores"]
    assert (told["storeId"], told["head"], told["frozen"]) == (STORE, 1, False)


async def test_servers_on_one_database_share_what_is_done_to_a_store(tmp_path: Path) -> None:
    url = fresh_schema("control plane, verbs")
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    async with (
        serving(tmp_path / "here", DATABASE_URL=url) as here,
        serving(tmp_path / "there", DATABASE_URL=url) as there,
        httpx.AsyncClient(headers=HEADERS, timeout=PATIENCE_S) as http,
    ):

        async def post(verb: str, **more: object) -> httpx.Response:
            body = {"storeId": STORE, "confirm": STORE, **more}
            return await http.post(f"http://127.0.0.1:{here.control_port}/api/v1/store/{verb}", json=body)

        client = await there.client()
        assert (await client.push(event(1)))["exit"]["_tag"] == "Success"
        assert (await post("freeze", frozen=True)).json()["head"] == 1
        assert (await client.push(event(2, 1)))["exit"]["cause"]["error"]["_tag"] == "UnknownError"
        assert (await post("freeze", frozen=False)).status_code == 200
        assert (await client.push(event(2, 1)))["exit"]["_tag"] == "Success"
        tail = await there.wire(there.control_port)
        target = "/api/v1/store/tail?storeId=store%2F%C3%B6+1&after=0"
        await tail.send(head(f"GET {target} HTTP/1.1", f"Authorization: Bearer {SECRET}"))
        await tail.read_until(b"id: 2\n")
        assert (await post("rename", to="renamed")).json()["head"] == 2
        await tail.read_until(b"event: end\n")
        assert (await client.push(event(3, 2)))["exit"]["_tag"] == "Failure"
        renamed = await there.client("renamed")
        assert (await renamed.push(event(3, 2)))["exit"]["_tag"] == "Success"
        assert (await post("delete")).json() == {"storeId": STORE}
        names = (await http.get(f"http://127.0.0.1:{there.control_port}/api/v1/stores")).json()["stores"]
        assert [told["storeId"] for told in names] == ["renamed"]


# --- rewind and erase ------------------------------------------------------------------------------------------------

CANARY = "canary-of-a-person"


async def told_args(stage: Stage) -> list[object]:
    return [told["args"] for told in (await stage.get("/api/v1/store/events", storeId=STORE))["events"]]


async def test_events_are_erased_while_clients_are_connected(tmp_path: Path) -> None:
    """Those who follow are told to start over; in no file anything is left; what others push goes on."""
    record, data = tmp_path / "audit.jsonl", tmp_path / "data"
    data.mkdir()
    engine = SqliteEngine(data / "live.db")
    engine.open()
    try:
        async with running(engine=engine, audit_log=str(record)) as stage:
            client = await stage.client()
            for number in range(1, 8):
                args = {"who": CANARY} if number in (2, 5) else {"n": number}
                assert (await client.push(event(number, number - 1, args)))["exit"]["_tag"] == "Success"
            before = await stage.get("/api/v1/store", storeId=STORE)
            await client.send(pull("9", STORE, live=True))
            assert (await client.receive())["_tag"] == "Chunk"
            answer = await stage.post(
                "/api/v1/store/erase", storeId=STORE, confirm=STORE, events=[2, 5], args={"who": None}
            )
            assert answer.status_code == 200, answer.text
            after = await stage.get("/api/v1/store", storeId=STORE)
            assert answer.json() == {
                "storeId": STORE, "backendId": after["backendId"], "head": 7, "events": 7, "overwritten": True
            }  # fmt: skip
            told = (await client.receive())["exit"]["cause"]["error"]
            assert (told["_tag"], told["expected"]) == ("BackendIdMismatchError", after["backendId"])
            assert after["backendId"] != before["backendId"]
            assert (await told_args(stage))[1:5] == [{"who": None}, {"n": 3}, {"n": 4}, {"who": None}]
            assert [file.name for file in data.iterdir() if CANARY.encode() in file.read_bytes()] == []
            await stage.fill(1, first=8)
            assert [told["storeId"] for told in (await stage.get("/api/v1/stores"))["stores"]] == [STORE]
    finally:
        engine.close()
    (act,) = [act for line in record.read_text().splitlines() if (act := json.loads(line))["act"] == "erase"]
    assert act["store"] == STORE
    assert CANARY not in record.read_text()


async def test_a_store_is_rewound_although_it_is_pushed_to(stage: Stage) -> None:
    await stage.fill(6)
    answer = await stage.post("/api/v1/store/rewind", storeId=STORE, to=4, confirm=STORE)
    assert (answer.json()["head"], answer.json()["events"], answer.json()["overwritten"]) == (4, 4, True)
    assert await told_args(stage) == [{"n": number} for number in range(1, 5)]
    await stage.fill(1, first=5)


@pytest.mark.parametrize(
    ("verb", "members"),
    [
        ("rewind", {"to": 9}),
        ("rewind", {"to": -1}),
        ("erase", {"args": None}),
        ("erase", {"events": [9], "args": None}),
        ("erase", {"events": [1]}),
        ("erase", {"name": "nothing", "args": None}),
    ],
)
async def test_what_is_not_there_is_neither_rewound_nor_erased(
    stage: Stage, verb: str, members: dict[str, object]
) -> None:
    await stage.fill(3)
    before = await stage.get("/api/v1/store", storeId=STORE)
    refusal(await stage.post(f"/api/v1/store/{verb}", storeId=STORE, confirm=STORE, **members), 400, "bad-parameter")
    assert (await stage.get("/api/v1/stores"))["stores"] == [before]


async def test_what_is_pushed_meanwhile_is_in_the_new_log(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found in the second round; where it never ends, the operator is told to freeze the store."""
    await stage.fill(3)
    written, pushes = [0], 1

    def pushed_meanwhile(target: Target, store: StoreId, log: LogState, how: Erase) -> LogState:
        staged = staged_anew(target, store, log, how)
        if written[0] < pushes:
            written[0] += 1
            trio.from_thread.run(partial(stage.fill, 1, first=log.head + 1))
        return staged

    monkeypatch.setattr("livesync_trio.admin.rewriting.staged_anew", pushed_meanwhile)
    body = {"storeId": STORE, "confirm": STORE, "events": [2], "args": "gone"}
    answer = await stage.post("/api/v1/store/erase", **body)
    assert (answer.json()["head"], answer.json()["events"]) == (4, 4)
    assert await told_args(stage) == [{"n": 1}, "gone", {"n": 3}, {"n": 4}]
    pushes = 100
    assert "Freeze it first" in refusal(await stage.post("/api/v1/store/erase", **body), 409, "already-there")
    assert stage.server.engine.reader().state(StoreId(f"{STAGED}{STORE}")) is None
    assert (await stage.get("/api/v1/store", storeId=STORE))["head"] == 4 + written[0] - 1
