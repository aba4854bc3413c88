"""Stores over the control plane: the list, one of them, its events and sessions, the reset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livesync_trio import limits
from tests.bad_input.clients import event

from .stage import STORE, Stage, refusal, running


async def test_a_store_is_told_in_full(stage: Stage) -> None:
    client = await stage.client()
    exit_ = await client.push(event(1, 0, {"n": 1}), event(2, 1, None), event(7, 2, [1]))
    assert exit_["exit"]["_tag"] == "Success"
    told = await stage.get("/api/v1/store", storeId=STORE)
    events = await stage.get("/api/v1/store/events", storeId=STORE)
    assert told.keys() == {
        *("storeId", "head", "backendId", "events", "bytes", "createdAt", "lastPushAt", "frozen", "active", "peers")
    }
    assert (told["storeId"], told["head"], told["events"], told["active"], told["peers"]) == (STORE, 7, 3, True, 1)
    assert told["lastPushAt"] == events["events"][-1]["createdAt"] >= told["createdAt"]
    assert told["bytes"] > 100
    assert (await stage.get("/api/v1/stores"))["stores"] == [told]


async def test_stores_come_page_by_page_and_can_be_searched(stage: Stage) -> None:
    names = ["a", "b/1", "b/2", "ä", "c"]
    for name in names:
        await stage.fill(1, name)
    seen, after = [], None
    for _ in range(3):
        page = await stage.get("/api/v1/stores", limit=2, **({} if after is None else {"after": after}))
        seen += [store["storeId"] for store in page["stores"]]
        after = page["next"]
    assert after is None
    assert seen == sorted(names, key=str.encode)
    found = await stage.get("/api/v1/stores", containing="b/", limit=1)
    assert ([store["storeId"] for store in found["stores"]], found["next"]) == (["b/1"], "b/1")
    found = await stage.get("/api/v1/stores", containing="b/", after="b/1")
    assert ([store["storeId"] for store in found["stores"]], found["next"]) == (["b/2"], None)


@pytest.mark.parametrize(
    "path", ["/api/v1/store", "/api/v1/store/events", "/api/v1/store/sessions", "/api/v1/store/tail"]
)
async def test_an_unknown_store_is_told_and_not_made(stage: Stage, path: str) -> None:
    assert "'nowhere'" in await stage.refused(404, "no-such-store", path, storeId="nowhere")
    refusal(await stage.post("/api/v1/store/reset", storeId="nowhere", confirm="nowhere"), 404, "no-such-store")
    assert (await stage.get("/api/v1/stores"))["stores"] == []


async def test_events_come_byte_for_byte(stage: Stage) -> None:
    args = '{"b":1.0,"a":-0,"b":12345678901234567890123,"x":"\\u00e9\\ud83d", "s" : [ 1e2 ]}'
    client = await stage.client()
    raw = json.dumps(event(1, 0, "ARGS", name='näme " \\ \ud83d'))
    request = (
        '{"_tag":"Request","id":"1","tag":"SyncWsRpc.Push","headers":[],"payload":'
        f'{{"storeId":{json.dumps(STORE)},"backendId":{{"_tag":"None"}},"batch":[{raw}]}}}}'
    )
    await client.send(request.replace('"ARGS"', args))
    assert (await client.receive())["exit"]["_tag"] == "Success"
    answer = await stage.http.get("/api/v1/store/events", params={"storeId": STORE})
    assert f'"args":{args},' in answer.text
    (told,) = answer.json()["events"]
    assert told.keys() == {"name", "args", "seqNum", "parentSeqNum", "clientId", "sessionId", "createdAt"}
    chosen = await stage.get("/api/v1/store/events", storeId=STORE, clientId="client", name="other")
    assert chosen == {"events": [], "next": None}
    assert len((await stage.get("/api/v1/store/events", storeId=STORE, clientId="client"))["events"]) == 1


async def test_events_are_chosen_by_name_client_session_and_time(stage: Stage) -> None:
    await stage.fill(2, name="one", clientId="c1", sessionId="s1")
    await stage.fill(2, first=3, name="two", clientId="c2", sessionId="s1")
    await stage.fill(2, first=5, name="one", clientId="c2", sessionId="s2")

    async def numbers(**query: str) -> list[int]:
        page = await stage.get("/api/v1/store/events", storeId=STORE, **query)
        assert page["next"] is None
        return [told["seqNum"] for told in page["events"]]

    assert await numbers() == [1, 2, 3, 4, 5, 6]
    assert await numbers(name="one") == [1, 2, 5, 6]
    assert await numbers(clientId="c2") == [3, 4, 5, 6]
    assert await numbers(sessionId="s1", clientId="c2") == [3, 4]
    assert await numbers(name="on") == []
    everything = (await stage.get("/api/v1/store/events", storeId=STORE))["events"]
    third = everything[2]["createdAt"]
    assert await numbers(since=third) == [told["seqNum"] for told in everything if told["createdAt"] >= third]
    assert await numbers(until=third) == [told["seqNum"] for told in everything if told["createdAt"] < third]
    assert await numbers(since="0900-01-01") == [1, 2, 3, 4, 5, 6]
    assert await numbers(until="0900-01-01T00:00:00Z") == []
    assert await numbers(since="2999-01-01T00:00:00+02:00") == []


async def test_a_page_of_events_names_the_next(stage: Stage) -> None:
    await stage.fill(5)
    page = await stage.get("/api/v1/store/events", storeId=STORE, limit=2, after=1)
    assert ([told["seqNum"] for told in page["events"]], page["next"]) == ([2, 3], 3)
    page = await stage.get("/api/v1/store/events", storeId=STORE, limit=2, after=3)
    assert ([told["seqNum"] for told in page["events"]], page["next"]) == ([4, 5], None)
    assert await stage.get("/api/v1/store/events", storeId=STORE, after=99) == {"events": [], "next": None}


async def test_a_search_that_finds_nothing_is_bounded_and_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livesync_trio.admin.events.ADMIN_SCAN_EVENTS", 3)
    await stage.fill(5)
    await stage.fill(1, first=6, name="rare")
    query = {"storeId": STORE, "name": "rare"}
    page = await stage.get("/api/v1/store/events", **query)
    assert page == {"events": [], "next": 3}
    page = await stage.get("/api/v1/store/events", after=page["next"], **query)
    assert ([told["seqNum"] for told in page["events"]], page["next"]) == ([6], None)


async def test_a_search_through_large_events_is_bounded_too(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livesync_trio.admin.events.READ_MAX_EVENTS", 2)
    monkeypatch.setattr("livesync_trio.admin.events.ADMIN_SCAN_BYTES", 300)
    await stage.fill(6)
    assert (await stage.get("/api/v1/store/events", storeId=STORE, name="rare")) == {"events": [], "next": 4}


async def test_an_answer_is_bounded_in_bytes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livesync_trio.admin.events.ADMIN_ANSWER_BYTES", 400)
    await stage.fill(5)
    page = await stage.get("/api/v1/store/events", storeId=STORE)
    assert 1 <= len(page["events"]) < 5
    assert page["next"] == page["events"][-1]["seqNum"]


async def test_sessions_are_told_with_what_they_did(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.fill(2, clientId="c1", sessionId="s1")
    await stage.fill(1, first=3, clientId="c2", sessionId="s1")
    await stage.fill(1, first=4, clientId="c1", sessionId="s1")
    page = await stage.get("/api/v1/store/sessions", storeId=STORE)
    assert page["next"] is None
    first, second = page["sessions"]
    assert (first["clientId"], first["sessionId"], first["events"]) == ("c1", "s1", 3)
    assert (first["firstSeqNum"], first["lastSeqNum"]) == (1, 4)
    assert (second["clientId"], second["events"]) == ("c2", 1)
    assert first["firstAt"] <= second["firstAt"] <= first["lastAt"]
    monkeypatch.setattr("livesync_trio.admin.events.ADMIN_SCAN_EVENTS", 2)
    page = await stage.get("/api/v1/store/sessions", storeId=STORE)
    assert (len(page["sessions"]), page["next"]) == (1, 2)
    page = await stage.get("/api/v1/store/sessions", storeId=STORE, after=2)
    assert ([found["clientId"] for found in page["sessions"]], page["next"]) == (["c2", "c1"], None)


async def test_a_reset_gives_a_new_identity_and_is_recorded(tmp_path: Path) -> None:
    record = tmp_path / "audit.jsonl"
    async with running(audit_log=str(record)) as stage:
        await stage.fill(3)
        before = await stage.get("/api/v1/store", storeId=STORE)
        answer = await stage.post("/api/v1/store/reset", storeId=STORE, confirm=STORE)
        assert answer.status_code == 200
        after = await stage.get("/api/v1/store", storeId=STORE)
    assert answer.json() == {"storeId": STORE, "backendId": after["backendId"], "head": 0}
    assert after["backendId"] != before["backendId"]
    assert (after["head"], after["events"]) == (0, 0)
    acts = [json.loads(line) for line in record.read_text().splitlines()]
    (act,) = [act for act in acts if act["act"] == "reset"]
    assert (act["store"], act["via"]) == (STORE, "control plane")
    assert act["from"].startswith("127.0.0.1:")


@pytest.mark.parametrize(
    "body",
    [{"storeId": STORE}, {"storeId": STORE, "confirm": "store"}, {"storeId": STORE, "confirm": STORE, "x": 1}, {}],
)
async def test_a_reset_must_repeat_the_name(stage: Stage, body: dict[str, str]) -> None:
    await stage.fill(1)
    refusal(await stage.post("/api/v1/store/reset", **body), 400, "bad-parameter")
    assert (await stage.get("/api/v1/store", storeId=STORE))["head"] == 1


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"storeId": ""},
        {"storeId": ["a", "b"]},
        {"storeId": STORE, "limit": "0"},
        {"storeId": STORE, "limit": str(limits.ADMIN_PAGE_MAX + 1)},
        {"storeId": STORE, "limit": "1e2"},
        {"storeId": STORE, "after": "9" * 40},
        {"storeId": STORE, "after": str(2**53)},
        {"storeId": STORE, "since": "yesterday"},
        {"storeId": STORE, "since": "0001-01-01T00:00:00+14:00"},
        {"storeId": STORE, "unknown": "1"},
    ],
)
async def test_what_cannot_be_understood_is_told(stage: Stage, query: dict[str, str]) -> None:
    await stage.refused(400, "bad-parameter", "/api/v1/store/events", **query)
