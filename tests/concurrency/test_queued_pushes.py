"""Pushes that wait behind others: what is asked about them, and what each is told."""

from __future__ import annotations

import trio.testing

from livesync_trio.errors import Refusal
from livesync_trio.hooks import Hooks
from livesync_trio.store.commands import Accepted
from tests.concurrency.stage import A, Gate, Stage, batch, connected, running


async def test_no_hook_is_asked_about_a_push_that_was_interrupted_while_it_was_queued() -> None:
    gate = Gate()
    asked: list[object] = []

    async def on_push(request: object, *_: object) -> None:
        asked.append(request)
        await gate()

    gate.close()
    stage = Stage(Hooks(on_push=on_push))
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.push("1", 0, 1)
        await gate.arrived.wait()
        await client.push("2", 1, 2)
        await client.send({"_tag": "Interrupt", "requestId": "2"})
        await client.receive()  # the exit of what was interrupted
        gate.open()
        await trio.testing.wait_all_tasks_blocked()
        assert stage.door.shared.memory.received.used_bytes == 0
        assert [peer.unanswered.held_bytes for peer in stage.peers] == [0]
    assert len(asked) == 1
    assert stage.stored() == [1]


async def test_each_push_of_a_group_is_told_the_log_right_after_its_own_batch() -> None:
    stage = Stage()
    answers: list[Accepted | Refusal] = []
    async with running(stage):
        handle = stage.registry.handle(A)
        await handle.inspect()
        for parent, numbers in ((0, (1, 2)), (0, (9,)), (2, (5,))):
            assert handle.push_nowait(batch(parent, *numbers), None, b'"1"', None, answers.append)
        await stage.state()
    first, refused, last = answers
    assert isinstance(first, Accepted)
    assert isinstance(last, Accepted)
    assert not isinstance(refused, Accepted)
    assert (first.state.head, first.state.event_count) == (2, 2)
    assert (last.state.head, last.state.event_count) == (5, 3)
