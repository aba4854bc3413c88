"""Who is refused at the door: 401 and 403 with a short reason, and over HTTP in words that the client decodes."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio

from livesync_trio.config import Secret
from livesync_trio.errors import RULES, Kind
from livesync_trio.hooks import HookContext, Hooks
from livesync_trio.limits import REFUSED_BODY_MAX_BYTES

from .clients import NO_CURSOR, http_rpc, reason, request, sync_url, v3_url
from .servers import STORE, TestedServer, running_server
from .websockets import text, upgrade
from .wires import HttpAnswer, head, post, soon

TOKEN = "open sesame ö"

PULL = http_rpc(STORE, 1, "Pull", {"storeId": STORE, "cursor": NO_CURSOR}).partition(b"\r\n\r\n")[2]
PING = http_rpc(STORE, 1, "Ping", {"storeId": STORE}).partition(b"\r\n\r\n")[2]

WRONG_PAYLOADS: list[tuple[Any, Kind]] = [
    (..., Kind.UNAUTHENTICATED),
    (None, Kind.UNAUTHENTICATED),
    ({}, Kind.UNAUTHENTICATED),
    ([], Kind.UNAUTHENTICATED),
    (TOKEN, Kind.UNAUTHENTICATED),
    ({"authToken": None}, Kind.UNAUTHENTICATED),
    ({"authToken": 7}, Kind.UNAUTHENTICATED),
    ({"authToken": [TOKEN]}, Kind.UNAUTHENTICATED),
    ({"authtoken": TOKEN}, Kind.UNAUTHENTICATED),
    ({"authToken": ""}, Kind.NOT_ALLOWED),
    ({"authToken": TOKEN[:-1]}, Kind.NOT_ALLOWED),
    ({"authToken": TOKEN + " "}, Kind.NOT_ALLOWED),
    ({"authToken": TOKEN.upper()}, Kind.NOT_ALLOWED),
    ({"authToken": TOKEN + "\0"}, Kind.NOT_ALLOWED),
    ({"authToken": "\ud83d"}, Kind.NOT_ALLOWED),
]


def guarded_server() -> AbstractAsyncContextManager[TestedServer]:
    """A server that wants the token; its healthy clients bring it."""
    return running_server(auth_token=Secret(TOKEN), payload={"authToken": TOKEN})


async def ask_three_ways(server: TestedServer, payload: Any) -> list[HttpAnswer]:
    """The answers to an upgrade of 0.4, an upgrade of 0.3, and a pull over HTTP."""
    return [
        await server.ask(upgrade(sync_url(STORE, "ws", payload))),
        await server.ask(upgrade(v3_url(STORE, payload))),
        await server.ask(post(sync_url(STORE, "http", payload), PULL)),
    ]


@pytest.mark.parametrize(("payload", "kind"), WRONG_PAYLOADS, ids=lambda value: ascii(value)[:30])
async def test_without_the_token_nobody_comes_in(payload: Any, kind: Kind) -> None:
    async with guarded_server() as server:
        answers = await ask_three_ways(server, payload)
        status = RULES[kind].http_status
        assert status == (401 if kind is Kind.UNAUTHENTICATED else 403)
        assert [answer.status for answer in answers] == [status] * 3
        for answer in answers:
            assert answer.headers["access-control-allow-origin"] == "*"
            assert TOKEN not in answer.text
        told, _ = reason(answers[2].json[0])
        assert told == kind
        assert TOKEN not in str(server.logs)
        refused = server.logged("request refused")
        assert [(line["kind"], line["log_level"]) for line in refused] == [(kind, "warning")] * 3


async def test_with_the_token_everybody_comes_in() -> None:
    async with guarded_server() as server:
        upgraded, old, pulled = await ask_three_ways(server, {"authToken": TOKEN, "more": 1})
        assert (upgraded.status, old.status, pulled.status) == (101, 101, 200)


async def test_a_payload_inside_the_request_does_not_replace_that_of_the_url() -> None:
    async with guarded_server() as server:
        payload = {"storeId": STORE, "cursor": NO_CURSOR, "payload": {"authToken": TOKEN}}
        answer = await server.ask(http_rpc(STORE, "1", "Pull", payload))
        assert reason(answer.json[0])[0] == Kind.UNAUTHENTICATED


def refuse(payload: Any, context: HookContext) -> None:
    if payload == {"user": "mallory"}:
        raise PermissionError("mallory may not \ud83d\nread this")


async def refuse_async(payload: Any, context: HookContext) -> None:
    refuse(payload, context)


@pytest.mark.parametrize("hook", [refuse, refuse_async], ids=["plain", "async"])
async def test_whom_the_hook_refuses_is_told_why(hook: Any) -> None:
    async with running_server(Hooks(validate_payload=hook)) as server:
        upgraded, old, pulled = await ask_three_ways(server, {"user": "mallory"})
        assert [answer.status for answer in (upgraded, old, pulled)] == [RULES[Kind.NOT_ALLOWED].http_status] * 3
        assert upgraded.text == old.text == "mallory may not ?\nread this\n"
        assert reason(pulled.json[0]) == (Kind.NOT_ALLOWED, "mallory may not ?\nread this")
        assert [answer.status for answer in await ask_three_ways(server, {"user": "alice"})] == [101, 101, 200]


async def test_a_hook_that_hangs_at_the_door_holds_up_nobody_else() -> None:
    began, go_on = trio.Event(), trio.Event()

    async def hang(payload: Any, context: HookContext) -> None:
        if payload == {"user": "mallory"}:
            began.set()
            await go_on.wait()

    async with running_server(Hooks(validate_payload=hang), hook_limit_s=60) as server:
        wire = await server.wire()
        await wire.send(upgrade(sync_url(STORE, "ws", {"user": "mallory"})))
        await soon(began)
        await server.check_works()
        go_on.set()
        assert (await wire.read_answer()).status == 101


async def test_a_hook_that_hangs_at_the_door_is_cut_off_at_its_limit() -> None:
    async def hang(payload: Any, context: HookContext) -> None:
        if payload == {"user": "mallory"}:
            await trio.sleep_forever()

    async with running_server(Hooks(validate_payload=hang), hook_limit_s=0.3) as server:
        answers = await ask_three_ways(server, {"user": "mallory"})
        assert [answer.status for answer in answers] == [RULES[Kind.HOOK_TIMEOUT].http_status] * 3
        assert reason(answers[2].json[0])[0] == Kind.HOOK_TIMEOUT


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"\xff"], ids=repr)
async def test_a_refused_request_without_an_id_is_refused_in_an_array_too(body: bytes) -> None:
    async with guarded_server() as server:
        answer = await server.ask(post(sync_url(STORE, "http"), body))
        assert answer.status in (400, RULES[Kind.UNAUTHENTICATED].http_status)
        assert answer.json[0]["_tag"] == "Defect"


async def test_every_request_of_an_array_that_is_refused_as_a_whole_gets_its_exit() -> None:
    """The client waits for ever for an id without an Exit, whatever the status (SPEC 3.7)."""
    async with guarded_server() as server:
        many = [request(n, "SyncHttpRpc.Ping", {"storeId": STORE}) for n in range(50)]
        odd = [{"_tag": "Bequest"}, request("50", "SyncHttpRpc.Nothing", None), 7]
        answer = await server.ask(post(sync_url(STORE, "http"), json.dumps(many + odd).encode()))
        assert answer.status == RULES[Kind.UNAUTHENTICATED].http_status
        assert [message["requestId"] for message in answer.json] == [*range(50), "50"]
        assert {reason(message)[0] for message in answer.json} == {Kind.UNAUTHENTICATED}


async def test_of_the_body_of_a_stranger_only_a_little_is_read() -> None:
    """Else a few hundred strangers with 32 MiB each would fill the memory before anybody asks who they are."""
    async with running_server(auth_token=Secret(TOKEN), payload={"authToken": TOKEN}, frame_max_bytes=2**25) as server:
        for size in (REFUSED_BODY_MAX_BYTES, REFUSED_BODY_MAX_BYTES + 1):
            wire = await server.wire()
            length = f"Content-Length: {2**25}"
            await wire.send(head(f"POST {sync_url(STORE, 'http')} HTTP/1.1", length) + PING.ljust(size))
            if size == REFUSED_BODY_MAX_BYTES:
                with trio.move_on_after(0.1) as patience:
                    await wire.read_answer()
                assert patience.cancelled_caught  # all that was allowed has come, and it is not the whole yet
            else:
                answer = await wire.read_answer()  # although the rest was never sent
                assert answer.status == RULES[Kind.UNAUTHENTICATED].http_status
                assert answer.json[0]["_tag"] == "Defect"
        whole = await server.ask(post(sync_url(STORE, "http"), PING.ljust(REFUSED_BODY_MAX_BYTES)))
        assert reason(whole.json[0])[0] == Kind.UNAUTHENTICATED
        right = sync_url(STORE, "http", {"authToken": TOKEN})
        assert (await server.ask(post(right, PING.ljust(2 * REFUSED_BODY_MAX_BYTES)))).status == 200


async def test_what_was_sent_behind_a_refused_upgrade_is_not_acted_on() -> None:
    async with guarded_server() as server:
        for target in (sync_url(STORE), v3_url(STORE)):
            wire = await server.wire()
            await wire.send(upgrade(target) + text({"_tag": "Ping"}))
            await wire.half_close()
            assert (await wire.read_answer()).status == RULES[Kind.UNAUTHENTICATED].http_status
            rest = await wire.read_to_end()
            assert b"Pong" not in rest
            assert b" 101 " not in rest


async def test_a_refused_client_may_try_again_on_its_connection() -> None:
    async with guarded_server() as server:
        wire = await server.wire()
        assert (await wire.ask(post(sync_url(STORE, "http"), PING))).status == 401
        right = sync_url(STORE, "http", {"authToken": TOKEN})
        assert (await wire.ask(post(right, PING))).status == 200
