"""The mailbox by itself: order, room, and what becomes of whoever waits."""

import pytest
import trio
import trio.testing

from livesync_trio.store import mailbox
from livesync_trio.store.commands import Inspect, Reply
from livesync_trio.store.mailbox import Closed, Mailbox


def commands(count: int) -> list[Inspect]:
    return [Inspect(Reply(lambda _: None)) for _ in range(count)]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MAILBOX_COMMANDS", 2)


async def test_who_waits_for_room_is_let_in_in_order_and_nobody_overtakes_them() -> None:
    box, (first, second, third, fourth, fifth) = Mailbox(), commands(5)
    assert box.post_nowait(first)
    assert box.post_nowait(second)
    async with trio.open_nursery() as nursery:
        for command in (third, fourth):
            nursery.start_soon(box.post, command)
            await trio.testing.wait_all_tasks_blocked()
        assert not box.post_nowait(fifth)
        assert [id(command) for command in box.take()] == [id(first), id(second)]
        assert not box.post_nowait(fifth)  # the room is theirs already
    assert [id(command) for command in box.take()] == [id(third), id(fourth)]


async def test_who_gives_up_waiting_for_room_has_posted_nothing() -> None:
    box, (first, second, third, fourth) = Mailbox(), commands(4)
    box.post_nowait(first)
    box.post_nowait(second)
    scope = trio.CancelScope()

    async def give_up() -> None:
        with scope:
            await box.post(third)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_up)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(box.post, fourth)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        box.take()
    assert [id(command) for command in box.take()] == [id(fourth)]


async def test_a_mailbox_that_is_closed_keeps_what_is_in_it_and_sends_everybody_else_away() -> None:
    box, (first, second, third) = Mailbox(), commands(3)
    box.post_nowait(first)
    box.post_nowait(second)
    sent_away = []

    async def wait_for_room() -> None:
        try:
            await box.post(third)
        except Closed:
            sent_away.append(third)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_room)
        await trio.testing.wait_all_tasks_blocked()
        box.close()
    assert sent_away == [third]
    with pytest.raises(Closed):
        box.post_nowait(third)
    assert await box.wait()
    assert len(box.take()) == 2
    assert not await box.wait()


async def test_an_actor_that_was_woken_is_not_awaited_any_more_before_its_next_step() -> None:
    box, (first,) = Mailbox(), commands(1)
    told = []

    async def actor() -> None:
        told.append(await box.wait())

    async with trio.open_nursery() as nursery:
        assert not box.waited_for
        nursery.start_soon(actor)
        await trio.testing.wait_all_tasks_blocked()
        assert box.waited_for
        box.post_nowait(first)
        assert not box.waited_for
        assert told == []
    assert told == [True]


async def test_an_actor_that_gives_up_waiting_is_not_woken() -> None:
    box, (first,) = Mailbox(), commands(1)
    with trio.move_on_after(0):
        await box.wait()
    assert not box.waited_for
    assert box.post_nowait(first)
    assert len(box) == 1
