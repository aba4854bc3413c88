"""How actors come and go: crash, back-off, fence, dormancy, full mailboxes, the end."""

import pytest
import trio

from livesync_trio.errors import Kind, Refusal
from livesync_trio.limits import CRASH_WINDOW_S, MAILBOX_COMMANDS
from livesync_trio.model import Cursor, StoreId
from livesync_trio.store.commands import Accepted, Push, Registered, Reply
from livesync_trio.supervision import CRASHES_BEFORE_FENCE
from tests.concurrency.stage import A, Listener, Stage, batch, running

B = StoreId("b")
BUG = RuntimeError("a bug in the engine")


async def test_a_crash_answers_every_waiter_and_spares_other_stores(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    answers: list[Accepted | Refusal] = []
    async with running(stage) as nursery:
        a, b = stage.registry.handle(A), stage.registry.handle(B)
        assert isinstance(await b.push(batch(0, 1), None, b'"1"', None), Accepted)
        stage.writer.before.close()

        async def pusher(number: int) -> None:
            answers.append(await a.push(batch(0, number), None, b'"1"', None))

        for number in range(1, 11):
            nursery.start_soon(pusher, number)
        await stage.writer.before.arrived.wait()
        stage.writer.fail_before = BUG
        stage.writer.before.open()
        await trio.testing.wait_all_tasks_blocked()
        assert [answer.kind for answer in answers if isinstance(answer, Refusal)] == [Kind.STORE_FAILED] * 10
        stage.writer.fail_before = None
        assert isinstance(await b.push(batch(1, 2), None, b'"1"', None), Accepted)


async def test_the_next_request_starts_a_new_generation_after_a_pause(autojump_clock: trio.testing.MockClock) -> None:
    stage, listener = Stage(), Listener()
    async with running(stage):
        handle = stage.registry.handle(A)
        assert isinstance(await handle.register(Cursor(0, None), listener), Registered)
        stage.writer.fail_before = BUG
        refusal = await handle.push(batch(0, 1), None, b'"1"', None)
        assert isinstance(refusal, Refusal)
        assert listener.drops == 1  # it reads on from the log and registers with the next generation
        stage.writer.fail_before = None
        crashed_s = trio.current_time()
        assert isinstance(await handle.push(batch(0, 1), None, b'"1"', None), Accepted)
        assert trio.current_time() > crashed_s
        assert stage.counters.actors_started == 2


async def test_a_store_that_keeps_crashing_is_fenced_and_comes_back_after_the_window(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with running(stage):
        handle = stage.registry.handle(A)
        stage.writer.fail_before = BUG
        for _ in range(CRASHES_BEFORE_FENCE):
            await handle.push(batch(0, 1), None, b'"1"', None)
        assert stage.registry.fenced() == [A]
        started = stage.counters.actors_started
        fenced = await handle.push(batch(0, 1), None, b'"1"', None)
        assert isinstance(fenced, Refusal)
        assert fenced.kind is Kind.STORE_FAILED
        assert stage.counters.actors_started == started
        stage.writer.fail_before = None
        await trio.sleep(CRASH_WINDOW_S + 1)
        assert isinstance(await handle.push(batch(0, 1), None, b'"1"', None), Accepted)
        assert stage.registry.fenced() == []


async def test_a_failing_follower_is_dropped_and_nobody_else_notices(autojump_clock: trio.testing.MockClock) -> None:
    stage, good = Stage(), Listener()

    class Bad(Listener):
        def offer(self, publication: object) -> bool:
            raise BUG

    bad = Bad()
    async with running(stage):
        handle = stage.registry.handle(A)
        await handle.register(Cursor(0, None), bad)
        await handle.register(Cursor(0, None), good)
        assert isinstance(await handle.push(batch(0, 1), None, b'"1"', None), Accepted)
        assert good.numbers == [1]
        assert bad.drops == 1
        assert stage.counters.actors_crashed == 0


async def test_a_full_mailbox_slows_senders_and_keeps_their_order(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    order: list[int] = []
    async with running(stage) as nursery:
        handle = stage.registry.handle(A)
        await handle.inspect()
        stage.writer.before.close()
        await self_posting(stage, 1, order)
        await stage.writer.before.arrived.wait()
        posted = 1
        for number in range(2, MAILBOX_COMMANDS + 2):
            await self_posting(stage, number, order)
            posted += 1
        waiting = trio.Event()

        async def one_more() -> None:
            await self_posting(stage, posted + 1, order)
            waiting.set()

        nursery.start_soon(one_more)
        await trio.testing.wait_all_tasks_blocked()
        assert not waiting.is_set()  # no room: the sender waits
        stage.writer.before.open()
        await waiting.wait()
        await handle.inspect()
        assert order == list(range(1, posted + 2))


async def self_posting(stage: Stage, number: int, order: list[int]) -> None:
    def answered(answer: Accepted | Refusal) -> None:
        assert isinstance(answer, Accepted)
        order.append(number)

    await stage.registry.handle(A).post(Push(batch(number - 1, number), None, b'"1"', None, Reply(answered)))


async def test_a_quiet_store_goes_dormant_and_comes_back(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage(dormant_after_s=10)
    async with running(stage):
        handle = stage.registry.handle(A)
        await handle.push(batch(0, 1), None, b'"1"', None)
        assert stage.registry.active == 1
        await trio.sleep(30)
        assert stage.registry.active == 0
        assert isinstance(await handle.push(batch(1, 2), None, b'"1"', None), Accepted)
        assert stage.counters.actors_started == 2


async def test_a_store_with_a_follower_stays(autojump_clock: trio.testing.MockClock) -> None:
    stage, listener = Stage(dormant_after_s=10), Listener()
    async with running(stage):
        handle = stage.registry.handle(A)
        await handle.register(Cursor(0, None), listener)
        await trio.sleep(100)
        assert stage.counters.actors_started == 1
        await handle.push(batch(0, 1), None, b'"1"', None)
        assert listener.numbers == [1]
        handle.leave(listener)
        await trio.sleep(30)
        assert stage.registry.active == 0


@pytest.mark.parametrize("seed", range(20))
async def test_commands_racing_dormancy_are_all_carried_out(autojump_clock: trio.testing.MockClock, seed: int) -> None:
    stage = Stage(dormant_after_s=1)
    async with running(stage):
        handle = stage.registry.handle(A)
        for number in range(1, 30):
            if (number * 7 + seed) % 3 == 0:
                await trio.sleep(1.0)
            stage.registry.retire_quiet()
            answer = await handle.push(batch(number - 1, number), None, b'"1"', None)
            assert isinstance(answer, Accepted)
        assert stage.stored() == list(range(1, 30))


async def test_draining_finishes_the_mailboxes_and_refuses_the_rest(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    order: list[int] = []
    async with running(stage) as nursery:
        handle = stage.registry.handle(A)
        await handle.inspect()
        stage.writer.before.close()
        for number in range(1, 6):
            await self_posting(stage, number, order)
        drained = trio.Event()

        async def drain() -> None:
            await stage.registry.drain()
            drained.set()

        nursery.start_soon(drain)
        await trio.testing.wait_all_tasks_blocked()
        assert not drained.is_set()
        refused = await handle.push(batch(5, 6), None, b'"1"', None)
        assert isinstance(refused, Refusal)
        assert refused.kind is Kind.DRAINING
        stage.writer.before.open()
        await drained.wait()
        assert order == [1, 2, 3, 4, 5]
        assert stage.registry.active == 0


async def test_nobody_gets_an_actor_that_could_not_start_any_more(autojump_clock: trio.testing.MockClock) -> None:
    """The server is cut short during a commit: that is finished, and who asks for another store is refused."""
    stage = Stage()
    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            await nursery.start(stage.registry.run)
            stage.writer.before.close()
            assert stage.registry.handle(A).post_nowait(Push(batch(0, 1), None, b'"1"', None, Reply(lambda _: None)))
            await stage.writer.before.arrived.wait()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
                refusal = stage.registry.actor(B)
                stage.writer.before.open()
    assert isinstance(refusal, Refusal)
    assert refusal.kind is Kind.DRAINING
    assert stage.stored() == [1]
