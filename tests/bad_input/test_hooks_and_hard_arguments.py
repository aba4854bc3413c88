"""JSON that is legal and that Python can hardly read, where hooks want to look at it.

It is refused where it comes in, or it is served for good. A store must not be poisoned by it.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from livesync_trio.hooks import HookContext, Hooks

from .clients import NO_CURSOR, check_exit, event, http_rpc, pull, push, push_payload, request, sync_url
from .nesting import depths_near_the_border, nested
from .servers import STORE, TestedServer, running_server
from .wires import post

HARD: dict[str, list[str]] = {
    "an integer of 5,000 digits": ["1" * 5_000],
    "infinity": ["1e999"],
    "a lone surrogate": [r'"\ud83d"'],
    "nested as deeply as can just be read": [nested(depth) for depth in depths_near_the_border(2)],
}

HARD_TEXTS = pytest.mark.parametrize("texts", HARD.values(), ids=HARD)


async def look(argument: Any, context: HookContext) -> None:
    """A hook that agrees with everything."""


@pytest.mark.parametrize(
    "hooks",
    [Hooks(on_push=look, on_push_res=look, on_pull=look, on_pull_res=look), Hooks(on_pull_res=look)],
    ids=["all hooks", "hooks for pages only"],
)
@HARD_TEXTS
async def test_args_harm_nothing_where_hooks_look_at_them(hooks: Hooks, texts: list[str]) -> None:
    async with running_server(hooks) as server:
        for number, args in enumerate(texts):
            await _check_args_are_served_or_refused(server, f"hard {number}", args)


async def _check_args_are_served_or_refused(server: TestedServer, store: str, args: str) -> None:
    client = await server.rpc(store)
    await client.send(json.dumps(push("1", store, event(1, 0, "ARGS"))).replace('"ARGS"', args))
    stored = await client.is_served("1")
    client = await server.rpc(store)
    await client.send(pull("2", store))
    assert (args.encode() in await client.receive_text()) == stored
    assert b'"Success"' in await client.receive_text()
    answer = await server.ask(http_rpc(store, 1, "Pull", {"storeId": store, "cursor": NO_CURSOR}))
    assert answer.status == 200
    assert (args.encode() in answer.body) == stored
    old = await server.v3(store)
    await old.send({"_tag": "WSMessage.PullReq", "requestId": "x"})
    assert (args.encode() in await old.receive_text()) == stored
    await server.hang_up()


@pytest.mark.parametrize(
    "hooks",
    [Hooks(on_pull=look, on_push=look), Hooks(on_push_res=look, on_pull_res=look)],
    ids=["deciding hooks", "observing hooks"],
)
@HARD_TEXTS
async def test_a_payload_inside_a_request_harms_nothing(hooks: Hooks, texts: list[str]) -> None:
    pull_payload = {"storeId": STORE, "cursor": NO_CURSOR, "payload": "HERE"}
    batch = {**push_payload(STORE, event(1)), "payload": "HERE"}
    async with running_server(hooks) as server:
        for payload in texts:
            for procedure, asked in (("Pull", pull_payload), ("Push", batch)):
                message = json.dumps(request("1", f"SyncWsRpc.{procedure}", asked)).replace('"HERE"', payload)
                client = await server.rpc()
                await client.send(message)
                await client.is_served("1")
                body = message.replace("SyncWsRpc", "SyncHttpRpc").encode()
                answer = await server.ask(post(sync_url(STORE, "http"), body))
                if answer.status == 400:
                    assert answer.json[0]["_tag"] == "Defect"
                else:
                    check_exit(answer.json[-1])
            await server.hang_up()
