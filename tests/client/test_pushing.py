"""Pushes: what is told, what is repeated, and that nothing is ever stored twice."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from livesync_trio.client import (
    BackendIdMismatch,
    Event,
    InvalidPush,
    Offline,
    OutcomeUnknown,
    Refused,
    ServerAhead,
)
from livesync_trio.client.limits import CLIENT_PUSH_ATTEMPTS, CLIENT_PUSH_MAX_BYTES
from tests.client.stage import Net, Scripted, events, scripted, staged
from tests.concurrency.stage import A, Stage

both = pytest.mark.parametrize("protocol", ["ws", "v3"])


async def stored(stage: Stage) -> list[tuple[int, str]]:
    """Numbers and args of what is durable."""
    state = stage.engine.reader().state(A)
    assert state is not None
    rows = stage.engine.reader().read(state, 0, state.head, 10**9, 10**12)
    return [(row.seq_num, row.json.decode().partition('"args":')[2].partition(',"seqNum"')[0]) for row in rows]


async def expect(error: type[Exception], function: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(error):
        await function()


@both
async def test_a_push_returns_when_it_is_durable_and_tells_who_was_faster(
    autojump_clock: trio.testing.MockClock, protocol: str
) -> None:
    stage = Stage()
    async with staged(stage, protocol=protocol) as (backend, _):
        await backend.push([])
        await backend.push(events(1, 250))
        assert stage.stored() == list(range(1, 251))
        assert [len(append.batches) for append in stage.writer.appends] == [1, 1, 1]
        with pytest.raises(ServerAhead) as behind:
            await backend.push(events(200, 201))
        assert (behind.value.head, behind.value.provided) == (250, 199)
        outcomes = []

        async def race(name: str) -> None:
            try:
                await backend.push(events(251, 252, name))
                outcomes.append("stored")
            except ServerAhead:
                outcomes.append("ahead")

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(race, f"n{number}")
        assert sorted(outcomes) == ["ahead"] * 7 + ["stored"]
        assert stage.stored() == list(range(1, 253))


@pytest.mark.parametrize(
    "wrong",
    [
        [Event(2, 0, "n", b"null"), Event(1, 0, "n", b"null")],
        [Event(1, 0, "n"), Event(3, 2, "n")],
        [Event(1, 1, "n")],
        [Event(1, 0, "n", b"{")],
        [Event(1, 0, "n", b"")],
        [Event(1, 0, "n", b'1,"seqNum":7')],
        [Event(1, 0, "n", b"\xff")],
        [Event(2**53, 0, "n")],
        [Event(1, 0, 5)],  # type: ignore[arg-type]
        [Event(1, 0, "n", b'"%b"' % (b"x" * CLIENT_PUSH_MAX_BYTES))],
        [*events(1, 150), Event(1, 150, "n")],
    ],
    ids=range(11),
)
async def test_what_cannot_be_stored_is_not_sent(autojump_clock: trio.testing.MockClock, wrong: list[Event]) -> None:
    stage = Stage()
    async with staged(stage) as (backend, _):
        await backend.wait_connected()
        with pytest.raises(InvalidPush):
            await backend.push(wrong)
        assert stage.stored() == []


async def test_names_and_args_of_every_kind_arrive_as_they_are(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    odd = [b'"\\ud83d"', b"1e21", b"-0.0", b"12345678901234567890", '"\u2028"'.encode(), b'{"b":1, "a":2}', b"[[]]"]
    pushed = [Event(number, number - 1, 'n"\\\u00f6\ud83d', args, "c\n", "s") for number, args in enumerate(odd, 1)]
    for protocol in ("ws", "v3"):
        async with staged(stage := Stage(), protocol=protocol) as (backend, _):
            await backend.push(pushed)
            pulled = [event async for page in backend.pull(live=False) for event in page.events]
            assert [(event.name, event.args, event.client_id) for event in pulled] == [
                (event.name, event.args, event.client_id) for event in pushed
            ]
            assert all(ours.is_same(theirs) for ours, theirs in zip(pushed, pulled, strict=True))
    assert stage.stored() == list(range(1, len(odd) + 1))


async def lose_the_answer(stage: Stage, net: Net) -> None:
    """Cut the connection when the batch is durable and the answer is not sent."""
    await stage.writer.after.arrived.wait()
    net.cut()
    await trio.testing.wait_all_tasks_blocked()
    stage.writer.after.open()


async def lose_the_push(stage: Stage, net: Net) -> None:
    """Cut the connection before the batch is stored, which then happens late: after the client has looked."""
    await stage.writer.before.arrived.wait()
    net.cut()
    await trio.sleep(100)
    stage.writer.before.open()


@both
@pytest.mark.parametrize("lose", [lose_the_answer, lose_the_push])
async def test_a_push_whose_answer_is_lost_is_stored_once(
    autojump_clock: trio.testing.MockClock, protocol: str, lose: Callable[[Stage, Net], Awaitable[None]]
) -> None:
    stage = Stage()
    async with staged(stage, protocol=protocol) as (backend, net), trio.open_nursery() as nursery:
        await backend.push(events(1, 3))
        if lose is lose_the_answer:
            stage.writer.after.close()
        else:
            stage.writer.before.close()
        nursery.start_soon(lose, stage, net)
        await backend.push(events(4, 6, size=7))
        assert await stored(stage) == [(n, '"x"') for n in (1, 2, 3)] + [(n, '"xxxxxxx"') for n in (4, 5, 6)]


@both
async def test_a_push_whose_answer_is_lost_is_refused_when_another_took_its_place(
    autojump_clock: trio.testing.MockClock, protocol: str
) -> None:
    stage = Stage()
    async with staged(stage, protocol=protocol) as (backend, net), trio.open_nursery() as nursery:
        await backend.push(events(1, 3))
        stage.writer.before.close()
        stage.writer.fail_before = None

        async def be_faster() -> None:
            await stage.writer.before.arrived.wait()
            net.cut()
            net.reachable = False
            await stage.push_elsewhere(3, 4, 5)
            stage.writer.before.open()
            await trio.sleep(1)
            net.reachable = True

        nursery.start_soon(be_faster)
        with pytest.raises(ServerAhead) as behind:
            await backend.push(events(4, 6, size=7))
        assert behind.value.head == 5
        assert stage.stored() == [1, 2, 3, 4, 5]


@both
async def test_an_unclear_outcome_is_told_to_who_does_not_wait(
    autojump_clock: trio.testing.MockClock, protocol: str
) -> None:
    stage = Stage()
    async with staged(stage, protocol=protocol, offline="fail") as (backend, net), trio.open_nursery() as nursery:
        await backend.push(events(1, 3))
        stage.writer.after.close()
        nursery.start_soon(lose_the_answer, stage, net)
        with pytest.raises(OutcomeUnknown):
            await backend.push(events(4, 6))
        net.reachable = False
        with pytest.raises(Offline):
            await backend.push(events(4, 6))


async def test_a_reset_while_the_outcome_is_unclear_is_told(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with staged(stage) as (backend, net), trio.open_nursery() as nursery:
        await backend.push(events(1, 3))
        identity = (await stage.state()).backend_id
        stage.writer.after.close()

        async def reset() -> None:
            await lose_the_answer(stage, net)
            await stage.registry.handle(A).reset()

        nursery.start_soon(reset)
        with pytest.raises(BackendIdMismatch):
            await backend.push(events(4, 6), backend_id=identity)
        assert stage.stored() == []


async def test_a_push_that_ends_every_connection_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    pushes = 0

    async def play(server: Scripted) -> None:
        nonlocal pushes
        while True:
            request = await server.request()
            if request["tag"].endswith("Push"):
                pushes += 1
                return
            await server.page(request)
            await server.succeed(request)

    async with scripted(play) as (backend, _):
        with pytest.raises(OutcomeUnknown):
            await backend.push(events(1, 1))
    assert pushes == CLIENT_PUSH_ATTEMPTS


async def test_refusals_are_told_with_the_reason_and_whether_they_pass(autojump_clock: trio.testing.MockClock) -> None:
    notes = iter(["invalid-batch", "too-fast", "not-allowed", None])

    async def play(server: Scripted) -> None:
        while True:
            request, note = await server.request(), next(notes)
            error = {"_tag": "UnknownError", "cause": {"name": "Error", "message": "because"}}
            await server.fail(request, error if note is None else {**error, "note": note})

    told = []
    async with scripted(play) as (backend, _):
        for _ in range(4):
            with pytest.raises(Refused, match="because") as refused:
                await backend.push(events(1, 1))
            told.append((type(refused.value).__name__, refused.value.retry))
    assert told == [("InvalidPush", False), ("Refused", True), ("Unauthorized", False), ("Refused", False)]


async def test_a_push_that_is_given_up_does_not_disturb_the_next(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with staged(stage) as (backend, net):
        await backend.push(events(1, 1))
        stage.writer.before.close()
        with trio.move_on_after(5) as patience:
            await backend.push(events(2, 2))
        assert patience.cancelled_caught
        stage.writer.before.open()
        await trio.testing.wait_all_tasks_blocked()
        await expect(ServerAhead, lambda: backend.push(events(2, 2)))
        await backend.push(events(3, 3))
        assert len(net.dialled_at) == 1
        assert stage.stored() == [1, 2, 3]
