"""Clients that leave while the store works for them: what was begun is finished, and nobody else notices."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import trio
import trio.testing

from livesync_trio.hooks import HookContext, HookPushResult, Hooks
from livesync_trio.storage.base import Append, Outcome, Write
from livesync_trio.storage.memory import MemoryEngine, MemoryWriter
from tests.concurrency.stage import Stage, connected, running

from .clients import event, http_rpc, pull, push, push_payload
from .servers import TestedServer, running_server
from .wires import head, soon


class SlowEngine(MemoryEngine):
    """An engine whose disk is slow for one store: appends to it wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.began = trio.Event()
        self.token = trio.lowlevel.current_trio_token()
        self.let_go = threading.Event()

    def writer(self) -> MemoryWriter:
        engine, writer = self, super().writer()

        class SlowWriter(MemoryWriter):
            def commit(self, writes: Sequence[Write]) -> list[Outcome | Exception]:
                if any(isinstance(write, Append) and write.store_id == "slow" for write in writes):
                    engine.token.run_sync_soon(engine.began.set)
                    assert engine.let_go.wait(10)
                return super().commit(writes)

        return SlowWriter(writer._data)


async def nobody_connected(server: TestedServer) -> None:
    """Wait until the server has noticed that everybody left."""
    with trio.fail_after(30):
        while (await server.ask(head("GET /health HTTP/1.1"))).json["connections"]:
            await trio.lowlevel.checkpoint()


async def _observe(argument: Any, context: HookContext) -> None:
    """A hook that only looks."""


async def test_a_push_whose_client_left_during_the_commit_is_stored_and_the_store_lives() -> None:
    for hooks in (Hooks(), Hooks(on_push_res=_observe)):
        engine = SlowEngine()
        async with running_server(hooks, engine=engine) as server:
            try:
                pusher, late, old = await server.rpc("slow"), await server.rpc("slow"), await server.v3("slow")
                await pusher.send(push("1", "slow", event(1)))
                await soon(engine.began)
                await late.send(push("1", "slow", event(9, 8)), pull("2", "slow", live=True), {"_tag": "Ping"})
                assert await late.receive() == {"_tag": "Pong"}
                await old.send({"_tag": "WSMessage.PushReq", "requestId": "p", "batch": [event(9, 8)]})
                await old.send({"_tag": "WSMessage.Ping", "requestId": "ping"})
                assert (await old.receive())["_tag"] == "WSMessage.Pong"
                for client in (pusher, late, old):
                    await client.wire.reset()
                await nobody_connected(server)
            finally:
                engine.let_go.set()
            client = await server.rpc("slow")
            assert [new["seqNum"] for new in await client.pull()] == [1]
            await client.check_works()
            assert server.logged("actor crashed") == []


async def test_what_became_of_a_push_is_told_although_its_client_left_meanwhile() -> None:
    """An audit or a webhook behind `on_push_res` must not miss what is in the log."""
    engine = SlowEngine()
    told, go_on, done = trio.Event(), trio.Event(), trio.Event()

    async def note(result: HookPushResult, context: HookContext) -> None:
        if context.store_id == "slow" and result.head == 1:
            told.set()
            await go_on.wait()
            done.set()

    async with running_server(Hooks(on_push_res=note), engine=engine) as server:
        try:
            pusher = await server.rpc("slow")
            await pusher.send(push("1", "slow", event(1)))
            await soon(engine.began)
            await pusher.wire.reset()
            await nobody_connected(server)
        finally:
            engine.let_go.set()
        await soon(told)
        go_on.set()
        await soon(done)


async def test_what_became_of_a_push_is_told_to_the_end_although_its_client_leaves_in_the_middle_of_it() -> None:
    told, go_on, done = trio.Event(), trio.Event(), trio.Event()

    async def note(result: HookPushResult, context: HookContext) -> None:
        if context.store_id == "told":
            told.set()
            await go_on.wait()
            done.set()

    async with running_server(Hooks(on_push_res=note)) as server:
        pusher = await server.rpc("told")
        assert (await pusher.push(event(1)))["exit"]["_tag"] == "Success"
        await soon(told)
        await pusher.wire.reset()
        await nobody_connected(server)
        go_on.set()
        await soon(done)


async def test_a_stopping_server_waits_for_what_pushes_left_behind(autojump_clock: trio.testing.MockClock) -> None:
    done = trio.Event()

    async def note(result: HookPushResult, context: HookContext) -> None:
        await trio.sleep(4)
        done.set()

    stage = Stage(Hooks(on_push_res=note))
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.push("1", 0, 1)
        assert (await client.receive())["exit"]["_tag"] == "Success"
        assert not done.is_set()
        await stage.peers.say_goodbye()
        assert done.is_set()


async def test_an_http_push_whose_client_left_during_the_commit_is_stored() -> None:
    engine = SlowEngine()
    async with running_server(engine=engine) as server:
        try:
            wire = await server.wire()
            await wire.send(http_rpc("slow", "1", "Push", push_payload("slow", event(1))))
            await soon(engine.began)
            await wire.reset()
        finally:
            engine.let_go.set()
        client = await server.rpc("slow")
        assert [new["seqNum"] for new in await client.pull()] == [1]
        await client.check_works()


async def test_while_the_disk_is_slow_pings_are_answered_and_other_stores_wait_for_the_disk_only() -> None:
    engine = SlowEngine()
    async with running_server(engine=engine) as server:
        try:
            pusher = await server.rpc("slow")
            await pusher.send(push("1", "slow", event(1)))
            await soon(engine.began)
            await pusher.send({"_tag": "Ping"})
            assert await pusher.receive() == {"_tag": "Pong"}
            other = await server.rpc("slow", numbered=True)
            await other.send({"_tag": "Ping"})
            assert await other.receive() == {"_tag": "Pong"}
        finally:
            engine.let_go.set()
        assert (await pusher.answer_to("1"))[1]["exit"]["_tag"] == "Success"
