"""What clients and servers see of a store that is deleted, renamed or frozen."""

from __future__ import annotations

import pytest
import trio

from livesync_trio.errors import BackendIdMismatch, Kind, Refusal, ServerAhead, StorageUnavailable, StoreDamaged
from livesync_trio.model import Cursor, Draft, LogState, StoreId
from livesync_trio.storage import base
from livesync_trio.store.commands import Accepted, Numbered, Push, Registered, Reply
from tests.concurrency.stage import A, Listener, Stage, batch, connected, numbers_in, running

B = StoreId("b")


async def push(stage: Stage, parent: int, *numbers: int, store: StoreId = A) -> Accepted | Refusal:
    return await stage.registry.handle(store).push(batch(parent, *numbers), None, b"1", None)


async def follow(stage: Stage, store: StoreId = A) -> Listener:
    listener, state = Listener(), await stage.state(store)
    answer = await stage.registry.handle(store).register(Cursor(state.head, state.backend_id), listener)
    assert answer == Registered(state, following=True)
    return listener


# --- delete ----------------------------------------------------------------------------------------------------------


async def test_a_deleted_store_stays_away_until_somebody_opens_it(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage):
        assert isinstance(await push(stage, 0, 1, 2), Accepted)
        before, listener = await stage.state(), await follow(stage)
        changed: list[StoreId | None] = []
        stage.registry.on_change(changed.append)
        assert await stage.registry.handle(A).delete() == base.NoStore()
        assert (listener.ends, listener.replacements, changed) == (1, [], [A])
        await trio.sleep(600)
        assert stage.engine.reader().state(A) is None
        after = await stage.state()
        assert after.event_count == 0
        assert after.backend_id != before.backend_id
        assert isinstance(await push(stage, 0, 1), Accepted)


async def test_a_deletion_keeps_the_order_of_the_mailbox(autojump_clock: trio.abc.Clock) -> None:
    """What was pushed before it goes with the log; what is pushed after it meets the new one."""
    stage, answers = Stage(), list[object]()
    async with running(stage) as nursery:
        assert isinstance(await push(stage, 0, 1), Accepted)
        handle = stage.registry.handle(A)
        stage.writer.before.close()
        handle.post_nowait(Push(batch(1, 2), None, b"1", None, Reply(answers.append)))
        nursery.start_soon(handle.delete)
        await trio.testing.wait_all_tasks_blocked()
        handle.post_nowait(Push(batch(2, 3), None, b"1", None, Reply(answers.append)))
        stage.writer.before.open()
        await trio.testing.wait_all_tasks_blocked()
        accepted, refused = answers
        assert isinstance(accepted, Accepted)
        assert isinstance(refused, ServerAhead)
        assert (refused.head, stage.stored()) == (0, [])


async def test_clients_of_a_deleted_store_are_told_as_of_a_reset(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        assert isinstance(await push(stage, 0, 1), Accepted)
        await client.pull("1")
        assert numbers_in(await client.receive()) == [1]
        await stage.registry.handle(A).delete()
        told = (await client.receive())["exit"]["cause"]["error"]
        assert (told["_tag"], told["expected"]) == ("BackendIdMismatchError", "deleted")
        assert stage.engine.reader().state(A) is None
        client.backend_id = told["received"]
        await client.pull("2", after=1)
        told = (await client.receive())["exit"]["cause"]["error"]
        assert (told["_tag"], told["expected"]) == ("BackendIdMismatchError", (await stage.state()).backend_id)


async def test_a_store_deleted_elsewhere_is_gone_here(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage):
        listener = await follow(stage)
        stage.engine.writer().commit([base.Delete(A)])
        assert stage.registry.tell(A, None)
        await trio.testing.wait_all_tasks_blocked()
        assert (listener.ends, stage.engine.reader().state(A)) == (1, None)


async def test_late_news_of_a_deletion_does_not_take_the_new_store_away(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage):
        await stage.registry.handle(A).delete()
        assert isinstance(await push(stage, 0, 1), Accepted)
        listener = await follow(stage)
        assert stage.registry.tell(A, None)
        assert isinstance(await push(stage, 1, 2), Accepted)
        assert (listener.ends, listener.numbers, stage.stored()) == (0, [2], [1, 2])


async def test_a_damaged_store_can_be_deleted(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage):
        stage.writer.fail_before = StoreDamaged("a hole")
        answer = await stage.registry.handle(A).inspect()
        assert isinstance(answer, Refusal)
        assert answer.kind is Kind.STORE_DAMAGED
        stage.writer.fail_before = None
        assert await stage.registry.handle(A).delete() == base.NoStore()


async def test_a_deletion_of_unclear_outcome_is_told_when_it_is_known(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage):
        assert isinstance(await push(stage, 0, 1), Accepted)
        listener, before = await follow(stage), await stage.state()
        stage.writer.fail_after = StorageUnavailable("lost")
        answer = await stage.registry.handle(A).delete()
        assert isinstance(answer, Refusal)
        assert answer.kind is Kind.STORAGE_UNAVAILABLE
        await trio.sleep(60)
        assert len(listener.replacements) + listener.ends == 1
        state = stage.engine.reader().state(A)
        assert state is None or state.backend_id != before.backend_id


# --- rename ----------------------------------------------------------------------------------------------------------


async def test_a_renamed_store_goes_on_under_its_new_name(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage):
        assert isinstance(await push(stage, 0, 1, 2), Accepted)
        before, listener = await stage.state(), await follow(stage)
        changed: list[StoreId | None] = []
        stage.registry.on_change(changed.append)
        assert await stage.registry.handle(A).rename(B) == before
        assert (listener.ends, changed) == (1, [A])
        assert (stage.engine.reader().state(A), await stage.state(B)) == (None, before)
        assert isinstance(await push(stage, 2, 3, store=B), Accepted)
        assert (stage.stored(A), stage.stored(B)) == ([], [1, 2, 3])
        assert (await stage.state(A)).backend_id != before.backend_id


async def test_who_has_opened_the_new_name_already_is_told_of_the_log(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage):
        assert isinstance(await push(stage, 0, 1, 2), Accepted)
        state, early = await stage.state(), await follow(stage, B)
        assert await stage.registry.handle(A).rename(B) == state
        assert await stage.state(B) == state
        assert early.replacements == [state]


async def test_a_store_is_not_renamed_onto_another(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage):
        assert isinstance(await push(stage, 0, 1, 2), Accepted)
        assert isinstance(await push(stage, 0, 1, store=B), Accepted)
        answer = await stage.registry.handle(A).rename(B)
        assert isinstance(answer, Refusal)
        assert answer.kind is Kind.ALREADY_THERE
        assert (stage.stored(A), stage.stored(B)) == ([1, 2], [1])


async def test_a_push_that_comes_in_between_keeps_its_place(autojump_clock: trio.abc.Clock) -> None:
    """The new name is empty when it is looked at, and is pushed to before the rename is carried out."""
    stage = Stage()
    async with running(stage) as nursery:
        assert isinstance(await push(stage, 0, 1, 2), Accepted)
        await stage.state(B)
        answers: list[object] = []

        async def rename() -> None:
            answers.append(await stage.registry.handle(A).rename(B))

        stage.writer.before.close()
        nursery.start_soon(rename)
        await stage.writer.before.arrived.wait()
        there = stage.engine.reader().state(B)
        assert there is not None
        stage.engine.writer().commit([base.Append(B, there, (batch(0, 9),), "2026-01-01T00:00:00.000Z")])
        stage.writer.before.open()
        await trio.testing.wait_all_tasks_blocked()
        (answer,) = answers
        assert isinstance(answer, Refusal)
        assert answer.kind is Kind.ALREADY_THERE
        assert (stage.stored(A), stage.stored(B)) == ([1, 2], [9])
        assert isinstance(await push(stage, 2, 3), Accepted)


async def test_what_another_server_pushed_is_renamed_as_well(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage):
        assert isinstance(await push(stage, 0, 1), Accepted)
        longer = await stage.push_elsewhere(1, 2)
        assert await stage.registry.handle(A).rename(B) == longer
        assert stage.stored(B) == [1, 2]


# --- freeze ----------------------------------------------------------------------------------------------------------


async def test_a_frozen_store_is_read_and_not_written(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        assert isinstance(await push(stage, 0, 1), Accepted)
        await client.pull("1")
        assert numbers_in(await client.receive()) == [1]
        state = await stage.registry.handle(A).freeze(frozen=True)
        assert isinstance(state, LogState)
        assert state.frozen
        refused = await push(stage, 1, 2)
        assert isinstance(refused, Refusal)
        assert (refused.kind, refused.rule.retry, refused.rule.wire_tag) == (Kind.STORE_FROZEN, True, "UnknownError")
        drafts = (Draft(b'{"name":"n","args":null', b'"clientId":"c","sessionId":"s"}', "id", repeatable=True),)
        appended = await stage.registry.handle(A).append(drafts, None, None, None)
        assert appended == refused
        assert len(stage.writer.appends) == 1, "nothing of it went to the disk"
        assert not isinstance(await stage.registry.handle(A).freeze(frozen=False), Refusal)
        assert isinstance(await push(stage, 1, 2), Accepted)
        assert numbers_in(await client.receive()) == [2]
        appended = await stage.registry.handle(A).append(drafts, None, None, None)
        assert isinstance(appended, Numbered)
        await stage.registry.handle(A).freeze(frozen=True)
        again = await stage.registry.handle(A).append(drafts, None, None, None)
        assert isinstance(again, Numbered), "what the log has already is answered"
        assert again.repeated == 1


async def test_a_reset_is_told_before_that_the_store_is_frozen(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage):
        old = await stage.state()
        await stage.registry.handle(A).freeze(frozen=True)
        await stage.registry.handle(A).reset()
        refused = await stage.registry.handle(A).push(batch(0, 1), old.backend_id, b"1", None)
        assert isinstance(refused, BackendIdMismatch)
        assert (await stage.state()).frozen


@pytest.mark.parametrize("told", [True, False])
async def test_a_store_frozen_elsewhere_takes_nothing_here(autojump_clock: trio.abc.Clock, told: bool) -> None:
    """Not even before this server has heard of it: the database refuses."""
    stage = Stage()
    async with running(stage):
        assert isinstance(await push(stage, 0, 1), Accepted)
        listener = await follow(stage)
        [state] = stage.engine.writer().commit([base.Freeze(A, frozen=True)])
        assert isinstance(state, LogState)
        if told:
            assert stage.registry.tell(A, state)
        refused = await push(stage, 1, 2)
        assert isinstance(refused, Refusal)
        assert refused.kind is Kind.STORE_FROZEN
        [state] = stage.engine.writer().commit([base.Freeze(A, frozen=False)])
        assert isinstance(state, LogState)
        assert stage.registry.tell(A, state)
        assert isinstance(await push(stage, 1, 2), Accepted)
        assert (listener.numbers, listener.drops, listener.replacements) == ([2], 0, [])
