"""Hooks that raise, hang or lie, over real sockets: the client is told, and nobody else notices."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio

from livesync_trio.errors import RULES, Kind
from livesync_trio.hooks import HookContext, Hooks

from .clients import NO_CURSOR, event, http_rpc, pull, push, push_payload, reason, request
from .servers import STORE, running_server


class Objection(Exception):
    """What a user's hook raises."""


def object_plainly(argument: Any, context: HookContext) -> None:
    if context.store_id == STORE and not getattr(argument, "seq_num", 0):
        raise Objection("the ceiling is too low \ud83d")


async def object_async(argument: Any, context: HookContext) -> None:
    await trio.lowlevel.checkpoint()
    object_plainly(argument, context)


async def hang_async(argument: Any, context: HookContext) -> None:
    if context.store_id == "hangs":
        await trio.sleep_forever()


RELEASE = threading.Event()


def hang_plainly(argument: Any, context: HookContext) -> None:
    if context.store_id == "hangs":
        assert RELEASE.wait(10)


BOTH = pytest.mark.parametrize("objecting", [object_plainly, object_async], ids=["plain", "async"])


def only(store: str, hook: Any) -> Any:
    """The hook, for one store only, so that the server can be seen to work on others."""

    async def hooked(argument: Any, context: HookContext) -> None:
        if context.store_id == store:
            answer = hook(argument, context)
            if answer is not None:
                await answer

    return hooked


MESSAGE = "the ceiling is too low ?"


@BOTH
async def test_the_message_of_a_push_hook_reaches_the_client_and_nothing_is_stored(objecting: Any) -> None:
    async with running_server(Hooks(on_push=_first_push(objecting))) as server:
        for numbered in (False, True):
            client = await server.rpc(numbered=numbered)
            assert reason(await client.push(event(1, 0, "bad"))) == (Kind.HOOK_REFUSED, MESSAGE)
            assert await client.pull() == []
        old = await server.v3()
        await old.send({"_tag": "WSMessage.PushReq", "requestId": "p", "batch": [event(1, 0, "bad")]})
        assert await old.receive() == {"_tag": "WSMessage.Error", "requestId": "p", "message": MESSAGE}
        answer = await server.ask(http_rpc(STORE, "1", "Push", push_payload(STORE, event(1, 0, "bad"))))
        assert answer.status == RULES[Kind.HOOK_REFUSED].http_status == 403
        assert reason(answer.json[0]) == (Kind.HOOK_REFUSED, MESSAGE)
        await client.check_works()
        await old.check_works()


def _first_push(objecting: Any) -> Any:
    """Object to events whose args are "bad"."""
    if objecting is object_async:

        async def hook(batch: Any, context: HookContext) -> None:
            if batch[0].args == "bad":
                await object_async(None, context)

        return hook

    def plain_hook(batch: Any, context: HookContext) -> None:
        if batch[0].args == "bad":
            object_plainly(None, context)

    return plain_hook


@BOTH
async def test_the_message_of_a_pull_hook_reaches_the_client(objecting: Any) -> None:
    async with running_server(Hooks(on_pull=_pulls_from(objecting))) as server:
        for numbered in (False, True):
            for live in (False, True):
                client = await server.rpc("refused", numbered=numbered)
                request_id = client.new_id()
                await client.send(pull(request_id, "refused", live=live))
                assert reason(await client.receive()) == (Kind.HOOK_REFUSED, "not you")
                await client.send({"_tag": "Ping"})
                assert await client.receive() == {"_tag": "Pong"}
        old = await server.v3("refused")
        await old.send({"_tag": "WSMessage.PullReq", "requestId": "p"})
        assert await old.receive() == {"_tag": "WSMessage.Error", "requestId": "p", "message": "not you"}
        answer = await server.ask(http_rpc("refused", 1, "Pull", {"storeId": "refused", "cursor": NO_CURSOR}))
        assert answer.status == RULES[Kind.HOOK_REFUSED].http_status
        assert reason(answer.json[0]) == (Kind.HOOK_REFUSED, "not you")


def _pulls_from(objecting: Any) -> Any:
    if objecting is object_async:

        async def hook(cursor: Any, context: HookContext) -> None:
            if context.store_id == "refused":
                raise Objection("not you")

        return hook

    def plain_hook(cursor: Any, context: HookContext) -> None:
        if context.store_id == "refused":
            raise Objection("not you")

    return plain_hook


@pytest.mark.parametrize("error", [Objection(), KeyError("secret-key"), ZeroDivisionError("x"), RecursionError()], ids=repr)
async def test_whatever_is_raised_is_told_without_a_traceback(error: Exception) -> None:
    def hook(batch: Any, context: HookContext) -> None:
        if context.store_id == "refused":
            raise error

    async with running_server(Hooks(on_push=hook)) as server:
        kind, message = reason(await (await server.rpc("refused")).push(event(1)))
        assert kind == Kind.HOOK_REFUSED
        assert message in (str(error), type(error).__name__)


@pytest.mark.parametrize("hook", [hang_plainly, hang_async], ids=["plain", "async"])
@pytest.mark.parametrize("asked", ["on_push", "on_pull"])
async def test_a_hook_that_hangs_is_cut_off_while_the_others_are_served(hook: Any, asked: str) -> None:
    RELEASE.clear()
    try:
        async with running_server(Hooks(**{asked: hook}), hook_limit_s=0.3) as server:
            stuck, other = await server.rpc("hangs"), await server.rpc()
            request_id = stuck.new_id()
            message = push(request_id, "hangs", event(1)) if asked == "on_push" else pull(request_id, "hangs", live=True)
            with trio.fail_after(0.3):
                await stuck.send(message, {"_tag": "Ping"})
                assert await stuck.receive() == {"_tag": "Pong"}
                await other.check_works()
            kind, text = reason((await stuck.answer_to(request_id))[1])
            assert kind == Kind.HOOK_TIMEOUT
            assert hook.__name__ in text
            answer = await server.ask(http_rpc("hangs", 1, *_http_request(asked)))
            assert answer.status == RULES[Kind.HOOK_TIMEOUT].http_status == 503
            assert reason(answer.json[0])[0] == Kind.HOOK_TIMEOUT
    finally:
        RELEASE.set()


def _http_request(asked: str) -> tuple[str, Any]:
    if asked == "on_push":
        return "Push", push_payload("hangs", event(1))
    return "Pull", {"storeId": "hangs", "cursor": NO_CURSOR}


async def test_while_a_hook_hangs_more_requests_of_the_connection_are_refused_in_the_end() -> None:
    async with running_server(Hooks(on_push=hang_async), hook_limit_s=5) as server:
        client = await server.rpc("hangs", numbered=True)
        await client.send(*(push(n, "hangs", event(1)) for n in range(100)))
        message = await client.receive()
        assert reason(message)[0] == Kind.TOO_MANY_REQUESTS
        assert message["requestId"] == 64
        await client.send(push(3, "hangs", event(1)))
        assert await client.closed() == RULES[Kind.ID_IN_USE].close_code


async def test_a_0_3_push_whose_id_is_still_open_is_refused_and_the_socket_stays() -> None:
    async with running_server(Hooks(on_push=hang_async), hook_limit_s=0.2) as server:
        client = await server.v3("hangs")
        for _ in range(2):
            await client.send({"_tag": "WSMessage.PushReq", "requestId": "p", "batch": [event(1)]})
        first, second = await client.receive(), await client.receive()
        assert (first["_tag"], second["_tag"]) == ("WSMessage.Error", "WSMessage.Error")
        assert "open" in first["message"]
        assert "did not answer" in second["message"]


async def test_a_client_that_leaves_while_its_hook_hangs_is_forgotten() -> None:
    left = trio.Event()

    async def hook(batch: Any, context: HookContext) -> None:
        if context.store_id == "hangs":
            try:
                await trio.sleep_forever()
            finally:
                left.set()

    async with running_server(Hooks(on_push=hook), hook_limit_s=60) as server:
        client = await server.rpc("hangs")
        await client.send(push("1", "hangs", event(1)), {"_tag": "Ping"})
        assert await client.receive() == {"_tag": "Pong"}
        await client.wire.reset()
        with trio.fail_after(2):
            await left.wait()


async def test_what_hooks_are_told() -> None:
    told: list[tuple[str, Any, HookContext]] = []

    def note(name: str) -> Any:
        async def hook(argument: Any, context: HookContext) -> None:
            if context.store_id == "told":
                told.append((name, argument, context))

        return hook

    names = ("validate_payload", "on_push", "on_push_res", "on_pull", "on_pull_res")
    async with running_server(Hooks(**{name: note(name) for name in names})) as server:
        client = await server.rpc("told", payload={"of": "url"})
        await client.push(event(1, 0, {"a": [1.0]}))
        await client.push(event(9, 8))
        await client.send(request("5", "SyncWsRpc.Pull", {"storeId": "told", "cursor": NO_CURSOR, "payload": [1]}))
        await client.answer_to("5")
    by_name = {name: [(argument, context) for was, argument, context in told if was == name] for name in names}
    ((payload, context),) = by_name["validate_payload"]
    assert payload == context.payload == {"of": "url"}
    assert context.headers["host"] == "sync.example"
    assert context.client_address.startswith("127.0.0.1:")
    (batch, context) = by_name["on_push"][0]
    assert (batch[0].name, batch[0].args, batch[0].seq_num, batch[0].parent_seq_num) == ("todoCreated", {"a": [1.0]}, 1, 0)
    assert (batch[0].client_id, batch[0].session_id, context.payload) == ("client", "session", {"of": "url"})
    (cursor, context) = by_name["on_pull"][0]
    assert (cursor.seq_num, cursor.backend_id, context.payload) == (0, None, [1])
    ((page, _),) = by_name["on_pull_res"]
    assert ([new.seq_num for new in page.events], page.remaining) == ([1], 0)
    results = [(result.head, result.refusal is None) for result, _ in by_name["on_push_res"]]
    assert results == [(1, True), (None, False)]


@BOTH
async def test_observing_hooks_that_raise_change_no_answer(objecting: Any) -> None:
    async def hang(argument: Any, context: HookContext) -> None:
        await trio.sleep_forever()

    async with running_server(Hooks(on_push_res=objecting, on_pull_res=objecting), hook_limit_s=0.1) as server:
        client = await server.rpc(numbered=True)
        await client.check_works()
        answer = await server.ask(http_rpc(STORE, 1, "Pull", {"storeId": STORE, "cursor": NO_CURSOR}))
        assert [message["_tag"] for message in answer.json] == ["Chunk", "Exit"]
        assert server.logged("observing hook failed")


HARD_TO_DECODE = {
    "an integer of 5,000 digits": "1" * 5_000,
    "deep": "[" * 940 + "]" * 940,
    "infinity": "1e999",
    "a lone surrogate": r'"\ud83d"',
}


@pytest.mark.parametrize("args", HARD_TO_DECODE.values(), ids=HARD_TO_DECODE)
async def test_args_that_python_can_hardly_read_do_no_harm_where_hooks_look_at_them(args: str) -> None:
    """They are refused where they come in, or they are served for good. A store must not be poisoned by them."""
    seen: list[Any] = []

    async def look(argument: Any, context: HookContext) -> None:
        if context.store_id == "hard":
            seen.append(argument)

    async with running_server(Hooks(on_push=look, on_pull_res=look)) as server:
        await _push_hard_args(server, args)


@pytest.mark.parametrize("args", HARD_TO_DECODE.values(), ids=HARD_TO_DECODE)
async def test_args_that_python_can_hardly_read_do_no_harm_where_hooks_look_at_pages_only(args: str) -> None:
    async def look(page: Any, context: HookContext) -> None:
        assert page.events[0].seq_num == 1 or context.store_id != "hard"

    async with running_server(Hooks(on_pull_res=look)) as server:
        await _push_hard_args(server, args)


async def _push_hard_args(server: Any, args: str) -> None:
    import json

    client = await server.rpc("hard")
    await client.send(json.dumps(push("1", "hard", event(1, 0, "ARGS"))).replace('"ARGS"', args))
    _, exit_ = await client.answer_to("1")
    stored = exit_["exit"]["_tag"] == "Success"
    if not stored:
        assert reason(exit_)[0] in (Kind.INVALID_REQUEST, Kind.HOOK_REFUSED)
    await client.send(pull("2", "hard"))
    assert (args.encode() in await client.receive_text()) == stored
    assert b'"Success"' in await client.receive_text()
    answer = await server.ask(http_rpc("hard", 1, "Pull", {"storeId": "hard", "cursor": NO_CURSOR}))
    assert answer.status == 200
    assert (args.encode() in answer.body) == stored
    await client.send({"_tag": "Ping"})
    assert await client.receive() == {"_tag": "Pong"}


@pytest.mark.parametrize("payload", ["1" * 5_000, "[" * 940 + "]" * 940], ids=["5,000 digits", "deep"])
async def test_a_payload_that_python_can_hardly_read_is_refused_or_taken(payload: str) -> None:
    import json

    async def look(argument: Any, context: HookContext) -> None:
        await trio.lowlevel.checkpoint()

    async with running_server(Hooks(on_pull=look, on_push=look)) as server:
        client = await server.rpc()
        message = request("1", "SyncWsRpc.Pull", {"storeId": STORE, "cursor": NO_CURSOR, "payload": "HERE"})
        await client.send(json.dumps(message).replace('"HERE"', payload))
        _, exit_ = await client.answer_to("1")
        if exit_["exit"]["_tag"] == "Failure":
            assert reason(exit_)[0] == Kind.INVALID_REQUEST
        body = json.dumps(request("1", "SyncHttpRpc.Pull", message["payload"])).replace('"HERE"', payload)
        from .clients import sync_url
        from .wires import post

        answer = await server.ask(post(sync_url(STORE, "http"), body.encode()))
        assert answer.json[-1]["_tag"] == "Exit"
        await client.check_works()
