"""JSON that is legal and that Python can hardly read, where hooks want to look at it.

It is refused where it comes in, or it is served for good. A store must not be poisoned by it.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from livesync_trio.errors import RULES, Kind
from livesync_trio.hooks import HookContext, Hooks

from .clients import NO_CURSOR, RpcClient, event, failure, http_rpc, pull, push, push_payload, reason, request, sync_url
from .servers import STORE, TestedServer, running_server
from .wires import Ended, post

HARD = {
    "an integer of 5,000 digits": "1" * 5_000,
    "infinity": "1e999",
    "a lone surrogate": r'"\ud83d"',
    **{f"{depth} levels": "[" * depth + "]" * depth for depth in range(902, 1000, 7)},
}

HARD_ARGS = pytest.mark.parametrize("args", HARD.values(), ids=HARD)


async def look(argument: Any, context: HookContext) -> None:
    """A hook that agrees with everything."""


@HARD_ARGS
async def test_args_harm_nothing_where_all_hooks_look_at_them(args: str) -> None:
    async with running_server(Hooks(on_push=look, on_push_res=look, on_pull=look, on_pull_res=look)) as server:
        await _check_args_are_served_or_refused(server, args)


@HARD_ARGS
async def test_args_harm_nothing_where_hooks_look_at_pages_only(args: str) -> None:
    async with running_server(Hooks(on_pull_res=look)) as server:
        await _check_args_are_served_or_refused(server, args)


async def _check_args_are_served_or_refused(server: TestedServer, args: str) -> None:
    client = await server.rpc("hard")
    await client.send(json.dumps(push("1", "hard", event(1, 0, "ARGS"))).replace('"ARGS"', args))
    stored = await _is_served(client)
    client = await server.rpc("hard")
    await client.send(pull("2", "hard"))
    assert (args.encode() in await client.receive_text()) == stored
    assert b'"Success"' in await client.receive_text()
    answer = await server.ask(http_rpc("hard", 1, "Pull", {"storeId": "hard", "cursor": NO_CURSOR}))
    assert answer.status == 200
    assert (args.encode() in answer.body) == stored
    old = await server.v3("hard")
    await old.send({"_tag": "WSMessage.PullReq", "requestId": "x"})
    assert (args.encode() in await old.receive_text()) == stored


@pytest.mark.parametrize("hooks", [Hooks(on_pull=look, on_push=look), Hooks(on_push_res=look, on_pull_res=look)])
@pytest.mark.parametrize("payload", HARD.values(), ids=HARD)
async def test_a_payload_inside_a_request_harms_nothing(hooks: Hooks, payload: str) -> None:
    pull_payload = {"storeId": STORE, "cursor": NO_CURSOR, "payload": "HERE"}
    batch = {**push_payload(STORE, event(1)), "payload": "HERE"}
    async with running_server(hooks) as server:
        http = sync_url(STORE, "http")
        for procedure, asked in (("Pull", pull_payload), ("Push", batch)):
            message = json.dumps(request("1", f"SyncWsRpc.{procedure}", asked)).replace('"HERE"', payload)
            client = await server.rpc()
            await client.send(message)
            await _is_served(client)
            answer = await server.ask(post(http, message.replace("SyncWsRpc", "SyncHttpRpc").encode()))
            if answer.status == 400:
                assert answer.json[0]["_tag"] == "Defect"
            else:
                _check_exit(answer.json[-1])


async def _is_served(client: RpcClient) -> bool:
    """Whether the request with id 1 is served. If not, it must have been refused by id, or as unreadable."""
    try:
        _, exit_ = await client.answer_to("1")
    except Ended:
        assert client.close_code == RULES[Kind.BAD_FRAME].close_code, client.close_reason
        return False
    _check_exit(exit_)
    await client.check_ping()
    return bool(exit_["exit"]["_tag"] == "Success")


def _check_exit(exit_: Any) -> None:
    assert exit_["_tag"] == "Exit"
    if exit_["exit"]["_tag"] == "Failure" and failure(exit_)["_tag"] != "ServerAheadError":
        assert reason(exit_)[0] in (Kind.INVALID_REQUEST, Kind.HOOK_REFUSED)
