"""What actors make of news from other servers, and how news travels, on a stage without threads."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from livesync_trio.errors import ServerAhead, StorageUnavailable
from livesync_trio.limits import MAILBOX_COMMANDS, NEWS_CHECK_DEAF_S, NEWS_CHECK_S, NEWS_GATHER_S
from livesync_trio.model import Cursor, LogState, StoreId
from livesync_trio.storage import base, shared
from livesync_trio.storage.memory import MemoryEngine
from livesync_trio.store.commands import Accepted, Inspect, Registered, Reply
from livesync_trio.store.shared import News, Notifier, SharedWriter
from tests.concurrency.stage import UNAVAILABLE, A, Listener, Stage, StageWriter, batch, connected, numbers_in, running

B = StoreId("b")


async def follow(stage: Stage) -> Listener:
    """A live pull at the head."""
    listener = Listener()
    state = await stage.state()
    answer = await stage.registry.handle(A).register(Cursor(state.head, state.backend_id), listener)
    assert answer == Registered(state, following=True)
    return listener


def found(stage: Stage) -> LogState:
    state = stage.engine.reader().state(A)
    assert state is not None
    return state


# --- the actor -------------------------------------------------------------------------------------------------------


async def test_what_another_server_stored_reaches_the_followers(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage):
        listener = await follow(stage)
        await stage.push_elsewhere(0, 1, 2)
        assert stage.registry.tell(A, await stage.push_elsewhere(2, 3))
        assert (await stage.state()).head == 3
        assert listener.numbers == [1, 2, 3]


async def test_news_older_than_what_the_actor_knows_changes_nothing(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage):
        listener = await follow(stage)
        old = await stage.push_elsewhere(0, 1)
        stage.registry.tell(A, old)
        assert isinstance(await stage.registry.handle(A).push(batch(1, 2), None, b"1", None), Accepted)
        assert stage.registry.tell(A, old)
        assert (await stage.state()).head == 2
        assert listener.numbers == [1, 2]


async def test_a_log_that_has_become_shorter_tells_those_who_have_more(autojump_clock: trio.testing.MockClock) -> None:
    """A replica was promoted too early. Seen once it may be old news; seen twice it is true."""
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await stage.state()
        short = await stage.push_elsewhere(0, 1)
        assert stage.registry.tell(A, short)
        await client.pull("1")
        assert numbers_in(await client.receive()) == [1]
        assert isinstance(await stage.registry.handle(A).push(batch(1, 2, 3), None, b"1", None), Accepted)
        assert numbers_in(await client.receive()) == [2, 3]

        stage.lose(after=1)
        assert stage.registry.tell(A, short)
        assert (await stage.state()).head == 3
        assert stage.registry.tell(A, short)
        told = (await client.receive())["exit"]["cause"]["error"]
        assert (told["_tag"], told["expected"]) == ("BackendIdMismatchError", short.backend_id)
        assert stage.counters.cursors_ahead_of_head == 1
        client.backend_id = short.backend_id
        await client.pull("2", after=1)
        assert numbers_in(await client.receive()) == []
        assert isinstance(await stage.registry.handle(A).push(batch(1, 2), None, b"1", None), Accepted)
        assert numbers_in(await client.receive()) == [2]


async def test_news_while_an_append_is_under_way_waits_for_it(autojump_clock: trio.abc.Clock) -> None:
    """Read before our append, told after it: the mailbox keeps the order, and nothing comes twice."""
    stage = Stage()
    async with running(stage) as nursery:
        listener = await follow(stage)
        before = await stage.push_elsewhere(0, 1)
        stage.registry.tell(A, before)
        await stage.state()
        stage.writer.after.close()
        nursery.start_soon(stage.registry.handle(A).push, batch(1, 2), None, b"1", None)
        await stage.writer.after.arrived.wait()
        assert stage.registry.tell(A, found(stage))
        stage.writer.after.open()
        assert (await stage.state()).head == 2
        assert listener.numbers == [1, 2]


async def test_without_followers_it_is_looked_up_when_somebody_asks(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage):
        state = await stage.state()
        commits = len(stage.writer.writes)
        stage.registry.tell(A, await stage.push_elsewhere(0, 1))
        await trio.testing.wait_all_tasks_blocked()
        assert len(stage.writer.writes) == commits
        listener = Listener()
        answer = await stage.registry.handle(A).register(Cursor(0, state.backend_id), listener)
        assert isinstance(answer, Registered)
        assert (answer.following, answer.state.head) == (False, 1)


async def test_a_stale_head_is_not_quoted_after_news(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage):
        await stage.state()
        stage.registry.tell(A, await stage.push_elsewhere(0, 1, 2, 3))
        answer = await stage.registry.handle(A).push(batch(-0, 1), None, b"1", None)
        assert isinstance(answer, ServerAhead)
        assert answer.head == 3


async def test_a_reset_elsewhere_ends_the_pulls_here(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage):
        listener = await follow(stage)
        [state] = stage.engine.writer().commit([base.Reset(A)])
        assert isinstance(state, LogState)
        stage.registry.tell(A, state)
        assert await stage.state() == state
        assert listener.replacements == [state]


async def test_news_of_the_log_before_a_reset_here_does_not_bring_it_back(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage):
        await stage.state()
        old = await stage.push_elsewhere(0, 1)
        new = await stage.registry.handle(A).reset()
        listener = await follow(stage)
        stage.registry.tell(A, old)
        assert await stage.state() == new
        assert listener.replacements == []


async def test_a_full_mailbox_is_told_again(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage) as nursery:
        await follow(stage)
        stage.writer.after.close()
        nursery.start_soon(stage.registry.handle(A).push, batch(0, 1), None, b"1", None)
        await stage.writer.after.arrived.wait()
        for _ in range(MAILBOX_COMMANDS):
            assert stage.registry.handle(A).post_nowait(Inspect(Reply(lambda _: None)))
        assert not stage.registry.tell(A, found(stage))
        stage.writer.after.open()
        await stage.state()
        assert stage.registry.tell(A, found(stage))


async def test_news_of_a_store_nobody_uses_starts_nothing(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage):
        assert stage.registry.tell(B, LogState(1, base.Reset(B).store_id, 1, 1))  # type: ignore[arg-type]
        assert stage.registry.active == 0
        await stage.state()
        drained = trio.Event()

        async def drain() -> None:
            await stage.registry.drain()
            drained.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain)
            await trio.testing.wait_all_tasks_blocked()
            assert stage.registry.tell(A, LogState(1, base.Reset(B).store_id, 1, 1))  # type: ignore[arg-type]
            await drained.wait()


async def test_news_while_the_database_is_away_is_not_lost(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    async with running(stage):
        listener = await follow(stage)
        state = await stage.push_elsewhere(0, 1)
        stage.readers.fail = UNAVAILABLE
        stage.registry.tell(A, state)
        await stage.state()
        assert (listener.numbers, listener.drops) == ([], 1)  # sent back to the log, which it reads when it can


# --- notifications ---------------------------------------------------------------------------------------------------


class Wire:
    """Two servers' connection to one database that notifies; the other server is the test."""

    def __init__(self, engine: MemoryEngine) -> None:
        self.engine = engine
        self.told: list[set[StoreId] | None] = []
        self.hints: list[set[StoreId] | None] = []
        self.arrived = False
        self.others = True
        self.while_asked: Callable[[], None] = lambda: None
        self.session = 1
        self.fail: StorageUnavailable | None = None
        self.deaf: StorageUnavailable | None = None
        self.listeners = 0
        self.near, self.far = socket.socketpair()

    def ring(self, hint: set[StoreId] | None) -> None:
        """The other server tells something."""
        self.hints.append(hint)
        self.far.send(b"!")

    def arrive(self) -> None:
        """The other server begins to listen: it is seen, then heard."""
        self.others = self.arrived = True
        self.far.send(b"!")

    # --- shared.SharedEngine, as far as News uses it

    def news(self) -> Wire:
        return self

    def listener(self) -> Wire:
        self._check_hearing()
        self.listeners += 1
        return self

    # --- shared.News

    def tell(self, store_ids: Iterable[StoreId] | None) -> None:
        self._check()
        self.told.append(None if store_ids is None else set(store_ids))

    def alone(self, session: int) -> bool:
        self._check()
        alone = not self.others and session == self.session
        self.while_asked()
        return alone

    def states(self, store_ids: Iterable[StoreId]) -> dict[StoreId, LogState]:
        self._check()
        states = {store_id: self.engine.reader().state(store_id) for store_id in store_ids}
        return {store_id: state for store_id, state in states.items() if state is not None}

    # --- shared.Listener

    def fileno(self) -> int:
        return self.near.fileno()

    def hear_nowait(self) -> shared.Heard:
        self._check_hearing()
        heard: set[StoreId] | None = set()
        arrived, self.arrived = self.arrived, False
        if arrived:
            self.near.recv(1)
        while self.hints and heard is not None:
            self.near.recv(1)
            hint = self.hints.pop()
            heard = None if hint is None else heard | hint
        return shared.Heard(heard, arrived)

    def check(self) -> None:
        self._check_hearing()

    def close(self) -> None:
        pass

    def _check(self) -> None:
        if self.fail is not None:
            raise self.fail

    def _check_hearing(self) -> None:
        if self.deaf is not None:
            raise self.deaf


@attrs.define
class Scene:
    stage: Stage
    wire: Wire
    news: News
    nursery: trio.Nursery
    telling: Notifier

    async def push(self, parent: int) -> None:
        """One event, durable here; whoever is told of it has been told."""
        answer = await self.stage.registry.handle(A).push(batch(parent, parent + 1), None, b"1", None)
        assert isinstance(answer, Accepted)
        await trio.testing.wait_all_tasks_blocked()

    async def becomes_alone(self) -> None:
        """The other server has gone, and that is noticed."""
        self.wire.others = False
        await trio.sleep(NEWS_CHECK_S + NEWS_CHECK_DEAF_S)
        assert self.telling.alone


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A server whose storage runs in the Trio thread, with news."""

    async def inline(fn: Callable[..., Any], *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return fn(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", inline)
    async with _scene() as made:
        yield made


@asynccontextmanager
async def _scene() -> AsyncIterator[Scene]:
    stage, telling = Stage(), Notifier()
    stage.registry.writer = SharedWriter([stage.writer], telling)
    wire = Wire(stage.engine)
    news = News(wire, stage.registry, telling)  # type: ignore[arg-type]
    async with running(stage) as nursery:
        nursery.start_soon(news.run)
        await trio.testing.wait_all_tasks_blocked()
        yield Scene(stage, wire, news, nursery, telling)
        nursery.cancel_scope.cancel()
    wire.near.close()
    wire.far.close()


async def test_what_is_durable_here_is_told(scene: Scene, autojump_clock: trio.abc.Clock) -> None:
    handle = scene.stage.registry.handle(A)
    assert isinstance(await handle.push(batch(0, 1), None, b"1", None), Accepted)
    await trio.testing.wait_all_tasks_blocked()
    assert scene.wire.told == [{A}]
    await handle.reset()
    await trio.sleep(2 * NEWS_GATHER_S)
    assert scene.wire.told == [{A}, {A}]


async def test_what_follows_at_once_is_told_together(scene: Scene, autojump_clock: trio.abc.Clock) -> None:
    await scene.push(0)
    for parent in (1, 2, 3):
        await scene.push(parent)
    assert scene.wire.told == [{A}]
    await trio.sleep(2 * NEWS_GATHER_S)
    assert scene.wire.told == [{A}, {A}]


async def test_what_changes_nothing_is_not_told(scene: Scene, autojump_clock: trio.abc.Clock) -> None:
    await scene.stage.state()
    await scene.stage.push_elsewhere(0, 1)
    assert isinstance(await scene.stage.registry.handle(A).push(batch(0, 1), None, b"1", None), ServerAhead)
    await trio.testing.wait_all_tasks_blocked()
    assert scene.wire.told == []


async def test_what_could_not_be_told_is_told_later(scene: Scene, autojump_clock: trio.abc.Clock) -> None:
    scene.wire.fail = UNAVAILABLE
    for store_id in (A, B):
        await scene.stage.registry.handle(store_id).push(batch(0, 1), None, b"1", None)
    await trio.sleep(3)
    scene.wire.fail = None
    await trio.sleep(2 * NEWS_CHECK_DEAF_S)
    assert scene.wire.told == [{A, B}]


# --- a server that is alone ------------------------------------------------------------------------------------------


async def test_a_server_that_is_alone_tells_nobody(scene: Scene, autojump_clock: trio.abc.Clock) -> None:
    await scene.becomes_alone()
    await scene.push(0)
    await trio.sleep(NEWS_CHECK_S)
    assert scene.wire.told == []


async def test_whoever_arrives_is_told_to_look_at_everything(scene: Scene, autojump_clock: trio.abc.Clock) -> None:
    """What became durable between its first look and our hearing of it was told to nobody."""
    await scene.becomes_alone()
    await scene.push(0)
    scene.wire.arrive()
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert scene.wire.told == [None]
    await trio.sleep(1)
    await scene.push(1)
    assert scene.wire.told == [None, {A}]


async def test_whoever_arrives_while_the_database_is_asked_is_not_missed(
    scene: Scene, autojump_clock: trio.abc.Clock
) -> None:
    """It says that nobody is there; before that was heard, somebody was."""
    scene.wire.others = False
    scene.wire.while_asked = scene.telling.arrived
    await trio.sleep(NEWS_CHECK_DEAF_S + 1)
    assert not scene.telling.alone
    await scene.push(0)
    assert scene.wire.told == [{A}]


async def test_a_push_that_is_under_way_when_somebody_arrives_is_told(
    scene: Scene, autojump_clock: trio.abc.Clock
) -> None:
    await scene.becomes_alone()
    writer = scene.stage.writer
    writer.after.close()
    scene.nursery.start_soon(scene.stage.registry.handle(A).push, batch(0, 1), None, b"1", None)
    await writer.after.arrived.wait()
    scene.wire.arrive()
    await trio.sleep(1)
    assert scene.wire.told == [None]
    writer.after.open()
    await trio.sleep(1)
    assert scene.wire.told == [None, {A}]


async def test_a_server_that_hears_nobody_does_not_take_itself_to_be_alone(
    scene: Scene, autojump_clock: trio.abc.Clock
) -> None:
    await scene.becomes_alone()
    scene.wire.deaf = UNAVAILABLE
    scene.wire.far.send(b"!")  # the connection ends: readable
    await trio.sleep(1)
    assert scene.wire.told == [None]
    await trio.sleep(2 * NEWS_CHECK_S)
    await scene.push(0)
    assert scene.wire.told == [None, {A}]


async def test_a_listener_that_the_writers_database_does_not_know_is_no_proof(
    scene: Scene, autojump_clock: trio.abc.Clock
) -> None:
    """After a failover it may be connected to the one of before, where nobody arrives any more."""
    await scene.becomes_alone()
    scene.wire.session = 2
    await trio.sleep(NEWS_CHECK_S + 1)
    assert scene.wire.told == [None]
    assert not scene.telling.alone


async def test_whoever_listens_is_told_of_changes_here_and_elsewhere(
    scene: Scene, autojump_clock: trio.abc.Clock
) -> None:
    """Also of stores that nobody uses here, and that anything may have changed."""
    registry = scene.stage.registry
    heard: list[StoreId | None] = []
    registry.on_change(heard.append)
    handle = registry.handle(A)
    assert isinstance(await handle.push(batch(0, 1), None, b"1", None), Accepted)
    assert set(heard) == {A}
    heard.clear()
    assert isinstance(await handle.push(batch(1, 2), None, b"1", None), Accepted)
    assert heard == [A]
    await handle.reset()
    assert heard == [A, A]
    scene.wire.ring({B})
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert heard == [A, A, B]
    scene.wire.ring(None)
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert heard == [A, A, B, None]


async def test_a_hint_is_enough(scene: Scene, autojump_clock: trio.abc.Clock) -> None:
    listener = await follow(scene.stage)
    await scene.stage.push_elsewhere(0, 1)
    before_s = trio.current_time()
    scene.wire.ring({A, B})
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert listener.numbers == [1]
    assert trio.current_time() - before_s < NEWS_CHECK_DEAF_S


async def test_a_hint_nobody_understands_is_a_hint_of_everything(scene: Scene, autojump_clock: trio.abc.Clock) -> None:
    listener = await follow(scene.stage)
    await scene.stage.push_elsewhere(0, 1)
    scene.wire.ring(None)
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert listener.numbers == [1]


async def test_a_lost_hint_costs_time_only(scene: Scene, autojump_clock: trio.abc.Clock) -> None:
    listener = await follow(scene.stage)
    await scene.stage.push_elsewhere(0, 1)
    await trio.sleep(NEWS_CHECK_S + 2 * NEWS_CHECK_DEAF_S)
    assert listener.numbers == [1]
    assert scene.news.listening


async def test_while_nothing_is_heard_heads_are_compared_often(scene: Scene, autojump_clock: trio.abc.Clock) -> None:
    listener = await follow(scene.stage)
    scene.wire.deaf = UNAVAILABLE
    scene.wire.far.send(b"!")  # the connection ends: readable
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert not scene.news.listening
    await scene.stage.push_elsewhere(0, 1)
    await trio.sleep(2 * NEWS_CHECK_DEAF_S)
    assert listener.numbers == [1]
    scene.wire.near.recv(1)
    scene.wire.deaf = None
    await trio.sleep(2 * NEWS_CHECK_DEAF_S)
    assert scene.news.listening
    assert scene.wire.listeners == 2


async def test_a_new_listener_asks_for_what_was_missed(scene: Scene, autojump_clock: trio.abc.Clock) -> None:
    listener = await follow(scene.stage)
    scene.wire.deaf = scene.wire.fail = UNAVAILABLE
    await trio.sleep(2 * NEWS_CHECK_S)
    await scene.stage.push_elsewhere(0, 1)
    scene.wire.deaf = scene.wire.fail = None
    await trio.sleep(3 * NEWS_CHECK_DEAF_S)
    assert listener.numbers == [1]


async def test_a_silent_connection_is_probed(scene: Scene, autojump_clock: trio.abc.Clock) -> None:
    scene.wire.deaf = UNAVAILABLE  # nothing becomes readable
    await trio.sleep(NEWS_CHECK_S + NEWS_CHECK_DEAF_S)
    assert not scene.news.listening


async def test_hints_for_a_full_mailbox_are_not_lost(scene: Scene, autojump_clock: trio.abc.Clock) -> None:
    stage = scene.stage
    listener = await follow(stage)
    stage.writer.after.close()
    scene.nursery.start_soon(stage.registry.handle(A).push, batch(0, 1), None, b"1", None)
    await stage.writer.after.arrived.wait()
    while stage.registry.handle(A).post_nowait(Inspect(Reply(lambda _: None))):
        pass
    await stage.push_elsewhere(1, 2)
    scene.wire.ring({A})
    await trio.sleep(1)
    stage.writer.after.open()
    await trio.sleep(1)
    assert listener.numbers == [1, 2]


# --- several writers -------------------------------------------------------------------------------------------------


async def test_the_writes_of_a_store_stay_with_one_writer(autojump_clock: trio.abc.Clock) -> None:
    stage = Stage()
    writers = [StageWriter(stage.engine) for _ in range(3)]
    stage.registry.writer = shared = SharedWriter(writers, Notifier())
    async with running(stage):
        for number in range(1, 4):
            for i in range(30):
                handle = stage.registry.handle(StoreId(f"store {i}"))
                assert isinstance(await handle.push(batch(number - 1, number), None, b"1", None), Accepted)
        stores = [{base.subject(write) for write in writer.writes} for writer in writers]
        assert all(stores)
        assert sum(map(len, stores)) == len(set().union(*stores)) == 30
        assert shared.healthy
        writers[1].healthy = False
        assert not shared.healthy


async def test_a_listener_without_a_descriptor_ends_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """A connection that was lost closes its descriptor, and asking for it fails in whatever way the library has."""
    failures = iter([OSError(9, "Bad file descriptor"), ValueError("negative"), None])
    real = scene.wire.fileno

    def fileno() -> int:
        failure = next(failures, None)
        if failure is not None:
            raise failure
        return real()

    monkeypatch.setattr(scene.wire, "fileno", fileno)
    scene.wire.deaf = StorageUnavailable("lost")
    scene.wire.hints.append(None)
    scene.wire.far.send(b"x")
    await trio.sleep(1)
    scene.wire.deaf = None
    await trio.sleep(30)
    assert scene.news.listening
