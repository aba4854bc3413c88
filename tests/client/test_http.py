"""0.4 over HTTP, where nothing is open between two requests: signs of life, silence, long answers, and what is none."""

import itertools

import pytest
import trio
import trio.testing

from livesync_trio.client import NotUnderstood, Refused, State, Unauthorized
from livesync_trio.client.limits import (
    CLIENT_ANSWER_LIMIT_S,
    CLIENT_BACKOFF_JITTER,
    CLIENT_BACKOFF_MAX_S,
    CLIENT_MESSAGE_MAX_BYTES,
    CLIENT_PING_EVERY_S,
    CLIENT_POLL_EVERY_S,
    CLIENT_PONG_LIMIT_S,
    CLIENT_REFUSALS_MAX,
)
from tests.client.stage import ScriptedHttp, events, numbers_until, scripted_http, staged
from tests.client.test_connecting import until
from tests.concurrency.stage import Stage

MINUTES_S = 600.0


async def test_it_is_connected_for_as_long_as_it_is_answered(autojump_clock: trio.testing.MockClock) -> None:
    seen: list[State] = []
    async with staged(Stage(), protocol="http") as (backend, net), trio.open_nursery() as nursery:

        async def watch() -> None:
            seen.extend([state async for state in backend.connection_states()])

        nursery.start_soon(watch)
        await backend.wait_connected()
        await trio.sleep(MINUTES_S)
        async with backend.pull() as pull:
            assert (await anext(pull)).events == ()
            with trio.move_on_after(MINUTES_S):
                await anext(pull)
        assert backend.is_connected
        assert await backend.ping() < CLIENT_PONG_LIMIT_S
        nursery.cancel_scope.cancel()
    assert State.WAITING not in seen
    assert len(net.dialled_at) <= 2, "connections are kept, and used again"


@pytest.mark.parametrize("pulled", [False, True])
async def test_a_silent_server_is_lost_within_a_ping_and_its_limit(
    autojump_clock: trio.testing.MockClock, *, pulled: bool
) -> None:
    stage = Stage()
    async with staged(stage, protocol="http") as (backend, net), backend.pull() as pull:
        await backend.wait_connected()
        if pulled:
            await anext(pull)
        begin_s = trio.current_time()
        net.silent = True
        net.silence()
        await until(backend, State.WAITING)
        assert 0 < trio.current_time() - begin_s <= CLIENT_PING_EVERY_S + CLIENT_PONG_LIMIT_S
        assert "no sign of life" in str(backend.failure)
        await trio.sleep(MINUTES_S)
        assert not backend.is_connected
        net.silent = False
        await backend.push(events(1, 1))
        assert await numbers_until(pull, 1) == [1]


async def test_pauses_between_attempts_double_up_to_a_bound(autojump_clock: trio.testing.MockClock) -> None:
    async with staged(Stage(), protocol="http") as (backend, net):
        net.reachable = False
        await trio.sleep(MINUTES_S)
        expected = [min(2.0**number, CLIENT_BACKOFF_MAX_S) for number in range(len(net.pauses_s))]
        spread = 1 + CLIENT_BACKOFF_JITTER
        assert all(low <= pause <= low * spread for low, pause in zip(expected, net.pauses_s, strict=True))
        assert "nobody listens" in str(backend.failure)
        net.reachable = True
        await backend.connect()
        assert backend.is_connected


# --- answers that take long -------------------------------------------------------------------------------------------


async def test_a_long_answer_is_read_as_it_arrives(autojump_clock: trio.testing.MockClock) -> None:
    async def play(request: ScriptedHttp) -> None:
        for number in (1, 2, 3):
            page = request.page(number, remaining=3 - number)
            await request.send((b"[" if number == 1 else b",") + page[:30])
            await trio.sleep(CLIENT_ANSWER_LIMIT_S - 1)
            await request.send(page[30:])
            await trio.sleep(CLIENT_ANSWER_LIMIT_S - 1)
        await request.succeed()

    async with scripted_http(play) as (backend, net):
        came = [(page.head, trio.current_time()) async for page in backend.pull(live=False)]
        assert [head for head, _ in came] == [1, 2, 3]
        assert came[0][1] < CLIENT_ANSWER_LIMIT_S, "before the rest was there"
        assert backend.is_connected
        assert len(net.dialled_at) < 10


async def test_an_answer_that_stops_in_the_middle_is_asked_for_again_from_there(
    autojump_clock: trio.testing.MockClock,
) -> None:
    asked: list[int] = []

    async def play(request: ScriptedHttp) -> None:
        asked.append(request.after)
        await request.send(b"[" + request.page(request.after + 1, remaining=2))
        if len(asked) == 2:
            await request.send(b"," + request.page(request.after + 2)[:50])
        if len(asked) < 4:
            await trio.sleep_forever()
        await request.send(b"," + request.page(request.after + 2))
        await request.succeed()

    async with scripted_http(play) as (backend, _):
        begin_s = trio.current_time()
        pages = [[event.seq_num for event in page.events] async for page in backend.pull(live=False)]
        assert [number for page in pages for number in page] == [1, 2, 3, 4, 5]
        assert asked == [0, 1, 2, 3]
        assert trio.current_time() - begin_s >= 3 * CLIENT_ANSWER_LIMIT_S


async def test_a_live_pull_polls_with_pauses(autojump_clock: trio.testing.MockClock) -> None:
    asked: list[float] = []

    async def play(request: ScriptedHttp) -> None:
        asked.append(trio.current_time())
        await request.send(b"[" + (request.page(1) if request.after < 1 else request.page()))
        await request.succeed()

    async with scripted_http(play) as (backend, _), backend.pull() as pull:
        with trio.move_on_after(100):
            assert (await anext(pull)).head == 1
            await anext(pull)
        assert all(after - before >= CLIENT_POLL_EVERY_S for before, after in itertools.pairwise(asked))
        assert len(asked) > 10


# --- what is no answer ------------------------------------------------------------------------------------------------


async def test_a_proxy_that_is_busy_is_left_alone_as_long_as_it_asks(autojump_clock: trio.testing.MockClock) -> None:
    busy = True

    async def play(request: ScriptedHttp) -> None:
        if busy:
            await request.refuse(503, b"<html>busy", b"retry-after: 120")
        else:
            await request.succeed()

    async with scripted_http(play) as (backend, _), trio.open_nursery() as nursery:
        await backend.wait_connected()
        nursery.start_soon(backend.push, events(1, 1))
        await until(backend, State.WAITING)
        assert "503" in str(backend.failure)
        assert "busy" in str(backend.failure)
        begin_s = trio.current_time()
        await backend.wait_connected()
        assert trio.current_time() - begin_s >= 120
        busy = False


@pytest.mark.parametrize("fresh", [False, True])
async def test_who_is_not_let_in_does_not_come_back_for_ever(
    autojump_clock: trio.testing.MockClock, *, fresh: bool
) -> None:
    refused = 0

    async def play(request: ScriptedHttp) -> None:
        nonlocal refused
        refused += 1
        await request.refuse(401, b"who are you?")

    options = {"payload": lambda: "token"} if fresh else {}
    async with scripted_http(play, **options) as (backend, _):
        with pytest.raises(Unauthorized, match="who are you"):
            await backend.push(events(1, 1))
        assert refused <= CLIENT_REFUSALS_MAX


@pytest.mark.parametrize("answer", [b"{}", b"7", b"<html>", b'"[', b"[]", b"", b"]", b'[{"_tag":"Chunk"}]', b"[1,2]"])
async def test_what_is_none_of_the_protocol_is_told(autojump_clock: trio.testing.MockClock, answer: bytes) -> None:
    async def play(request: ScriptedHttp) -> None:
        if answer:
            await request.send(answer)
        await request.refuse(200) if not answer else await request.end()

    async with scripted_http(play, offline="fail") as (backend, _):
        await backend.wait_connected()
        with pytest.raises(Refused):
            async with backend.pull() as pull:
                await anext(pull)


async def test_a_page_that_cannot_be_read_is_told(autojump_clock: trio.testing.MockClock) -> None:
    async def play(request: ScriptedHttp) -> None:
        await request.send(b"[" + request.page(1).replace(b'"seqNum":1', b'"seqNum":"one"'))
        await request.succeed()

    async with scripted_http(play) as (backend, _):
        with pytest.raises(NotUnderstood):
            async with backend.pull() as pull:
                await anext(pull)


async def test_numbers_that_go_down_come_once(autojump_clock: trio.testing.MockClock) -> None:
    async def play(request: ScriptedHttp) -> None:
        await request.send(b"[" + b",".join([request.page(1, 2, 3, remaining=2), request.page(2, 1)]))
        await request.succeed()

    async with scripted_http(play) as (backend, _), backend.pull(live=False) as pull:
        assert [event.seq_num async for page in pull for event in page.events] == [1, 2, 3]


async def test_a_message_without_end_is_not_kept(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livesync_trio.client.exchange.CLIENT_MESSAGE_MAX_BYTES", CLIENT_MESSAGE_MAX_BYTES // 1024)
    sent = 0

    async def play(request: ScriptedHttp) -> None:
        nonlocal sent
        await request.send(b'[{"_tag":"Chunk","values":["')
        while True:
            await request.send(b"x" * 65536)
            sent += 65536

    async with scripted_http(play, offline="fail") as (backend, _):
        await backend.wait_connected()
        with pytest.raises(Refused):
            async with backend.pull() as pull:
                await anext(pull)
        assert sent < CLIENT_MESSAGE_MAX_BYTES // 256
