"""Events without numbers: the actor numbers them behind its head, each id once, whatever the database does."""

from __future__ import annotations

import trio
import trio.testing

from livesync_trio.errors import HeadMismatch, Kind, Refusal, ServerAhead, StorageUnavailable
from livesync_trio.model import BackendId, Cursor, Draft
from livesync_trio.rules.admission import Quota
from livesync_trio.store.commands import Accepted, Append, Numbered, Push, Reply
from tests.concurrency.stage import A, Listener, Stage, batch, running


def drafts(*ids: str, repeatable: bool = True) -> tuple[Draft, ...]:
    """Events with these ids."""
    after = b'"clientId":"api","sessionId":"api"}'
    return tuple(Draft(b'{"name":"n","args":%d' % index, after, one, repeatable) for index, one in enumerate(ids))


async def numbers(stage: Stage, *ids: str, expected: Cursor | None = None) -> tuple[int, ...]:
    """The numbers of an append that must be taken."""
    answer = await stage.registry.handle(A).append(drafts(*ids), None, expected, None)
    assert isinstance(answer, Numbered), answer
    return answer.seq_nums


async def test_events_are_numbered_behind_whatever_is_there(autojump_clock: trio.testing.MockClock) -> None:
    stage, listener = Stage(), Listener()
    async with running(stage):
        handle = stage.registry.handle(A)
        await handle.register(Cursor(0, None), listener)
        assert await numbers(stage, "a", "b") == (1, 2)
        assert isinstance(await handle.push(batch(2, 7, 9), None, b'"1"', None), Accepted)
        answer = await handle.append(drafts("c"), "ann", None, None)
        assert isinstance(answer, Numbered)
        assert (answer.seq_nums, answer.repeated, answer.state.head, answer.state.event_count) == ((10,), 0, 10, 5)
        assert isinstance(await handle.push(batch(9, 10), None, b'"1"', None), ServerAhead)
    assert [event.seq_num for publication in listener.offered for event in publication.events] == [1, 2, 7, 9, 10]
    last = listener.offered[-1].events[-1]
    assert (last.user, last.append_id) == ("ann", "c")
    assert last.json == b'{"name":"n","args":0,"seqNum":10,"parentSeqNum":9,"clientId":"api","sessionId":"api"}'


async def test_a_repeated_id_is_answered_with_its_number(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage):
        assert await numbers(stage, "a", "b") == (1, 2)
        assert await numbers(stage, "b", "c", "a", "c") == (2, 3, 1, 3)
        before = len(stage.writer.appends)
        answer = await stage.registry.handle(A).append(drafts("a", "b"), None, None, None)
        assert isinstance(answer, Numbered)
        assert (answer.seq_nums, answer.repeated, answer.state.head) == ((1, 2), 2, 3)
        assert len(stage.writer.appends) == before
        assert stage.counters.events_repeated == 3 + 2


async def test_a_repeated_id_is_answered_after_a_crash_of_the_actor(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage):
        stage.writer.fail_after = RuntimeError("a bug, when it was durable")
        answer = await stage.registry.handle(A).append(drafts("a"), None, None, None)
        assert isinstance(answer, Refusal)
        assert answer.kind is Kind.STORE_FAILED
        assert await numbers(stage, "a") == (1,)
        assert await numbers(stage, "b") == (2,)


async def test_an_unclear_outcome_is_cleared_up_by_sending_again(autojump_clock: trio.testing.MockClock) -> None:
    """The commit was durable and said that it failed: nothing is acknowledged, and the repetition finds it."""
    stage, listener = Stage(), Listener()
    async with running(stage) as nursery:
        handle = stage.registry.handle(A)
        await handle.register(Cursor(0, None), listener)
        answers: dict[str, object] = {}

        async def send(*ids: str) -> None:
            answers[" ".join(ids)] = await handle.append(drafts(*ids), None, None, None)

        stage.writer.before.close()
        nursery.start_soon(send, "first")
        await stage.writer.before.arrived.wait()
        for ids in (("a",), ("a", "b"), ("b",)):  # one transaction, in which ids come twice
            nursery.start_soon(send, *ids)
            await trio.testing.wait_all_tasks_blocked()
        stage.writer.before.open()
        stage.writer.after.close()
        await stage.writer.after.arrived.wait()
        stage.writer.after.open()
        await trio.testing.wait_all_tasks_blocked()
        stage.writer.fail_after = StorageUnavailable("the answer was lost")
        refused = await handle.append(drafts("c"), None, None, None)
        assert isinstance(refused, Refusal)
        assert refused.kind is Kind.STORAGE_UNAVAILABLE
        assert await numbers(stage, "c") == (4,)
    told = {ids: answer.seq_nums for ids, answer in answers.items() if isinstance(answer, Numbered)}
    assert told == {"first": (1,), "a": (2,), "a b": (2, 3), "b": (3,)}
    assert [event.append_id for one in listener.offered for event in one.events] == ["first", "a", "b", "c"]


async def test_nobody_is_told_a_number_of_a_group_that_may_not_be_durable(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The second of a group repeats an id of the first, which is not durable."""
    stage = Stage()
    async with running(stage) as nursery:
        handle = stage.registry.handle(A)
        answers: list[object] = []

        async def send(*ids: str) -> None:
            answers.append(await handle.append(drafts(*ids), None, None, None))

        assert await numbers(stage, "zero") == (1,)
        stage.writer.before.close()
        nursery.start_soon(send, "one")
        await stage.writer.before.arrived.wait()
        nursery.start_soon(send, "a")
        nursery.start_soon(send, "a")
        await trio.testing.wait_all_tasks_blocked()
        stage.writer.fail_before = StorageUnavailable("the disk is gone")
        stage.writer.before.open()
        await trio.testing.wait_all_tasks_blocked()
        assert [answer.kind for answer in answers if isinstance(answer, Refusal)] == [Kind.STORAGE_UNAVAILABLE] * 3
        stage.writer.fail_before = None
        assert await numbers(stage, "a", "one") == (2, 3)


async def test_an_append_may_expect_a_head(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage):
        handle = stage.registry.handle(A)
        assert await numbers(stage, "a", expected=Cursor(0, None)) == (1,)
        refused = await handle.append(drafts("b"), None, Cursor(0, None), None)
        assert isinstance(refused, HeadMismatch)
        assert refused.head == 1
        identity = (await handle.inspect()).backend_id  # type: ignore[union-attr]
        refused = await handle.append(drafts("b"), None, Cursor(1, BackendId(f"{identity}x")), None)
        assert isinstance(refused, HeadMismatch)
        assert await numbers(stage, "b", expected=Cursor(1, identity)) == (2,)
        # The head that it expected is gone because of itself: sent again, it gets the same answer.
        assert await numbers(stage, "b", expected=Cursor(1, identity)) == (2,)


async def test_a_full_store_still_answers_what_it_has(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage(quota=Quota(max_events=2))
    async with running(stage):
        assert await numbers(stage, "a", "b") == (1, 2)
        refused = await stage.registry.handle(A).append(drafts("b", "c"), None, None, None)
        assert isinstance(refused, Refusal)
        assert refused.kind is Kind.QUOTA_EXCEEDED
        assert await numbers(stage, "b", "a") == (2, 1)


async def test_two_servers_never_give_an_id_twice(autojump_clock: trio.testing.MockClock) -> None:
    """Both look the id up before either has stored it; the database lets one of them win."""
    one = Stage()
    two = Stage(engine=one.engine)
    listener = Listener()
    async with running(one) as nursery, running(two):
        assert await numbers(one, "zero") == (1,)
        assert await numbers(two, "zero") == (1,)
        await two.registry.handle(A).register(None, listener)
        one.writer.before.close()
        two.writer.before.close()
        answers: list[object] = []

        async def send(stage: Stage) -> None:
            answers.append(await stage.registry.handle(A).append(drafts("a", "b"), None, None, None))

        nursery.start_soon(send, one)
        nursery.start_soon(send, two)
        await one.writer.before.arrived.wait()
        await two.writer.before.arrived.wait()
        one.writer.before.open()
        await trio.testing.wait_all_tasks_blocked()
        two.writer.before.open()
        await trio.testing.wait_all_tasks_blocked()
        assert [(answer.seq_nums, answer.repeated) for answer in answers if isinstance(answer, Numbered)] == [
            ((2, 3), 0),
            ((2, 3), 2),
        ]
        assert await numbers(two, "c") == (4,)
    assert [event.append_id for each in listener.offered for event in each.events] == ["a", "b", "c"]


async def test_ids_that_another_server_stored_are_known_before_its_news_come(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one = Stage()
    two = Stage(engine=one.engine)
    async with running(one), running(two):
        assert await numbers(two, "zero") == (1,)
        assert await numbers(one, "a", "b") == (2, 3)
        answer = await two.registry.handle(A).append(drafts("b"), None, None, None)
        assert isinstance(answer, Numbered)
        assert (answer.seq_nums, answer.state.head) == ((3,), 3)


async def test_pushes_and_appends_share_a_transaction(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage) as nursery:
        handle = stage.registry.handle(A)
        stage.writer.before.close()
        nursery.start_soon(numbers, stage, "first")
        await stage.writer.before.arrived.wait()
        answers: list[object] = []
        handle.post_nowait(Push(batch(1, 2), None, b'"1"', None, Reply(answers.append)))
        handle.post_nowait(Append(drafts("a"), None, None, None, Reply(answers.append)))
        handle.post_nowait(Push(batch(3, 4), None, b'"2"', None, Reply(answers.append)))
        handle.post_nowait(Push(batch(3, 4), None, b'"3"', None, Reply(answers.append)))
        handle.post_nowait(Append(drafts("b"), None, None, None, Reply(answers.append)))
        stage.writer.before.open()
        await trio.testing.wait_all_tasks_blocked()
    assert [type(answer) for answer in answers] == [Accepted, Numbered, Accepted, ServerAhead, Numbered]
    assert [answer.seq_nums for answer in answers if isinstance(answer, Numbered)] == [(3,), (5,)]
    assert [len(append.batches) for append in stage.writer.appends] == [1, 4]


async def test_an_id_that_cannot_be_looked_up_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage):
        assert await numbers(stage, "a") == (1,)
        stage.readers.fail = StorageUnavailable("no")
        refused = await stage.registry.handle(A).append(drafts("a"), None, None, None)
        assert isinstance(refused, Refusal)
        assert refused.kind is Kind.STORAGE_UNAVAILABLE
        made = await stage.registry.handle(A).append(drafts("made", repeatable=False), None, None, None)
        assert isinstance(made, Numbered)


async def test_a_reset_may_come_before_anything_is_known(autojump_clock: trio.testing.MockClock) -> None:
    """Found by seed 68 of the simulation: ids were looked up in a log that nobody had opened."""
    stage = Stage()
    async with running(stage):
        assert not isinstance(await stage.registry.handle(A).reset(), Refusal)
        assert stage.counters.actors_crashed == 0
