"""Who is refused at the door: 401 and 403 with a short reason, and over HTTP in words that the client decodes."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio

from livesync_trio.config.secret import Secret
from livesync_trio.errors import RULES, Kind
from livesync_trio.hooks import HookContext, Hooks

from .clients import NO_CURSOR, http_rpc, reason, sync_url, v3_url
from .servers import STORE, TestedServer, running_server
from .websockets import text, upgrade
from .wires import HttpAnswer, post, soon

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
        refused = server.logged("refused at the door")
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

    async with running_server(Hooks(validate_payload=hang), hook_limit_s=0.05) as server:
        answers = await ask_three_ways(server, {"user": "mallory"})
        assert [answer.status for answer in answers] == [RULES[Kind.HOOK_TIMEOUT].http_status] * 3
        assert reason(answers[2].json[0])[0] == Kind.HOOK_TIMEOUT


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"\xff"], ids=repr)
async def test_a_refused_request_without_an_id_is_refused_in_an_array_too(body: bytes) -> None:
    async with guarded_server() as server:
        answer = await server.ask(post(sync_url(STORE, "http"), body))
        assert answer.status in (400, RULES[Kind.UNAUTHENTICATED].http_status)
        assert answer.json[0]["_tag"] == "Defect"


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
