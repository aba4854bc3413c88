"""Hooks that raise, hang or look on, over real sockets: the client is told, and nobody else notices."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio

from livesync_trio.errors import RULES, Kind
from livesync_trio.hooks import FAILED, Hook, HookContext, Hooks, Refused

from .clients import NO_CURSOR, event, http_rpc, pull, push, push_payload, reason, request
from .servers import running_server
from .wires import soon

TOLD = "the ceiling is too low ?"
"""What a client is told of the message that `refuse` raises: UTF-8 cannot carry half a surrogate pair."""


class Objection(Refused):
    """What a user's hook raises to refuse."""


def refuse(argument: Any, context: HookContext) -> None:
    """Refuse everything on one store; healthy clients are on others."""
    if context.store_id == "refused":
        raise Objection("the ceiling is too low \ud83d")


async def refuse_async(argument: Any, context: HookContext) -> None:
    await trio.lowlevel.checkpoint()
    refuse(argument, context)


async def hang_async(argument: Any, context: HookContext) -> None:
    if context.store_id == "hangs":
        await trio.sleep_forever()


REFUSING = pytest.mark.parametrize("refusing", [refuse, refuse_async], ids=["plain", "async"])
PULL = {"storeId": "refused", "cursor": NO_CURSOR}


@REFUSING
async def test_the_message_of_a_push_hook_reaches_the_client_and_nothing_is_stored(refusing: Hook) -> None:
    async with running_server(Hooks(on_push=refusing)) as server:
        for numbered in (False, True):
            client = await server.rpc("refused", numbered=numbered)
            assert reason(await client.push(event(1))) == (Kind.HOOK_REFUSED, TOLD)
            assert await client.pull() == []
        old = await server.v3("refused")
        await old.send({"_tag": "WSMessage.PushReq", "requestId": "p", "batch": [event(1)]})
        assert await old.receive() == {"_tag": "WSMessage.Error", "requestId": "p", "message": TOLD}
        assert await old.pull() == []
        answer = await server.ask(http_rpc("refused", "1", "Push", push_payload("refused", event(1))))
        assert answer.status == RULES[Kind.HOOK_REFUSED].http_status == 403
        assert reason(answer.json[0]) == (Kind.HOOK_REFUSED, TOLD)


@REFUSING
async def test_the_message_of_a_pull_hook_reaches_the_client(refusing: Hook) -> None:
    async with running_server(Hooks(on_pull=refusing)) as server:
        for numbered in (False, True):
            for live in (False, True):
                client = await server.rpc("refused", numbered=numbered)
                await client.send(pull(client.new_id(), "refused", live=live))
                assert reason(await client.receive()) == (Kind.HOOK_REFUSED, TOLD)
                assert (await client.push(*[]))["exit"]["_tag"] == "Success"
        old = await server.v3("refused")
        await old.send({"_tag": "WSMessage.PullReq", "requestId": "p"})
        assert await old.receive() == {"_tag": "WSMessage.Error", "requestId": "p", "message": TOLD}
        answer = await server.ask(http_rpc("refused", 1, "Pull", PULL))
        assert answer.status == RULES[Kind.HOOK_REFUSED].http_status
        assert reason(answer.json[0]) == (Kind.HOOK_REFUSED, TOLD)


FAULTS = [
    Exception(),
    KeyError("x"),
    ZeroDivisionError("x\0y"),
    RecursionError(),
    StopIteration("x"),
    OSError(2, "x"),
    SystemExit(3),
]


@pytest.mark.parametrize("error", FAULTS, ids=ascii)
async def test_a_fault_of_a_hook_is_the_operators_business(error: BaseException) -> None:
    def hook(batch: Any, context: HookContext) -> None:
        if context.store_id == "refused":
            raise error

    async def hook_async(batch: Any, context: HookContext) -> None:
        hook(batch, context)

    for either in (hook, hook_async):
        async with running_server(Hooks(on_push=either)) as server:
            client = await server.rpc("refused")
            assert reason(await client.push(event(1))) == (Kind.HOOK_FAILED, FAILED.message)
            assert reason(await client.push(event(1)))[0] == Kind.HOOK_FAILED
            failed = server.logged("hook failed")
            assert [line["log_level"] for line in failed] == ["error"] * 2
            assert all(line["exc_info"] and line["store"] == "refused" for line in failed)
            server.logs[:] = [line for line in server.logs if line not in failed]


class Hanging:
    """A hook that hangs on one store until it is let go, plain or async."""

    def __init__(self) -> None:
        self.began = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._let_go = threading.Event()
        self._let_go_async = trio.Event()

    def let_go(self) -> None:
        self._let_go.set()
        self._let_go_async.set()

    def plain(self, argument: Any, context: HookContext) -> None:
        if context.store_id == "hangs":
            self._token.run_sync_soon(self.began.set)
            assert self._let_go.wait(30)

    async def in_trio(self, argument: Any, context: HookContext) -> None:
        if context.store_id == "hangs":
            self.began.set()
            await self._let_go_async.wait()


ASKED = pytest.mark.parametrize("asked", ["on_push", "on_pull"])
HANGING = pytest.mark.parametrize("kind", ["plain", "in_trio"])


def message_to(asked: str, request_id: object) -> Any:
    return pull(request_id, "hangs") if asked == "on_pull" else push(request_id, "hangs", event(1))


@ASKED
@HANGING
async def test_while_a_hook_hangs_everybody_else_and_pings_are_answered(kind: str, asked: str) -> None:
    hanging = Hanging()
    async with running_server(Hooks(**{asked: getattr(hanging, kind)}), hook_limit_s=60) as server:
        try:
            stuck, other, same_store = await server.rpc("hangs"), await server.rpc(), await server.rpc("hangs")
            await stuck.send(message_to(asked, "1"))
            await soon(hanging.began)
            await stuck.check_ping()
            await other.check_works()
            await same_store.check_ping()
            await server.check_works()
        finally:
            hanging.let_go()
        assert (await stuck.answer_to("1"))[1]["exit"]["_tag"] == "Success"
        await same_store.check_works()


@ASKED
@HANGING
async def test_a_hook_that_hangs_is_cut_off_at_its_limit(kind: str, asked: str) -> None:
    hanging = Hanging()
    try:
        async with running_server(Hooks(**{asked: getattr(hanging, kind)}), hook_limit_s=0.3) as server:
            stuck = await server.rpc("hangs")
            await stuck.send(message_to(asked, "1"))
            told, text = reason((await stuck.answer_to("1"))[1])
            assert told == Kind.HOOK_TIMEOUT
            assert f"{kind} did not answer" in text
            ask = ("Pull", {"storeId": "hangs", "cursor": NO_CURSOR})
            if asked == "on_push":
                ask = ("Push", push_payload("hangs", event(1)))
            answer = await server.ask(http_rpc("hangs", 1, *ask))
            assert answer.status == RULES[Kind.HOOK_TIMEOUT].http_status == 503
            assert reason(answer.json[0])[0] == Kind.HOOK_TIMEOUT
    finally:
        hanging.let_go()


async def test_while_a_hook_hangs_only_so_many_requests_of_its_connection_wait() -> None:
    async with running_server(Hooks(on_push=hang_async), hook_limit_s=60) as server:
        client = await server.rpc("hangs", numbered=True)
        await client.send(*(push(n, "hangs", event(1)) for n in range(100)))
        for refused in range(64, 100):
            message = await client.receive()
            assert message["requestId"] == refused
            assert reason(message)[0] == Kind.TOO_MANY_REQUESTS
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
        assert await client.pull() == []


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
        await soon(left)


async def test_an_interrupted_push_whose_hook_has_not_answered_is_not_stored() -> None:
    go_on = trio.Event()

    async def hook(batch: Any, context: HookContext) -> None:
        if context.store_id == "hangs":
            await go_on.wait()

    async with running_server(Hooks(on_push=hook)) as server:
        client = await server.rpc("hangs")
        await client.send(push("1", "hangs", event(1)), {"_tag": "Interrupt", "requestId": "1"})
        assert (await client.receive())["exit"]["cause"]["_tag"] == "Interrupt"
        go_on.set()
        assert await client.pull() == []
        await client.check_works()


async def test_what_hooks_are_told() -> None:
    told: list[tuple[str, Any, HookContext]] = []

    def note(name: str) -> Hook:
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
    (new,) = batch
    assert (new.name, new.args, new.seq_num, new.parent_seq_num) == ("todoCreated", {"a": [1.0]}, 1, 0)
    assert (new.client_id, new.session_id, context.payload) == ("client", "session", {"of": "url"})
    (cursor, context) = by_name["on_pull"][0]
    assert (cursor.seq_num, cursor.backend_id, context.payload) == (0, None, [1])
    ((page, _),) = by_name["on_pull_res"]
    assert ([new.seq_num for new in page.events], page.remaining) == ([1], 0)
    results = [(result.head, result.refusal is None) for result, _ in by_name["on_push_res"]]
    assert results == [(1, True), (None, False)]


@REFUSING
async def test_observing_hooks_that_raise_change_no_answer(refusing: Hook) -> None:
    async with running_server(Hooks(on_push_res=refusing, on_pull_res=refusing)) as server:
        client = await server.rpc("refused", numbered=True)
        await client.check_works()
        answer = await server.ask(http_rpc("refused", 1, "Pull", PULL))
        assert [message["_tag"] for message in answer.json] == ["Chunk", "Exit"]
        assert server.logged("observing hook failed")


@HANGING
async def test_an_observing_hook_that_hangs_holds_up_neither_answers_nor_pongs(kind: str) -> None:
    hanging = Hanging()
    async with running_server(Hooks(on_push_res=getattr(hanging, kind)), hook_limit_s=60) as server:
        try:
            client = await server.rpc("hangs")
            for n in range(5):
                assert (await client.push(event(n + 1, n)))["exit"]["_tag"] == "Success"
            await client.check_ping()
        finally:
            hanging.let_go()
