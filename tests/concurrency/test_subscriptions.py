"""Subscriptions: what ends with them, logs that are replaced, what large batches and slow clients hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from livesync_trio.access.client import Client
from livesync_trio.connection import http_rpc
from livesync_trio.connection.pulling import rpc_chunks
from livesync_trio.connection.v3_peer import V3Peer
from livesync_trio.hooks import HookContext, Hooks
from livesync_trio.limits import HTTP_PULL_STORAGE_PATIENCE_S, PUBLICATION_MAX_BYTES, READ_MAX_EVENTS, READS_AT_A_TIME
from livesync_trio.memory import Budget, Memory
from livesync_trio.model import BackendId, LogState, Publication, StoredEvent, StoreId
from livesync_trio.storage import base
from livesync_trio.wire.messages import Generation, RequestId
from tests.bad_input.clients import NO_CURSOR
from tests.bad_input.clients import http_rpc as http_body
from tests.concurrency.stage import UNAVAILABLE, A, Gate, Stage, batch, connected, event, running
from tests.concurrency.test_pulls import fill, receive_until

V3 = "/websocket?storeId=a"
PULLS = 300


async def restore(stage: Stage, events: int, backend_id: str | None = None) -> None:
    """Put a log of that many events in the place of the store's, as `restore` does beside a running server."""
    writer, staged_id = stage.engine.writer(), StoreId("staged")
    [staged] = writer.commit([base.OpenStore(staged_id)])
    assert isinstance(staged, LogState)
    append = base.Append(staged_id, staged, (batch(0, *range(1, events + 1)),), "2026-01-01T00:00:00.000Z")
    [filled] = writer.commit([append])
    assert isinstance(filled, base.Appended)
    found = stage.engine.reader().state(A)
    assert found is not None
    identity = BackendId(backend_id) if backend_id else found.backend_id
    [done] = writer.commit([base.Adopt(A, staged_id, filled.state, identity, found)])
    assert isinstance(done, base.Appended)
    actor = stage.registry.running(A)
    assert actor is not None
    assert actor.tell(done.state)


# --- the end ----------------------------------------------------------------------------------------------------------


async def test_the_task_of_a_closed_pull_ends_with_it(autojump_clock: trio.testing.MockClock) -> None:
    """Issue 12.12: each PullReq of a 0.3 socket that read nothing left a task, without end."""
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery, target=v3_target()) as client:
        await fill(stage, 600, size=1_000)
        client.stop_reading()
        [peer] = stage.peers
        assert isinstance(peer, V3Peer)
        for number in range(PULLS):
            await client.send({"_tag": "WSMessage.PullReq", "requestId": f"r{number}", "cursor": None})
            await trio.testing.wait_all_tasks_blocked()
            assert peer.pull_tasks <= 1
            assert peer._tasks is not None
            assert peer._tasks.count <= 3
        client.read_again()


def v3_target() -> str:
    from tests.bad_input.clients import v3_url

    return v3_url("a")


# --- a log that is replaced -------------------------------------------------------------------------------------------


async def test_a_log_restored_under_its_identity_is_read_on(autojump_clock: trio.testing.MockClock) -> None:
    """Issue 12.18: it was told as `BackendIdMismatchError` with expected and received the same."""
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await fill(stage, 3)
        await client.pull("1")
        assert await receive_until(client, 3) == [1, 2, 3]
        await restore(stage, 5)
        assert await receive_until(client, 5) == [4, 5]
        await fill(stage, 1, start=5)
        assert await receive_until(client, 6) == [6]


async def test_a_0_3_client_is_not_sent_again_what_it_has_of_a_restored_log(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with running(stage) as nursery:
        await fill(stage, 3)
        async with connected(stage, nursery, target=v3_target()) as client:
            await client.send({"_tag": "WSMessage.PullReq", "requestId": "r", "cursor": None})
            assert await receive_until(client, 3) == [1, 2, 3]
            await restore(stage, 5)
            assert await receive_until(client, 5) == [4, 5]


async def test_a_log_under_another_identity_is_told(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await fill(stage, 3)
        await client.pull("1")
        before = (await stage.state()).backend_id
        await receive_until(client, 3)
        await restore(stage, 5, "another")
        error = (await client.receive())["exit"]["cause"]["error"]
        assert error == {"_tag": "BackendIdMismatchError", "expected": "another", "received": before}


# --- pulls over HTTP --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def http_pull(stage: Stage) -> AsyncIterator[http_rpc.Answer]:
    body = http_body("a", "1", "Pull", {"storeId": "a", "cursor": NO_CURSOR}).partition(b"\r\n\r\n")[2]
    client = Client(HookContext(A, None, {}, "127.0.0.1:1"))
    answer = await http_rpc.serve(body, stage.registry.handle(A), client, stage.door.shared)
    yield answer
    if not isinstance(answer.messages, tuple):
        await answer.messages.aclose()


async def rest_of(answer: http_rpc.Answer) -> list[bytes]:
    assert not isinstance(answer.messages, tuple)
    return [message async for message in answer.messages]


async def first_pages(answer: http_rpc.Answer) -> None:
    """Take what one read brings."""
    assert not isinstance(answer.messages, tuple)
    for _ in range(READ_MAX_EVENTS // 100):
        assert b'"_tag":"Chunk"' in await anext(answer.messages)


async def test_a_reset_in_the_middle_is_told_as_what_it_is(autojump_clock: trio.testing.MockClock) -> None:
    """Issue 12.19: it was an `UnknownError` about the database, which ends the client's live pull for good."""
    stage = Stage()
    async with running(stage):
        await fill(stage, 1_500)
        async with http_pull(stage) as answer:
            await first_pages(answer)
            await stage.registry.handle(A).reset()
            [told] = await rest_of(answer)
            assert b"BackendIdMismatchError" in told


async def test_a_restored_log_is_read_on_over_http(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage):
        await fill(stage, 1_500)
        async with http_pull(stage) as answer:
            await first_pages(answer)
            await restore(stage, 1_600)
            told = await rest_of(answer)
            assert b'"_tag":"Success"' in told[-1]
            assert b'"seqNum":1600' in told[-2]


@pytest.mark.parametrize("lasts_s", [1.0, 5 * HTTP_PULL_STORAGE_PATIENCE_S])
async def test_a_passing_trouble_is_waited_out_or_ends_the_answer_where_it_stood(
    autojump_clock: trio.testing.MockClock, lasts_s: float
) -> None:
    stage = Stage()
    async with running(stage) as nursery:
        await fill(stage, 1_500)
        async with http_pull(stage) as answer:
            await first_pages(answer)
            stage.readers.fail = UNAVAILABLE

            async def mend() -> None:
                await trio.sleep(lasts_s)
                stage.readers.fail = None

            nursery.start_soon(mend)
            began_s = trio.current_time()
            told = await rest_of(answer)
            assert b'"_tag":"Success"' in told[-1]
            whole = lasts_s < HTTP_PULL_STORAGE_PATIENCE_S
            assert len(told) == (6 if whole else 1)
            assert trio.current_time() - began_s < 3 * HTTP_PULL_STORAGE_PATIENCE_S


# --- what is held -----------------------------------------------------------------------------------------------------


async def test_one_connection_pushes_only_so_much_at_a_time(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 12.13: forty pipelined pushes of 30 MB were all held."""
    monkeypatch.setattr("livesync_trio.connection.peer.PUSHES_UNDER_WAY_MAX_BYTES", 200_000)
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.pull("0", live=False)
        assert [(await client.receive())["_tag"] for _ in range(2)] == ["Chunk", "Exit"]
        stage.writer.before.close()
        [peer] = stage.peers

        async def push_often() -> None:
            for number in range(1, 21):
                await client.push(str(number), number - 1, number, text="x" * 90_000)

        nursery.start_soon(push_often)
        await trio.testing.wait_all_tasks_blocked()
        assert 200_000 <= peer.unanswered.held_bytes < 400_000
        memory = stage.door.shared.memory
        assert memory.received.used_bytes >= peer.unanswered.held_bytes
        await trio.sleep(300)  # not taken for silent: nobody listens to it
        stage.writer.before.open()
        exits = 0
        while exits < 20:
            exits += (await client.receive())["exit"]["_tag"] == "Success"
        await client.ping()
        assert (peer.unanswered.held_bytes, memory.received.used_bytes) == (0, 0)


async def test_a_message_waits_for_room_and_is_not_taken_for_silence(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    memory = stage.door.shared.memory
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.pull("0", live=False)
        assert [(await client.receive())["_tag"] for _ in range(2)] == ["Chunk", "Exit"]
        held_bytes = 64 * 1024 * 1024
        memory.received.take(held_bytes)

        async def push() -> None:
            await client.push("1", 0, 1, text="x" * 300_000)

        nursery.start_soon(push)
        await trio.sleep(200)
        assert memory.received.waiting == 1
        memory.received.give_back(held_bytes)
        assert (await client.receive())["exit"]["_tag"] == "Success"
        assert memory.received.used_bytes == 0


async def test_room_is_not_held_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    """Who begins a large message and does not go on loses its connection, although it pings."""
    stage = Stage()
    memory = stage.door.shared.memory
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.stream.send_all(b"\x81\xff" + (500_000).to_bytes(8, "big") + b"mask" + b"x" * 20_000)
        await trio.testing.wait_all_tasks_blocked()
        assert memory.received.used_bytes >= 500_000
        for _ in range(7):
            await client.stream.send_all(b"x")
            await trio.sleep(10)
        assert not list(stage.peers)
        assert memory.received.used_bytes == 0


async def test_a_large_batch_is_read_from_the_log_by_its_followers(autojump_clock: trio.testing.MockClock) -> None:
    """Issue 12.14: each of forty followers got a copy."""
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.pull("1")
        await client.receive()
        size = PUBLICATION_MAX_BYTES // 2
        handle = stage.registry.handle(A)
        args = b'"' + b"x" * size + b'"'
        await handle.push(batch(0, 1, 2, 3, args=args), None, b'"x"', None)
        assert stage.counters.followers_sent_back == 1
        assert await receive_until(client, 3) == [1, 2, 3]


def test_the_body_of_a_chunk_is_shared_by_all_followers() -> None:
    one = StoredEvent(1, 1, event(1, 0, b'"' + b"x" * 200_000 + b'"').json, "2026-01-01T00:00:00.000Z")
    publication = Publication(LogState(1, BackendId("b"), 1, 1), (one,), b'"1"')
    [first], [second] = (rpc_chunks(publication, RequestId(number, Generation.V4)) for number in (b'"1"', b'"2"'))
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert first[0] != second[0]
    assert first[1] is second[1]


async def test_who_does_not_read_is_closed_when_others_wait_for_memory(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    object.__setattr__(stage.door.shared.memory, "sending", Budget(1_500_000))
    async with running(stage) as nursery:
        await fill(stage, 3_000, size=1_000)
        async with connected(stage, nursery) as deaf:
            deaf.stop_reading()
            await deaf.pull("1")
            await trio.testing.wait_all_tasks_blocked()
            async with connected(stage, nursery) as healthy:
                await healthy.pull("1")
                with trio.fail_after(40):
                    assert (await receive_until(healthy, 3_000))[0] == 1
            deaf.read_again()
    assert stage.door.shared.memory.sending.used_bytes == 0


async def test_a_slow_hook_holds_up_its_own_page_only(autojump_clock: trio.testing.MockClock) -> None:
    """One page is read at a time, not shown to its hook at a time."""
    gate, asked = Gate(), []

    async def on_pull_res(*arguments: object) -> None:
        asked.append(arguments)
        await gate()

    stage = Stage(Hooks(on_pull_res=on_pull_res))
    async with running(stage) as nursery:
        await fill(stage, 10)
        async with connected(stage, nursery) as one, connected(stage, nursery) as other:
            gate.close()
            for client in (one, other):
                await client.pull("1")
                await trio.testing.wait_all_tasks_blocked()
            assert len(asked) == 2
            gate.open()
            for client in (one, other):
                assert await receive_until(client, 10) == list(range(1, 11))


async def test_slow_hooks_of_pulls_over_http_hold_up_nobody_else(autojump_clock: trio.testing.MockClock) -> None:
    gate, asked = Gate(), []

    async def on_pull_res(*arguments: object) -> None:
        asked.append(arguments)
        await gate()

    stage = Stage(Hooks(on_pull_res=on_pull_res))
    async with running(stage) as nursery:
        await fill(stage, 10)
        gate.close()

        async def pull() -> None:
            async with http_pull(stage) as answer:
                assert b'"seqNum":10' in b"".join(await rest_of(answer))

        for _ in range(READS_AT_A_TIME + 1):
            nursery.start_soon(pull)
        await trio.testing.wait_all_tasks_blocked()
        assert len(asked) == READS_AT_A_TIME + 1
        gate.open()
        await trio.testing.wait_all_tasks_blocked()


# --- the budget itself ------------------------------------------------------------------------------------------------


async def test_a_budget_serves_in_order_and_forgets_who_left() -> None:
    budget, served = Budget(10), []

    async def ask(size: int) -> None:
        await budget.wait_for(size)
        served.append(size)

    assert budget.try_take(8)
    async with trio.open_nursery() as nursery:
        for size in (5, 1, 4, 1):
            nursery.start_soon(ask, size)
            await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0):
            await budget.wait_for(1)
        assert (served, budget.waiting, budget.over) == ([], 4, True)
        budget.give_back(8)
        await trio.testing.wait_all_tasks_blocked()
        assert (sorted(served), budget.used_bytes) == ([1, 4, 5], 10)
        budget.give_back(5)
    assert budget.used_bytes == 6


def test_what_is_larger_than_everything_fits_alone() -> None:
    budget = Budget(10)
    assert budget.try_take(50)
    assert not budget.try_take(1)
    assert Memory().receiving(2**21) is not Memory().receiving(10)
