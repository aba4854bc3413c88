"""Pulls through everything that a network and a server may do."""

import gc

import pytest
import trio
import trio.testing

from livesync_trio.client import (
    BackendIdMismatch,
    LogBroken,
    LogGone,
    NotUnderstood,
    Position,
    Refused,
    ServerAhead,
)
from livesync_trio.client.limits import CLIENT_BUFFER_BYTES, CLIENT_STASH_WAIT_S
from livesync_trio.limits import PAGE_MAX_BYTES
from livesync_trio.store.commands import Accepted
from tests.client.stage import Scripted, events, numbers_until, scripted, staged
from tests.concurrency.stage import A, Stage, batch

both = pytest.mark.parametrize("protocol", ["ws", "v3"])


async def fill(stage: Stage, last: int, size: int = 1, start: int = 0) -> None:
    """Put events into the store, a hundred to a batch."""
    handle = stage.registry.handle(A)
    for first in range(start, last, 100):
        numbers = range(first + 1, min(first + 100, last) + 1)
        answer = await handle.push(batch(first, *numbers, args=b'"%b"' % (b"x" * size)), None, b'"f"', None)
        assert isinstance(answer, Accepted)


# --- what is promised -------------------------------------------------------------------------------------------------


@both
async def test_history_and_what_follows_come_once_and_in_order_however_often_it_is_cut(
    autojump_clock: trio.testing.MockClock, protocol: str
) -> None:
    stage = Stage()
    async with staged(stage, protocol=protocol) as (backend, net):
        await fill(stage, 350)

        async def push_on() -> None:
            for number in range(351, 451):
                await fill(stage, number, start=number - 1)
                await trio.sleep(0.3)
                if number % 7 == 0:
                    net.cut()
                if number % 20 == 0:
                    net.silence()

        async with trio.open_nursery() as nursery, backend.pull() as pull:
            nursery.start_soon(push_on)
            assert await numbers_until(pull, 450) == list(range(1, 451))
        assert len(net.dialled_at) > 10


@both
async def test_a_pull_that_is_not_live_ends_and_says_what_remains(
    autojump_clock: trio.testing.MockClock, protocol: str
) -> None:
    stage = Stage()
    async with staged(stage, protocol=protocol) as (backend, _):
        assert [page.events async for page in backend.pull(live=False)] == [()]
        await fill(stage, 250)
        pages = [page async for page in backend.pull(live=False)]
        assert [(len(page.events), page.remaining, page.head) for page in pages] == [
            (100, 150, 100),
            (100, 50, 200),
            (50, 0, 250),
        ]
        rest = [page async for page in backend.pull(pages[1].position, live=False)]
        assert [event.seq_num for page in rest for event in page.events] == list(range(201, 251))
        assert {page.backend_id for page in pages} == {None if protocol == "v3" else (await stage.state()).backend_id}


@both
async def test_several_pulls_of_one_client_do_not_disturb_each_other(
    autojump_clock: trio.testing.MockClock, protocol: str
) -> None:
    stage = Stage()
    async with staged(stage, protocol=protocol) as (backend, net):
        await fill(stage, 120)
        async with backend.pull() as one, backend.pull(Position(100)) as other:
            assert await numbers_until(one, 120) == list(range(1, 121))
            await fill(stage, 121, start=120)
            assert await numbers_until(other, 121) == list(range(101, 122))
            net.cut()
            await fill(stage, 122, start=121)
            assert await numbers_until(one, 122) == [121, 122]
            assert await numbers_until(other, 122) == [122]


@both
async def test_a_reader_that_gives_up_and_comes_back_loses_nothing(
    autojump_clock: trio.testing.MockClock, protocol: str
) -> None:
    stage = Stage()
    numbers: list[int] = []
    async with staged(stage, protocol=protocol) as (backend, _), trio.open_nursery() as nursery:

        async def push_on() -> None:
            for number in range(1, 51):
                await fill(stage, number, start=number - 1)
                await trio.sleep(0.11)

        nursery.start_soon(push_on)
        async with backend.pull() as pull:
            while 50 not in numbers:
                with trio.move_on_after(0.07):
                    numbers += [event.seq_num for event in (await anext(pull)).events]
    assert numbers == list(range(1, 51))


@both
async def test_what_a_slow_reader_has_not_taken_is_bounded_and_nobody_waits_for_it(
    autojump_clock: trio.testing.MockClock, protocol: str
) -> None:
    stage = Stage()
    async with staged(stage, protocol=protocol) as (backend, net):
        await fill(stage, 200, size=60_000)
        async with backend.pull() as pull:
            numbers = [event.seq_num for event in (await anext(pull)).events]
            await trio.sleep(3)
            connection = await backend._link.connected("fail")
            held = sum(stream._size_bytes for stream in connection._streams.values())  # type: ignore[attr-defined]
            assert 0 < held <= CLIENT_BUFFER_BYTES + PAGE_MAX_BYTES + 100_000
            await backend.push(events(201, 201))  # its answer stands behind what nobody takes
            assert stage.stored()[-1] == 201
            await trio.sleep(300)  # as little does it cost the connection
            assert len(net.dialled_at) == 1
            while 201 not in numbers:
                await trio.sleep(1)
                numbers += [event.seq_num for event in (await anext(pull)).events]
        assert numbers == list(range(1, 202))


async def test_the_server_is_told_of_pulls_that_nobody_holds_any_more(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with staged(stage) as (backend, _):
        async with backend.pull() as pull:
            await anext(pull)
            assert stage.counters.live_pulls_abandoned == 0
        await trio.testing.wait_all_tasks_blocked()
        assert stage.counters.live_pulls_abandoned == 1
        forgotten = backend.pull()
        await anext(forgotten)
        del forgotten
        gc.collect()
        await fill(stage, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert stage.counters.live_pulls_abandoned == 2


# --- identity ---------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("connected", [True, False])
async def test_a_reset_is_told_or_begun_anew_as_asked(
    autojump_clock: trio.testing.MockClock, protocol: str, *, connected: bool
) -> None:
    stage = Stage()
    async with staged(stage, protocol=protocol) as (backend, net):
        await fill(stage, 120)
        async with backend.pull() as told, backend.pull(on_reset="restart") as going_on:
            assert len(await numbers_until(told, 120)) == len(await numbers_until(going_on, 120))
            if not connected:
                net.reachable = False
                net.cut()
            before = (await stage.state()).backend_id
            await stage.registry.handle(A).reset()
            after = (await stage.state()).backend_id
            await fill(stage, 3, size=2)
            net.reachable = True
            with pytest.raises((BackendIdMismatch, LogGone)) as gone:
                await anext(told)
            if isinstance(gone.value, BackendIdMismatch):
                assert (gone.value.expected, gone.value.received) == (after, before)
            with pytest.raises(StopAsyncIteration):
                await anext(told)
            page = await anext(going_on)
            assert page.restarted
            numbers = [event.seq_num for event in page.events]
            if 3 not in numbers:
                numbers += await numbers_until(going_on, 3)
            assert numbers == [1, 2, 3]


async def test_a_foreign_identity_is_told_and_not_asked_again(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with staged(stage) as (backend, _):
        await fill(stage, 5)
        with pytest.raises(BackendIdMismatch) as told:
            await anext(backend.pull(Position(3, "another")))
        assert (told.value.expected, told.value.received) == ((await stage.state()).backend_id, "another")
        with pytest.raises(BackendIdMismatch):
            await backend.push(events(6, 6), backend_id="another")
        async with backend.pull(Position(3, "another"), on_reset="restart") as pull:
            assert await numbers_until(pull, 5) == [1, 2, 3, 4, 5]


async def test_an_identity_that_changes_in_the_middle_is_told(autojump_clock: trio.testing.MockClock) -> None:
    async def play(server: Scripted) -> None:
        request = await server.request()
        await server.page(request, 1, 2, identity="one")
        await server.page(request, 3, identity="two")
        await server.listen()

    async with scripted(play) as (backend, _), backend.pull() as pull:
        assert await numbers_until(pull, 2) == [1, 2]
        with pytest.raises(BackendIdMismatch):
            await anext(pull)


async def test_a_restart_that_leads_nowhere_ends(autojump_clock: trio.testing.MockClock) -> None:
    async def play(server: Scripted) -> None:
        while True:
            request = await server.request()
            await server.fail(request, {"_tag": "BackendIdMismatchError", "expected": "b", "received": "a"})

    async with scripted(play) as (backend, _):
        with pytest.raises(BackendIdMismatch):
            await anext(backend.pull(on_reset="restart"))


# --- servers that do it otherwise -------------------------------------------------------------------------------------


async def test_what_comes_too_early_waits_for_its_predecessors(autojump_clock: trio.testing.MockClock) -> None:
    """As the reference does it: what is pushed meanwhile comes between the pages, and again there (SPEC section 7)."""

    async def play(server: Scripted) -> None:
        request = await server.request()
        await server.page(request, 7)
        await server.page(request, 1, 2, 3, remaining=4)
        await server.page(request, 8, 9)
        await server.page(request, 4, 5, 6, 7, 8)
        await server.page(request, 8)
        await server.page(request, 10)
        await server.listen()

    async with scripted(play) as (backend, _), backend.pull() as pull:
        assert await numbers_until(pull, 10) == list(range(1, 11))


async def test_what_is_missing_is_asked_for_once_more(autojump_clock: trio.testing.MockClock) -> None:
    asked: list[object] = []

    async def play(server: Scripted) -> None:
        while True:
            request = await server.request()
            asked.append(request["payload"]["cursor"])
            if len(asked) == 1:
                await server.page(request, 1, 2)
                await server.page(request, 4, 5)  # 3 was lost
            else:
                await server.page(request, 3, 4, 5)

    async with scripted(play) as (backend, _), backend.pull() as pull:
        assert await numbers_until(pull, 5) == [1, 2, 3, 4, 5]
    assert asked == [
        {"_tag": "None"},
        {"_tag": "Some", "value": {"backendId": "id", "eventSequenceNumber": 2}},
    ]


@pytest.mark.parametrize("live_gap", [True, False])
async def test_a_log_with_a_hole_is_told_and_not_asked_for_again_and_again(
    autojump_clock: trio.testing.MockClock, *, live_gap: bool
) -> None:
    asked = 0

    async def play(server: Scripted) -> None:
        nonlocal asked
        while True:
            request = await server.request()
            asked += 1
            first = asked == 1
            if first:
                await server.page(request, 1, 2)
            elif live_gap:
                await server.page(request)
            if live_gap or not first:
                await server.page(request, 4, 5)
            else:
                await server.ws.aclose()

    async with scripted(play) as (backend, _), backend.pull() as pull:
        assert await numbers_until(pull, 2) == [1, 2]
        with pytest.raises(LogBroken, match="e2"):
            await anext(pull)
        assert trio.current_time() <= 3 * CLIENT_STASH_WAIT_S
    assert asked <= 3


@pytest.mark.parametrize("numbers", [(3, 4), (1, 2)])
async def test_a_position_that_is_not_in_the_log_is_told(
    autojump_clock: trio.testing.MockClock, numbers: tuple[int, ...]
) -> None:
    async def play(server: Scripted) -> None:
        await server.page(await server.request(), 9, 10, parent=4)
        await server.listen()

    async with scripted(play) as (backend, _):
        with pytest.raises(LogBroken, match="e9 follows e4"):
            await anext(backend.pull(Position(5, "id")))


async def test_a_refusal_that_passes_is_waited_for_and_one_that_does_not_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    asked = 0

    async def play(server: Scripted) -> None:
        nonlocal asked
        while True:
            request = await server.request()
            asked += 1
            error = {"_tag": "UnknownError", "cause": {"name": "Error", "message": "later"}}
            if asked < 4:
                await server.fail(request, {**error, "note": "storage-unavailable"})
            elif asked == 4:
                await server.page(request, 1)
                await server.fail(request, {**error, "note": "draining"})
            elif asked == 5:
                await server.page(request, 2)
            else:
                await server.fail(request, {"_tag": "UnknownError", "cause": {"name": "Error", "message": "never"}})

    async with scripted(play) as (backend, _):
        async with backend.pull() as pull:
            assert await numbers_until(pull, 2) == [1, 2]
        with pytest.raises(Refused, match="never"):
            await anext(backend.pull())
    assert asked == 6


@pytest.mark.parametrize(
    "said",
    [
        {"_tag": "Defect", "defect": "Unknown request tag: X"},
        {"_tag": "Exit", "requestId": "0", "exit": {"_tag": "Failure", "cause": {"_tag": "Die", "defect": "x"}}},
        {"_tag": "Exit", "requestId": "0", "exit": 5},
        {"_tag": "Chunk", "requestId": "0", "values": [{"batch": [{}], "backendId": "a"}]},
        {"_tag": "Chunk", "requestId": "0", "values": 7},
        5,
    ],
    ids=lambda said: str(said)[:60],
)
async def test_what_cannot_be_followed_ends_a_pull_and_is_told(
    autojump_clock: trio.testing.MockClock, said: object
) -> None:
    async def play(server: Scripted) -> None:
        await server.request()
        await server.say(said)
        await server.listen()

    async with scripted(play) as (backend, net):
        with pytest.raises((Refused, NotUnderstood)):
            await anext(backend.pull())
        assert len(net.dialled_at) == 1


async def test_what_means_nothing_is_passed_over(autojump_clock: trio.testing.MockClock) -> None:
    async def play(server: Scripted) -> None:
        request = await server.request()
        for nothing in ({"_tag": "News"}, {"_tag": "Exit", "requestId": "99", "exit": {"_tag": "Success"}}):
            await server.say(nothing)
        await server.page({"id": "77"}, 5)
        await server.page(request, 1)
        await server.listen()

    async with scripted(play) as (backend, _), backend.pull() as pull:
        assert await numbers_until(pull, 1) == [1]


async def test_a_live_pull_that_a_server_ends_is_begun_again_without_haste(
    autojump_clock: trio.testing.MockClock,
) -> None:
    asked: list[float] = []

    async def play(server: Scripted) -> None:
        while True:
            request = await server.request()
            asked.append(trio.current_time())
            await server.page(request, len(asked))
            await server.succeed(request)

    async with scripted(play) as (backend, _), backend.pull() as pull:
        assert await numbers_until(pull, 5) == [1, 2, 3, 4, 5]
        assert asked[-1] - asked[0] >= 4


async def test_what_a_reader_answers_goes_out_while_it_reads(autojump_clock: trio.testing.MockClock) -> None:
    """A bot: it pushes for every event it sees, from within its loop, and rebases when it was too slow."""
    stage = Stage()
    async with staged(stage) as (backend, net):
        await fill(stage, 30)
        head, answered = 0, 0
        async with backend.pull() as pull:
            async for page in pull:
                head = page.head
                for event in page.events:
                    if event.client_id == "bot" or answered == 10:
                        continue
                    if answered % 3 == 0:
                        net.cut()
                    try:
                        [reply] = events(head + 1, head + 1, name="reply")
                        await backend.push([reply])
                    except ServerAhead:
                        continue
                    answered, head = answered + 1, head + 1
                if answered >= 3:
                    break
        assert stage.stored() == list(range(1, 31 + answered))
