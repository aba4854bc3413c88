"""What the simulation has found, or meets too rarely, once more without chance: seeds change with the dice."""

import math
import random
from typing import Any
from unittest import mock

import msgspec
import trio
import trio.testing

from livesync_trio.errors import Refusal
from livesync_trio.model import Batch, Event, LogState
from livesync_trio.store import mailbox
from livesync_trio.store.commands import Accepted, Inspect, Push, Reply, Reset, Waiting
from tests.simulation.disk import STORE
from tests.simulation.leader import Line
from tests.simulation.network import Link
from tests.simulation.squeeze import squeezed
from tests.simulation.waiting import until
from tests.simulation.world import World

LIMIT_S = 60.0


def event(number: int, content: str) -> Event:
    fields = {
        "name": "n",
        "args": content,
        "seqNum": number,
        "parentSeqNum": number - 1,
        "clientId": "c",
        "sessionId": "s",
    }
    return Event(number, number - 1, msgspec.json.encode(fields))


async def next_events(line: Line) -> list[str]:
    """Contents of the next message with events."""
    with trio.fail_after(LIMIT_S):
        while True:
            data = await line.get()
            assert data is not None
            message: dict[str, Any] = msgspec.json.decode(data)
            if message.get("batch"):
                return [item["eventEncoded"]["args"] for item in message["batch"]]


async def push_behind_a_reset(world: World) -> None:
    async with trio.open_nursery() as nursery:
        await world.start_servers(nursery)
        handle = world.servers[0].registry.handle(STORE)
        async with world.connect(v3=True) as line:
            assert line is not None
            line.put(msgspec.json.encode({"_tag": "WSMessage.PullReq", "requestId": "p"}))
            await line.get()
            assert isinstance(await handle.push(Batch((event(1, "old"),)), None, b'"1"', None), Accepted)
            assert await next_events(line) == ["old"]
            handle.post_nowait(Reset(Reply(lambda _: None)))
            handle.post_nowait(Push(Batch((event(1, "new"),)), None, b'"2"', None, Reply(lambda _: None)))
            assert await next_events(line) == ["new"]
        nursery.cancel_scope.cancel()


def test_a_0_3_client_misses_nothing_of_the_log_after_a_reset() -> None:
    dice = random.Random(0)
    with squeezed(0, dice):
        world = World(dice, servers=1, read_max_events=10, hooks=False)
        trio.run(push_behind_a_reset, world, clock=trio.testing.MockClock(autojump_threshold=0))


async def reset_elsewhere_without_a_hint(world: World) -> None:
    async with trio.open_nursery() as nursery:
        await world.start_servers(nursery)
        world.disk.on_change = lambda: None
        here, there = (server.registry.handle(STORE) for server in world.servers)
        await here.push(Batch((event(1, "old"),)), None, b'"1"', None)
        await there.reset()
        link = Link(world.dice, world.trace.hear)
        world.servers[0].accept(link, v3=False)  # the one that knows nothing
        payload = {"storeId": STORE, "live": True, "cursor": {"_tag": "None"}}
        request = {"_tag": "Request", "id": "1", "tag": "SyncWsRpc.Pull", "payload": payload, "headers": []}
        link.put(msgspec.json.encode(request))
        with trio.fail_after(2):  # before the heads are compared, after 5 s
            assert await link.get() is not None
        nursery.cancel_scope.cancel()


def test_a_pull_that_meets_a_replaced_log_makes_its_server_look() -> None:
    dice = random.Random(0)
    with squeezed(0, dice):
        world = World(dice, servers=2, read_max_events=10, hooks=False)
        trio.run(reset_elsewhere_without_a_hint, world, clock=trio.testing.MockClock(autojump_threshold=0))
    assert world.disk.reads_of_replaced == 1


async def two_pushes_at_a_failing_disk(world: World) -> list[object]:
    answers: list[object] = []
    async with trio.open_nursery() as nursery:
        await world.start_servers(nursery)
        handle = world.servers[0].registry.handle(STORE)
        await handle.inspect()
        world.disk.faults.commit_fails = 1.0
        handle.post_nowait(Inspect(Reply(lambda _: None)))  # so that both pushes wait, and go to the disk together
        for content in ("first", "second"):
            handle.post_nowait(Push(Batch((event(1, content),)), None, b'"1"', None, Reply(answers.append)))
        assert await until(lambda: len(answers) == 2, LIMIT_S)
        nursery.cancel_scope.cancel()
    return answers


def test_no_head_is_quoted_that_did_not_become_durable() -> None:
    dice = random.Random(0)
    with squeezed(1, dice), mock.patch.object(mailbox, "MAILBOX_COMMANDS", new=4):
        world = World(dice, servers=1, read_max_events=10, hooks=False)
        answers = trio.run(two_pushes_at_a_failing_disk, world, clock=trio.testing.MockClock(autojump_threshold=0))
    assert [type(answer) for answer in answers] == [Refusal, Refusal]  # ServerAhead is another type


async def swept_while_a_command_is_handed_over(world: World) -> None:
    async with trio.open_nursery() as nursery:
        await world.start_servers(nursery)
        registry = world.servers[0].registry
        handle = registry.handle(STORE)
        await handle.inspect()
        await trio.testing.wait_all_tasks_blocked()
        first = registry.running(STORE)
        assert first is not None
        first.last_active_s = -math.inf
        waiting: Waiting[Accepted] = Waiting()
        handle.post_nowait(Push(Batch((event(1, "new"),)), None, b'"1"', None, waiting.reply))
        registry.retire_quiet()  # the actor was given the push and has not made a step since
        assert registry.running(STORE) is first
        assert isinstance(await waiting.wait(), Accepted)
        await trio.testing.wait_all_tasks_blocked()
        first.last_active_s = -math.inf
        registry.retire_quiet()
        assert registry.running(STORE) is None
        nursery.cancel_scope.cancel()


def test_an_actor_that_was_given_a_command_is_not_idle() -> None:
    dice = random.Random(0)
    with squeezed(0, dice):
        world = World(dice, servers=1, read_max_events=10, hooks=False)
        trio.run(swept_while_a_command_is_handed_over, world, clock=trio.testing.MockClock(autojump_threshold=0))


async def asked_while_it_goes(world: World) -> None:
    async with trio.open_nursery() as nursery:
        await world.start_servers(nursery)
        registry = world.servers[0].registry
        handle = registry.handle(STORE)
        await handle.inspect()
        first = registry.running(STORE)
        assert first is not None
        first.last_active_s = -math.inf
        registry.retire_quiet()
        waiting: Waiting[LogState] = Waiting()
        handle.post_nowait(Inspect(waiting.reply))  # before the first has ended
        second = registry.running(STORE)
        await waiting.wait()
        await trio.sleep(1)
        assert second is not None
        assert second is not first
        assert registry.running(STORE) is second
        nursery.cancel_scope.cancel()


def test_an_actor_that_goes_does_not_take_the_next_one_with_it() -> None:
    """Two actors of one store would each have followers of which the other knows nothing."""
    dice = random.Random(0)
    with squeezed(0, dice):
        world = World(dice, servers=1, read_max_events=10, hooks=False)
        trio.run(asked_while_it_goes, world, clock=trio.testing.MockClock(autojump_threshold=0))
