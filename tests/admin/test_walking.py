"""A whole log over the control plane: verified, exported, how it grew; who pushed, who is connected, what was lost."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from livesync_trio.admin import walking
from livesync_trio.archive import verifying
from livesync_trio.archive.sources.jsonl_file import JsonlFile
from livesync_trio.config import Secret
from livesync_trio.storage.sqlite.engine import SqliteEngine
from tests.bad_input.clients import event, sync_url
from tests.bad_input.websockets import UPGRADE
from tests.bad_input.wires import head

from .stage import STORE, Stage, refusal, running, seen

SIGNING = "signs-the-tokens-of-these-tests-only!"


async def verified(stage: Stage) -> tuple[list[dict[str, int]], dict[str, Any]]:
    """What a verification said on the way, and its verdict."""
    answer = await stage.http.get("/api/v1/store/verify", params={"storeId": STORE})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *progress, verdict = answer.text.removesuffix("\n\n").split("\n\n")
    name, data = verdict.split("\n")
    assert name == "event: verdict"
    return [json.loads(each.removeprefix("data: ")) for each in progress], json.loads(data.removeprefix("data: "))


async def test_a_whole_log_is_found_to_be_whole_step_by_step(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "STEP_EVENTS", 3)
    await stage.fill(7)
    progress, verdict = await verified(stage)
    assert progress == [{"done": 3, "total": 7}, {"done": 6, "total": 7}]
    assert verdict == {"storeId": STORE, "events": 7, "head": 7, "problem": None}
    assert stage.server.control is not None
    view = stage.server.control.server
    await seen(stage, lambda: view.walks == 0)


async def test_a_log_that_lacks_an_event_is_not(tmp_path: Path) -> None:
    file = tmp_path / "live.db"
    engine = SqliteEngine(file)
    engine.open()
    try:
        async with running(engine=engine) as stage:
            await stage.fill(7)
            with closing(sqlite3.connect(file)) as database, database:
                assert database.execute("DELETE FROM livesync_7_events WHERE seq_num = 5").rowcount == 1
            _, verdict = await verified(stage)
            assert "is damaged" in verdict["problem"]
            text = (await stage.http.get("/api/v1/store/export", params={"storeId": STORE})).text
            assert "endOfFile" not in text
            assert [each["event"] for each in stage.logs if each["event"] == "export ended early"]
    finally:
        engine.close()


async def test_an_export_is_a_file_that_can_be_read_back(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "CHUNK_BYTES", 200)
    await stage.fill(20)
    answer = await stage.http.get("/api/v1/store/export", params={"storeId": STORE})
    assert answer.headers["content-type"] == "application/jsonl"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''store%2F%C3%B6%201.jsonl"
    path = trio.Path(tmp_path / "export.jsonl")
    await path.write_bytes(answer.content)
    file = JsonlFile(Path(path))
    [section] = file.sections()
    assert (section.header.store_id, section.header.events, section.header.head) == (STORE, 20, 20)
    file.close()


async def test_so_many_at_a_time_and_whoever_leaves_makes_room(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "CHUNK_BYTES", 1)
    await stage.fill(300, args={"text": "x" * 4000})
    target = "GET /api/v1/store/export?storeId=store%2F%C3%B6+1 HTTP/1.1"
    assert stage.server.control is not None
    view = stage.server.control.server
    wires = [await stage.wire(stage.control_url) for _ in range(walking.WALKS_MAX)]
    for wire in wires:
        await wire.send(head(target, f"Authorization: Bearer {stage.http.headers['authorization'].split()[1]}"))
    await seen(stage, lambda: view.walks == walking.WALKS_MAX)
    refusal(await stage.http.get("/api/v1/store/verify", params={"storeId": STORE}), 429, "too-many-requests")
    for wire in wires:
        await wire.close()
    await seen(stage, lambda: view.walks == 0)


async def test_how_a_store_grew(stage: Stage) -> None:
    await stage.fill(300)
    points = (await stage.get("/api/v1/store/growth", storeId=STORE))["points"]
    assert [(points[at]["seqNum"], points[at]["events"]) for at in (0, -1)] == [(1, 1), (300, 300)]
    assert len(points) == 61
    assert points == sorted(points, key=lambda point: int(point["events"]))
    client = await stage.client("gaps")
    await client.push(event(1, 0, 1), event(90_000, 1, 2))
    points = (await stage.get("/api/v1/store/growth", storeId="gaps"))["points"]
    assert [(point["seqNum"], point["events"]) for point in points] == [(1, 1), (90_000, 2)]
    (await stage.post("/api/v1/store/reset", storeId=STORE, confirm=STORE)).raise_for_status()
    assert (await stage.get("/api/v1/store/growth", storeId=STORE))["points"] == []
    await stage.refused(404, "no-such-store", "/api/v1/store/growth", storeId="none")


async def test_events_and_connections_of_a_user() -> None:
    async with running(jwt_secret=Secret(SIGNING), store_user=True) as stage:
        for number, user in enumerate(("ann", "ben"), 1):
            token = (await stage.post("/api/v1/access/token", user=user, stores=["*"])).json()["token"]
            client = await stage.client(payload={"authToken": token})
            await client.push(event(number, number - 1, number))
        told = await stage.get("/api/v1/store/events", storeId=STORE)
        assert [one["user"] for one in told["events"]] == ["ann", "ben"]
        told = await stage.get("/api/v1/store/events", storeId=STORE, user="ben")
        assert [one["seqNum"] for one in told["events"]] == [2]
        told = await stage.get("/api/v1/connections", user="ann", address="127.0.0.1:")
        assert [one["user"] for one in told["connections"]] == ["ann"]
        assert (await stage.get("/api/v1/connections", address="10."))["connections"] == []


@pytest.mark.parametrize(
    ("dropped", "missing"),
    [
        pytest.param("Upgrade", ["Upgrade"], id="upgrade"),
        pytest.param("Connection", ["Connection"], id="connection"),
        pytest.param("Connection Upgrade", ["Upgrade", "Connection"], id="both, as nginx does"),
        pytest.param("Sec-WebSocket-Key", ["Sec-WebSocket-Key"], id="key"),
    ],
)
async def test_what_a_proxy_took_from_a_websocket_is_remembered(stage: Stage, dropped: str, missing: list[str]) -> None:
    left = [each for each in UPGRADE if each.partition(":")[0] not in dropped.split()]
    wire = await stage.wire()
    answer = await wire.ask(head(f"GET {sync_url(STORE)} HTTP/1.1", *left))
    assert answer.status in (400, 426)
    told = await stage.get("/api/v1/connections/lost")
    assert told["total"] == 1
    assert (told["lost"][0]["storeId"], told["lost"][0]["missing"]) == (STORE, missing)
    assert (await stage.get("/api/v1/connections/lost", after=1))["lost"] == []


async def test_a_request_that_never_was_a_websocket_is_not_remembered(stage: Stage) -> None:
    wire = await stage.wire()
    assert (await wire.ask(head(f"GET {sync_url(STORE)} HTTP/1.1"))).status == 426
    assert (await stage.get("/api/v1/connections/lost")) == {"lost": [], "total": 0}
