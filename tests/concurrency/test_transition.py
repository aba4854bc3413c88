"""The one transition of a store: admit → persist → head → publish → acknowledge (invariant 1)."""

from typing import Any

import pytest
import structlog
import trio

from livesync_trio.errors import BackendIdMismatch, Kind, Refusal, ServerAhead, StorageUnavailable, StoreDamaged
from livesync_trio.limits import STORAGE_BACKOFF_MAX_S
from livesync_trio.model import BackendId, Cursor
from livesync_trio.storage import base
from livesync_trio.store.commands import Accepted, Inspect, Push, Registered, Reply, Reset
from tests.concurrency.stage import UNAVAILABLE, A, Listener, Stage, batch, running


async def follow(stage: Stage, listener: Listener, after: int = 0) -> None:
    answer = await stage.registry.handle(A).register(Cursor(after, None), listener)
    assert isinstance(answer, Registered)
    assert answer.following


def post(stage: Stage, parent: int, *numbers: int, note: Any) -> None:
    def answered(answer: Accepted | Refusal) -> None:
        note(f"refused at {answer.head}" if isinstance(answer, ServerAhead) else f"acknowledged {numbers[-1]}")

    assert stage.registry.handle(A).post_nowait(Push(batch(parent, *numbers), None, b'"1"', None, Reply(answered)))


async def test_publishes_after_durable_and_acknowledges_after_publishing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage, happened = Stage(), list[str]()
    async with running(stage):
        await follow(stage, Listener(happened.append))
        stage.writer.after.close()
        post(stage, 0, 1, 2, note=happened.append)
        await stage.writer.after.arrived.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert stage.stored() == [1, 2]
        assert happened == []  # stored, but its durability is not known yet
        stage.writer.after.open()
        await trio.testing.wait_all_tasks_blocked()
        assert happened == ["published 2", "acknowledged 2"]


async def test_a_refusal_waits_until_the_head_it_quotes_is_durable(autojump_clock: trio.testing.MockClock) -> None:
    stage, happened = Stage(), list[str]()
    async with running(stage):
        await follow(stage, Listener())
        stage.writer.before.close()
        post(stage, 0, 1, note=happened.append)
        post(stage, 0, 9, note=happened.append)
        await stage.writer.before.arrived.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert happened == []
        stage.writer.before.open()
        await trio.testing.wait_all_tasks_blocked()
        assert happened == ["acknowledged 1", "refused at 1"]


async def test_pushes_that_wait_together_are_made_durable_together_in_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The first does not wait, for the store is idle; the others do, for the first."""
    stage, happened = Stage(), list[str]()
    async with running(stage):
        await follow(stage, Listener(happened.append))
        for number in range(1, 6):
            post(stage, number - 1, number, note=happened.append)
        await trio.testing.wait_all_tasks_blocked()
        assert [len(append.batches) for append in stage.writer.appends] == [1, 4]
        assert happened == [
            *("published 1", "acknowledged 1"),
            *(f"published {n}" for n in range(2, 6)),
            *(f"acknowledged {n}" for n in range(2, 6)),
        ]
        assert stage.stored() == [1, 2, 3, 4, 5]


async def test_of_many_pushes_with_one_parent_one_wins_and_all_are_answered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    answers: list[Accepted | Refusal] = []
    async with running(stage):

        async def pusher(number: int) -> None:
            answers.append(await stage.registry.handle(A).push(batch(0, number), None, b'"1"', None))

        async with trio.open_nursery() as pushers:
            for number in range(1, 101):
                pushers.start_soon(pusher, number)
    accepted = [answer for answer in answers if isinstance(answer, Accepted)]
    assert len(answers) == 100
    assert len(accepted) == 1
    assert stage.stored() == [accepted[0].state.head]
    assert {answer.head for answer in answers if isinstance(answer, ServerAhead)} == {accepted[0].state.head}


@pytest.mark.parametrize("gate", ["before", "after"])
async def test_a_cancelled_pusher_abandons_only_its_wait(autojump_clock: trio.testing.MockClock, gate: str) -> None:
    stage, listener = Stage(), Listener()
    async with running(stage) as nursery:
        await follow(stage, listener)
        held = getattr(stage.writer, gate)
        held.close()
        with trio.CancelScope() as pusher:

            async def cancel_when_held() -> None:
                await held.arrived.wait()
                pusher.cancel()

            nursery.start_soon(cancel_when_held)
            await stage.registry.handle(A).push(batch(0, 1), None, b'"1"', None)
        assert pusher.cancelled_caught
        held.open()
        await trio.testing.wait_all_tasks_blocked()
        assert stage.stored() == [1]
        assert listener.numbers == [1]


@pytest.mark.parametrize("gate", ["before", "after"])
async def test_a_server_cancelled_at_the_commit_still_publishes_and_acknowledges(
    autojump_clock: trio.testing.MockClock, gate: str
) -> None:
    stage, listener, happened = Stage(), Listener(), list[str]()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(stage.registry.run)
            await follow(stage, listener)
            held = getattr(stage.writer, gate)
            held.close()
            post(stage, 0, 1, note=happened.append)
            await held.arrived.wait()
            nursery.cancel_scope.cancel()
            held.open()
    assert listener.numbers == [1]
    assert happened == ["acknowledged 1"]


async def test_unavailable_storage_refuses_pushes_retryably_and_acknowledges_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage, listener = Stage(), Listener()
    async with running(stage):
        handle = stage.registry.handle(A)
        await follow(stage, listener)
        stage.writer.fail_before = UNAVAILABLE
        answer = await handle.push(batch(0, 1), None, b'"1"', None)
        assert isinstance(answer, Refusal)
        assert answer.kind is Kind.STORAGE_UNAVAILABLE
        assert answer.rule.retry
        assert listener.numbers == []
        stage.writer.fail_before = None
        assert isinstance(await handle.push(batch(0, 1), None, b'"1"', None), Accepted)
        assert listener.numbers == [1]


async def test_after_an_unclear_commit_the_head_is_read_before_anybody_is_answered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage, listener = Stage(), Listener()
    async with running(stage):
        handle = stage.registry.handle(A)
        await follow(stage, listener)
        stage.writer.fail_after = StorageUnavailable("lost at COMMIT")
        answer = await handle.push(batch(0, 1), None, b'"1"', None)
        assert isinstance(answer, Refusal)
        assert answer.kind is Kind.STORAGE_UNAVAILABLE
        again = await handle.push(batch(0, 1), None, b'"2"', None)  # the client tries again
        assert isinstance(again, ServerAhead)
        assert again.head == 1
        assert listener.numbers == [1]  # what was durable after all reached the follower, once, before the refusal


@pytest.mark.parametrize("what", ["a push whose client has left", "a push that waited in the mailbox", "a reset"])
async def test_who_follows_learns_of_an_unclear_commit_although_nobody_asks_again(
    what: str, autojump_clock: trio.testing.MockClock
) -> None:
    """The database says that COMMIT failed, and is away for a while; what it had begun is durable all the same."""
    stage, listener = Stage(), Listener()
    async with running(stage):
        handle = stage.registry.handle(A)
        await follow(stage, listener)
        stage.writer.fail_after = StorageUnavailable("lost at COMMIT")
        stage.writer.after.close()
        if what == "a reset":
            assert handle.post_nowait(Reset(Reply(lambda _: None)))
        else:
            if what == "a push that waited in the mailbox":
                assert handle.post_nowait(Inspect(Reply(lambda _: None)))  # so the actor's task carries it out
            post(stage, 0, 1, note=lambda _: None)
        await stage.writer.after.arrived.wait()
        stage.writer.fail_before = StorageUnavailable("away")
        stage.writer.after.open()
        await trio.sleep(60)
        assert (listener.numbers, listener.replacements, listener.drops) == ([], [], 0)
        stage.writer.fail_before = None
        await trio.sleep(STORAGE_BACKOFF_MAX_S)
        durable = stage.engine.reader().state(A)
        expected = ([], [durable]) if what == "a reset" else ([1], [])
        assert (listener.numbers, listener.replacements) == expected
        asked = len(stage.writer.writes)
        await trio.sleep(60)
        assert len(stage.writer.writes) == asked  # it is known now: nobody looks any more


async def test_a_damaged_store_is_not_looked_at_again_and_again(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    with structlog.testing.capture_logs() as logs:
        async with running(stage):
            await follow(stage, Listener())
            stage.writer.fail_after = StorageUnavailable("lost at COMMIT")
            post(stage, 0, 1, note=lambda _: None)
            await trio.testing.wait_all_tasks_blocked()
            stage.writer.fail_before = StoreDamaged("torn")
            await trio.sleep(600)
            stage.writer.fail_before = None
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["store damaged"]


async def test_another_servers_events_reach_the_followers_before_the_refusal(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage, happened = Stage(), list[str]()
    async with running(stage):
        listener = Listener(happened.append)
        await follow(stage, listener)
        await stage.push_elsewhere(0, 1, 2)
        post(stage, 0, 1, note=happened.append)
        await trio.testing.wait_all_tasks_blocked()
        assert happened == ["published 2", "refused at 2"]
        assert listener.numbers == [1, 2]
        post(stage, 2, 3, note=happened.append)
        await trio.testing.wait_all_tasks_blocked()
        assert listener.numbers == [1, 2, 3]


async def test_a_store_replaced_elsewhere_is_noticed_and_its_followers_are_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage, listener = Stage(), Listener()
    async with running(stage):
        await follow(stage, listener)
        stage.engine.writer().commit([base.Reset(A)])
        state = stage.engine.reader().state(A)
        assert state is not None
        answer = await stage.registry.handle(A).push(batch(7, 8), None, b'"1"', None)
        assert isinstance(answer, ServerAhead)
        assert [replaced.backend_id for replaced in listener.replacements] == [state.backend_id]


async def test_the_identity_is_checked_before_the_parent(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage):
        handle = stage.registry.handle(A)
        answer = await handle.push(batch(5, 6), "another", b'"1"', None)
        assert isinstance(answer, BackendIdMismatch)
        assert answer.received == "another"
        pulled = await handle.register(Cursor(0, BackendId("another")), None)
        assert isinstance(pulled, BackendIdMismatch)


async def test_a_reset_gives_a_new_identity_and_an_empty_log_in_order_with_pushes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage, listener = Stage(), Listener()
    async with running(stage):
        handle = stage.registry.handle(A)
        await follow(stage, listener)
        before = await handle.inspect()
        await handle.push(batch(0, 1), None, b'"1"', None)
        after = await handle.reset()
        assert not isinstance(before, Refusal)
        assert not isinstance(after, Refusal)
        assert after.backend_id != before.backend_id
        assert after.head == 0
        assert listener.replacements == [after]
        await handle.push(batch(0, 4), None, b'"2"', None)
        assert listener.numbers == [1]  # who followed the old log gets nothing of the new one
        assert stage.stored() == [4]


async def test_pushes_from_above_the_head_are_refused_and_counted(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage):
        answer = await stage.registry.handle(A).push(batch(5, 6), None, b'"1"', None)
        assert isinstance(answer, ServerAhead)
        assert (answer.head, answer.provided) == (0, 5)
        assert stage.counters.pushes_ahead_of_head == 1


async def test_a_damaged_store_is_told_of_once_however_often_clients_push(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage, answers = Stage(), list[object]()
    with structlog.testing.capture_logs() as logs:
        async with running(stage):
            for reason in ("torn", "torn", "torn", "torn elsewhere"):
                stage.writer.fail_before = StoreDamaged(reason)
                post(stage, 0, 1, note=answers.append)
                await trio.testing.wait_all_tasks_blocked()
            stage.writer.fail_before = None
    assert len(answers) == 4
    assert [line["reason"] for line in logs if line["event"] == "store damaged"] == ["torn", "torn elsewhere"]
