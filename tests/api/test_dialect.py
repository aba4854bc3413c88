"""The plain WebSocket dialect: its messages, who may speak it, and that everybody shares one log."""

from __future__ import annotations

from typing import Any

from livesync_trio.config import Secret
from livesync_trio.model import StoreId
from livesync_trio.storage.base import Reset
from livesync_trio.storage.memory import MemoryEngine
from tests.api.serving import STORE, TOKEN, api, path_of
from tests.bad_input.clients import v3_url
from tests.bad_input.servers import running_server

SHORT_S = 0.3
"""Handshake limit of the servers whose limit is waited for."""


async def test_push_and_pull() -> None:
    async with api() as program:
        client = await program.dialect()
        ack = await client.ask(type="push", events=[{"type": "a", "id": "one"}, {"type": "b"}])
        assert (ack["type"], [event["seqNum"] for event in ack["events"]], ack["head"]) == ("ack", [1, 2], 2)
        assert (await client.ask(type="push", events=[{"type": "a", "id": "one"}]))["repeated"] == 1
        page = await client.ask(type="pull", after=0, limit=1)
        assert ([event["id"] for event in page["events"]], page["next"], page["head"]) == (["one"], 1, 2)
        moment = page["events"][0]["timestamp"]
        assert len((await client.ask(type="pull", since=moment))["events"]) == 2
        assert (await client.ask(type="pull", since="2999-01-01T00:00:00Z"))["events"] == []
        await client.send(type="ping")
        assert await client.receive() == {"type": "pong"}
        refused = await client.ask(type="push", head=0, events=[{"type": "c"}])
        assert (refused["type"], refused["code"], refused["head"]) == ("error", "head-mismatch", 2)


async def test_broadcasts_come_to_who_subscribed() -> None:
    async with api() as program:
        await program.appended({"type": "a"})
        client, other = await program.dialect(), await program.dialect()
        assert [event["seqNum"] for event in (await client.ask(type="pull", live=True))["events"]] == [1]
        empty = await other.ask(type="pull", after=1, live=True)
        assert (empty["events"], empty["remaining"]) == ([], 0)
        await client.ask(type="push", events=[{"type": "b"}])
        assert [event["seqNum"] for event in (await other.receive())["events"]] == [2]
        await other.send(type="unsubscribe")
        await program.appended({"type": "c"})
        page = await other.ask(type="pull", after=2)
        assert [event["seqNum"] for event in page["events"]] == [3]


async def test_a_reset_is_told() -> None:
    engine = MemoryEngine()
    async with api(engine=engine) as program:
        await program.appended({"type": "a"})
        client = await program.dialect()
        before = await client.ask(type="pull", live=True)
        engine.writer().commit([Reset(StoreId(STORE))])
        await program.appended({"type": "b"})
        told = await client.receive()
        assert told["type"] == "reset"
        assert told["backendId"] != before["backendId"]
        assert [(event["seqNum"], event["type"]) for event in (await client.receive())["events"]] == [(1, "b")]


async def test_what_is_no_message_is_refused_and_the_socket_stays() -> None:
    async with api() as program:
        client = await program.dialect()
        bad: list[Any] = [
            "nonsense",
            "[]",
            "{}",
            {"type": "steal"},
            {"type": "push"},
            {"type": "push", "events": [{"typo": 1}]},
            {"type": "pull", "after": -1},
            {"type": "pull", "limit": 0},
            {"type": "pull", "since": "yesterday"},
            {"type": "push", "id": {"a": 1}, "events": [{"type": "a"}]},
            {"type": "push", "events": [{"type": "a", "id": "\u0000"}]},
            {"type": "push", "events": [{"type": 7}]},
            {"type": "push", "events": {"type": "a"}},
            {"type": "push", "events": []},
            {"type": "push", "events": [{"type": "a"}], "head": "1"},
            {"type": "push", "events": [{"type": "a", "seqNum": 1}]},
            {"type": "pull", "limit": 1_001},
            {"type": "pull", "after": 2**53},
            {"type": "pull", "live": "yes"},
            {"type": "auth", "token": 7},
            {"_tag": "Ping"},
            '{"type":"push","events":[{"type":"a","data":' + "[" * 100_000 + "]" * 100_000 + "}]}",
        ]
        for message in bad:
            await client.socket.send(message)
            told = await client.receive()
            assert (told["type"], told["code"]) == ("error", "invalid-request"), (message, told)
        assert (await client.ask(type="push", events=[{"type": "a"}]))["head"] == 1


# --- who may speak ---------------------------------------------------------------------------------------------------


async def test_a_socket_without_a_token_can_only_send_one() -> None:
    async with api(auth_token=Secret(TOKEN), payload={"authToken": TOKEN}) as program:
        client = await program.dialect()
        for kind in ("push", "pull"):
            told = await client.ask(type=kind, events=[{"type": "a"}])
            assert (told["type"], told["code"]) == ("error", "unauthenticated")
        assert (await client.ask(type="auth", token="wrong"))["code"] == "not-allowed"
        told = await client.ask(type="auth", token=TOKEN)
        assert (told["type"], told["head"]) == ("session", 0)
        assert (await client.ask(type="push", events=[{"type": "a"}]))["head"] == 1


async def test_a_socket_without_a_token_is_closed_after_the_limit() -> None:
    async with api(auth_token=Secret(TOKEN), payload={"authToken": TOKEN}, handshake_limit_s=SHORT_S) as program:
        client = await program.dialect()
        assert await client.socket.closed() == 1008


async def test_a_stranger_may_send_little() -> None:
    async with api(auth_token=Secret(TOKEN), payload={"authToken": TOKEN}) as program:
        client = await program.dialect()
        await client.send(type="auth", token="x" * 20_000)
        assert await client.socket.closed() == 1008


async def test_a_token_in_the_url_is_as_good() -> None:
    async with api(auth_token=Secret(TOKEN), payload={"authToken": TOKEN}) as program:
        client = await program.dialect(f"{path_of()}?token={TOKEN.replace(' ', '%20')}")
        assert (await client.ask(type="pull"))["events"] == []
        answer = await program.server.ask(
            f"GET {path_of()}?token=wrong HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n\r\n".encode()
        )
        assert answer.status == 403


# --- everybody -------------------------------------------------------------------------------------------------------


async def test_the_first_message_at_the_path_of_0_3_tells_what_is_spoken() -> None:
    async with api() as program:
        plain = await program.dialect(v3_url(STORE, None))
        assert (await plain.ask(type="push", events=[{"type": "a"}]))["head"] == 1
        old = await program.server.v3()
        await old.check_works()
        page = await plain.ask(type="pull", live=True)
        assert len(page["events"]) == 2
        await program.appended({"type": "b"})
        assert [event["type"] for event in (await plain.receive())["events"]] == ["b"]


async def test_without_the_api_the_path_of_0_3_is_theirs_alone() -> None:
    async with running_server() as server:
        answer = await server.ask(f"GET {path_of()} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert answer.status == 404
