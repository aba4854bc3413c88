"""Connections over the control plane: who is there, and sending one of them away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from livesync_trio.hooks import Hooks
from livesync_trio.model import Principal
from tests.bad_input.clients import pull

from .stage import STORE, Stage, refusal, running, seen


async def connections(stage: Stage, **query: Any) -> list[Any]:
    page = await stage.get("/api/v1/connections", **query)
    assert page["scope"] == "this server"
    return list(page["connections"])


async def test_a_connection_is_told_in_full(stage: Stage) -> None:
    await stage.fill(3)
    client = await stage.client()
    await client.send(pull("1", STORE, live=True))
    await client.receive()
    (told,) = await connections(stage)
    assert told.keys() == {
        *("connectionId", "storeId", "address", "user", "generation", "transport", "since", "lastHeardAt"),
        *("openPulls", "following", "lagEvents", "queuedBytes"),
    }
    port = client.wire.stream.socket.getsockname()[1]
    assert (told["storeId"], told["address"], told["user"]) == (STORE, f"127.0.0.1:{port}", None)
    assert (told["generation"], told["transport"]) == ("0.4", "websocket")
    assert (told["openPulls"], told["following"], told["lagEvents"], told["queuedBytes"]) == (1, 1, 0, 0)
    assert told["since"] <= told["lastHeardAt"]


async def test_they_come_page_by_page_and_by_store(stage: Stage) -> None:
    clients = [await stage.client(store) for store in ("a", "b", "a")]
    for client in clients:
        await client.check_ping()
    page = await stage.get("/api/v1/connections", limit=2)
    assert [told["storeId"] for told in page["connections"]] == ["a", "b"]
    assert page["next"] == page["connections"][-1]["connectionId"]
    assert [told["storeId"] for told in await connections(stage, after=page["next"])] == ["a"]
    assert [told["storeId"] for told in await connections(stage, storeId="a")] == ["a", "a"]
    assert [told["generation"] for told in await connections(stage)] == ["unknown"] * 3


async def test_users_are_named() -> None:
    hooks = Hooks(authenticate=lambda payload, context: Principal("näme\ud800"))
    async with running(hooks) as stage:
        client = await stage.client(payload={})
        await client.check_ping()
        assert [told["user"] for told in await connections(stage)] == ["näme?"]


async def test_one_is_closed_in_order_and_recorded(tmp_path: Path) -> None:
    record = tmp_path / "audit.jsonl"
    async with running(audit_log=str(record)) as stage:
        goes, stays = await stage.client("a"), await stage.client("a")
        await goes.check_ping()
        number = (await connections(stage))[0]["connectionId"]
        answer = await stage.post("/api/v1/connections/close", connectionId=number, storeId="a")
        assert answer.json() == {"connectionId": number, "storeId": "a", "closing": True}
        assert await goes.closed() == 1012
        await seen(stage, lambda: len(stage.server.peers) == 1)
        await stays.check_ping()
        answer = await stage.post("/api/v1/connections/close", connectionId=number, storeId="a")
        refusal(answer, 404, "no-such-connection")
    (act,) = [act for act in map(json.loads, record.read_text().splitlines()) if act["act"] == "close"]
    assert (act["store"], act["connection"]) == ("a", str(number))


async def test_all_that_fit_are_closed_page_by_page_and_recorded_once(tmp_path: Path) -> None:
    record = tmp_path / "audit.jsonl"
    async with running(audit_log=str(record)) as stage:
        going = [await stage.client("a") for _ in range(3)]
        stays = await stage.client("b")
        for client in (*going, stays):
            await client.check_ping()
        numbers = [told["connectionId"] for told in await connections(stage, storeId="a")]
        for nobody in ({}, {"storeId": "", "user": "", "address": ""}):
            refusal(await stage.post("/api/v1/connections/close/many", **nobody), 400, "bad-parameter")
        some = (await stage.post("/api/v1/connections/close/many", storeId="a", limit=2)).json()
        assert some == {"closing": 2, "next": numbers[1]}
        rest = await stage.post("/api/v1/connections/close/many", storeId="a", address="127.", after=some["next"])
        assert rest.json() == {"closing": 1, "next": None}
        assert [await client.closed() for client in going] == [1012] * 3
        await stays.check_ping()
        nobody = (await stage.post("/api/v1/connections/close/many", user="ada")).json()
        assert nobody == {"closing": 0, "next": None}
    acts = [act for act in map(json.loads, record.read_text().splitlines()) if act["act"] == "close-many"]
    assert [(act["store"], act["connections"]) for act in acts] == [("a", "2"), ("a", "1"), ("", "0")]


@pytest.mark.parametrize("body", [{"storeId": "b"}, {"storeId": "a", "connectionId": "1"}, {"storeId": "a"}])
async def test_the_store_must_be_repeated(stage: Stage, body: dict[str, Any]) -> None:
    client = await stage.client("a")
    await client.check_ping()
    number = (await connections(stage))[0]["connectionId"]
    whole = {"connectionId": number, **body} if body["storeId"] == "b" else body
    refusal(await stage.post("/api/v1/connections/close", **whole), 400, "bad-parameter")
    await client.check_ping()


async def test_one_that_takes_nothing_shows_how_far_it_is_behind(stage: Stage) -> None:
    await stage.fill(1)
    slow = await stage.client()
    slow.wire.stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
    await slow.send(pull("1", STORE, live=True))
    await slow.receive()
    for number in range(2, 32):
        await stage.fill(1, first=number, args="x" * 400_000)
    (told,) = [told for told in await connections(stage) if told["openPulls"]]
    assert told["following"] == 0
    assert told["lagEvents"] > 0
    assert told["queuedBytes"] > 0
