"""A push to an idle store is carried out at once, and nobody can tell it from one that went through the mailbox."""

import random
from typing import Any

import pytest
import trio

from livesync_trio.errors import Kind, Refusal
from livesync_trio.limits import MAILBOX_COMMANDS
from livesync_trio.model import Cursor, Draft, LogState
from livesync_trio.storage import base
from livesync_trio.store.actor import StoreActor
from livesync_trio.store.commands import (
    Accepted,
    Append,
    Command,
    Inspect,
    Numbered,
    Push,
    Register,
    Registered,
    Reply,
    Reset,
)
from livesync_trio.store.persistence import Done
from tests.concurrency.stage import A, Listener, Stage, batch, running

Answers = list[tuple[int, Any]]


def _told(answer: Any) -> Any:
    """An answer, without what differs from run to run."""
    match answer:
        case Accepted():
            return ("accepted", answer.state.head, answer.state.event_count)
        case Numbered():
            return ("numbered", answer.seq_nums, answer.repeated)
        case Registered():
            return ("registered", answer.state.head, answer.following)
        case LogState():
            return ("state", answer.head, answer.event_count)
        case Refusal():
            return ("refused", type(answer).__name__, answer.kind, getattr(answer, "head", None))
    raise AssertionError(answer)


def _reply(number: int, answers: Answers) -> Reply[Any]:
    return Reply(lambda answer: answers.append((number, _told(answer))))


def _commands(dice: random.Random, answers: Answers) -> list[Command]:
    """What somebody may ask; pushes mostly, many of which race for the next number and lose."""
    made: list[Command] = []
    parent = 0
    for number in range(40):
        reply = _reply(number, answers)
        what = dice.choices(["push", "race", "append", "register", "inspect", "reset"], [60, 20, 5, 5, 5, 2])[0]
        if what == "push":
            size = dice.choice([1, 1, 1, 3])
            made.append(Push(batch(parent, *range(parent + 1, parent + 1 + size)), None, b'"1"', None, reply))
            parent += size
        elif what == "race":
            start = max(0, parent + dice.choice([-1, -1, 0, 1]))
            made.append(Push(batch(start, start + 1), None, b'"1"', None, reply))
            parent += start == parent
        elif what == "append":
            draft = Draft(
                b'{"name":"n","args":null', b'"clientId":"c","sessionId":"s"}', f"id {number}", repeatable=True
            )
            made.append(Append((draft,), None, None, None, reply))
            parent += 1
        elif what == "register":
            made.append(Register(Cursor(parent, None), None, reply))
        elif what == "inspect":
            made.append(Inspect(reply))
        else:
            made.append(Reset(reply))
            parent = 0
    return made


async def _answers(seed: int) -> tuple[Answers, list[int], list[int]]:
    """What one client is answered, what a follower saw, and what is stored; the disk is as slow as the dice say."""
    dice, disk_dice = random.Random(seed), random.Random(seed)
    stage, answers, listener = Stage(), Answers(), Listener()
    async with running(stage) as nursery:
        state = await stage.state()
        await stage.registry.handle(A).register(Cursor(0, state.backend_id), listener)

        async def a_disk_that_hesitates() -> None:
            while True:
                stage.writer.delay_s = disk_dice.choice([0.0, 0.0, 0.01, 0.1])
                await trio.sleep(0.05)

        nursery.start_soon(a_disk_that_hesitates)
        for command in _commands(random.Random(seed), answers):
            await stage.registry.handle(A).post(command)
            await trio.sleep(dice.choice([0.0, 0.0, 0.0, 0.003, 0.03, 0.3]))
        await stage.state()
        return answers, listener.numbers, stage.stored()


@pytest.mark.parametrize("seed", range(12))
async def test_answers_order_and_log_are_those_of_the_mailbox_alone(
    seed: int, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    handed_over = await _answers(seed)
    assert [number for number, _ in handed_over[0]] == list(range(40))
    monkeypatch.setattr(StoreActor, "_may_be_handed_over", property(lambda _: False))
    assert await _answers(seed) == handed_over


def _post(stage: Stage, parent: int, number: int, answers: Answers) -> bool:
    reply = _reply(number, answers)
    return stage.registry.handle(A).post_nowait(Push(batch(parent, number), None, b'"1"', None, reply))


async def test_a_push_to_an_idle_store_goes_to_the_writer_at_once(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """No task is woken for it; nor for its answer."""
    stage, answers = Stage(), Answers()
    async with running(stage):
        await stage.state()
        actor = stage.registry.running(A)
        assert actor is not None
        submitted: list[base.Write] = []
        real = stage.writer.submit

        def submit(write: base.Write, done: Done) -> None:
            submitted.append(write)
            real(write, done)

        monkeypatch.setattr(stage.writer, "submit", submit)
        await trio.testing.wait_all_tasks_blocked()
        _post(stage, 0, 1, answers)
        assert len(submitted) == 1
        assert not actor.idle
        await trio.testing.wait_all_tasks_blocked()
        assert answers == [(1, ("accepted", 1, 1))]
        assert actor.idle
        _post(stage, 0, 1, answers)
        assert answers[1:] == [(1, ("refused", "ServerAhead", Kind.SERVER_AHEAD, 1))]  # nothing need be written


async def test_what_comes_while_it_is_under_way_waits_for_it(autojump_clock: trio.testing.MockClock) -> None:
    stage, answers = Stage(), Answers()
    async with running(stage):
        await stage.state()
        stage.writer.after.close()
        await trio.testing.wait_all_tasks_blocked()
        posted = 0
        while _post(stage, posted, posted + 1, answers):
            posted += 1
        assert posted == MAILBOX_COMMANDS + 1
        await trio.testing.wait_all_tasks_blocked()
        assert answers == []
        stage.writer.after.open()
        await trio.testing.wait_all_tasks_blocked()
        assert [number for number, _ in answers] == list(range(1, posted + 1))
        assert [len(append.batches) for append in stage.writer.appends] == [1, MAILBOX_COMMANDS]


@pytest.mark.parametrize("how", ["cancelled", "retired"])
async def test_an_actor_that_is_to_end_ends_after_what_is_under_way(
    how: str, autojump_clock: trio.testing.MockClock
) -> None:
    stage, answers, listener = Stage(), Answers(), Listener()
    async with running(stage) as nursery:
        state = await stage.state()
        await stage.registry.handle(A).register(Cursor(0, state.backend_id), listener)
        actor = stage.registry.running(A)
        assert actor is not None
        stage.writer.after.close()
        await trio.testing.wait_all_tasks_blocked()
        _post(stage, 0, 1, answers)
        _post(stage, 1, 2, answers)
        await stage.writer.after.arrived.wait()
        if how == "cancelled":
            nursery.cancel_scope.cancel()
        else:
            actor.retire()
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
            assert stage.registry.running(A) is actor
            assert answers == []
            stage.writer.after.open()
            await trio.sleep(1)
        assert stage.registry.running(A) is None
        assert answers[0] == (1, ("accepted", 1, 1))
        assert answers[1] in ((2, ("accepted", 2, 2)), (2, ("refused", "Refusal", Kind.DRAINING, None)))
        assert listener.numbers == stage.stored() == list(range(1, 1 + sum(a[0] == "accepted" for _, a in answers)))


async def test_a_fault_met_in_it_is_the_actors_and_not_the_posters(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    stage, answers = Stage(), Answers()
    async with running(stage):
        await stage.state()
        await trio.testing.wait_all_tasks_blocked()
        with monkeypatch.context() as patch:
            patch.setattr(StoreActor, "_publish", lambda *_: 1 / 0)
            assert _post(stage, 0, 1, answers)
            assert _post(stage, 1, 2, answers)
            await trio.testing.wait_all_tasks_blocked()
        assert [(number, answer[2]) for number, answer in answers] == [(1, Kind.STORE_FAILED), (2, Kind.STORE_FAILED)]
        assert stage.counters.actors_crashed == 1
        assert (await stage.state()).head == 1  # the next generation looks: it was durable
        with monkeypatch.context() as patch:
            patch.setattr(StoreActor, "_decide", lambda *_: 1 / 0)
            assert _post(stage, 1, 2, answers)
            await trio.testing.wait_all_tasks_blocked()
        assert [(number, answer[2]) for number, answer in answers[2:]] == [(2, Kind.STORE_FAILED)]
        assert (await stage.state()).head == 1


async def test_a_lost_race_and_a_lost_commit_are_the_actors(autojump_clock: trio.testing.MockClock) -> None:
    """Another server was first: the actor reads what it has missed, publishes it, and decides anew."""
    stage, answers, listener = Stage(), Answers(), Listener()
    async with running(stage):
        state = await stage.state()
        await stage.registry.handle(A).register(Cursor(0, state.backend_id), listener)
        await trio.testing.wait_all_tasks_blocked()
        await stage.push_elsewhere(0, 1)
        _post(stage, 0, 1, answers)
        await trio.testing.wait_all_tasks_blocked()
        assert answers == [(1, ("refused", "ServerAhead", Kind.SERVER_AHEAD, 1))]
        assert listener.numbers == [1]
        stage.writer.fail_after = OSError("nobody expects this")
        _post(stage, 1, 2, answers)
        await trio.testing.wait_all_tasks_blocked()
        assert answers[1][1][2] is Kind.STORE_FAILED


async def test_what_is_in_doubt_is_looked_up_before_a_push_is_decided(autojump_clock: trio.testing.MockClock) -> None:
    """Another server has gone on, and the idle actor was told: nobody is refused by the head of before."""
    stage, answers = Stage(), Answers()
    async with running(stage):
        await stage.state()
        await trio.testing.wait_all_tasks_blocked()
        _post(stage, 0, 1, answers)
        await trio.testing.wait_all_tasks_blocked()
        actor = stage.registry.running(A)
        assert actor is not None
        assert actor.tell(await stage.push_elsewhere(1, 2))
        _post(stage, 0, 1, answers)
        await trio.testing.wait_all_tasks_blocked()
        assert answers[1:] == [(1, ("refused", "ServerAhead", Kind.SERVER_AHEAD, 2))]
