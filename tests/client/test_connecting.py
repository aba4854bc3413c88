"""How a client stays connected: signs of life, pauses, payloads, refusals, and what it says of itself."""

import itertools
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
from trio_websocket import WebSocketRequest

from livesync_trio.client import Backend, Offline, State, Unauthorized, open_backend
from livesync_trio.client.limits import (
    CLIENT_BACKOFF_JITTER,
    CLIENT_BACKOFF_MAX_S,
    CLIENT_CONNECT_LIMIT_S,
    CLIENT_PING_EVERY_S,
    CLIENT_PONG_LIMIT_S,
    CLIENT_REFUSALS_MAX,
)
from tests.client.stage import URL, Scripted, events, scripted, staged
from tests.concurrency.stage import Stage

MINUTES_S = 600.0


async def until(backend: Backend, state: State) -> None:
    async for now in backend.connection_states():
        if now is state:
            return


@pytest.mark.parametrize("protocol", ["ws", "v3"])
async def test_a_connection_lives_as_long_as_it_answers(autojump_clock: trio.testing.MockClock, protocol: str) -> None:
    async with staged(Stage(), protocol=protocol) as (backend, net):
        await backend.wait_connected()
        await trio.sleep(MINUTES_S)
        assert backend.is_connected
        async with backend.pull() as pull:
            assert (await anext(pull)).events == ()
            await trio.sleep(MINUTES_S)
            assert backend.is_connected
        assert len(net.dialled_at) == 1
        assert await backend.ping() < CLIENT_PONG_LIMIT_S


@pytest.mark.parametrize("protocol", ["ws", "v3"])
@pytest.mark.parametrize("pulled", [False, True])
async def test_a_silent_connection_is_lost_within_a_ping_and_its_limit(
    autojump_clock: trio.testing.MockClock, protocol: str, pulled: bool
) -> None:
    async with staged(Stage(), protocol=protocol) as (backend, net):
        await backend.wait_connected()
        pull = backend.pull()
        if pulled:
            await anext(pull)
        begin_s = trio.current_time()
        net.silence()
        await until(backend, State.WAITING)
        assert 0 < trio.current_time() - begin_s <= CLIENT_PING_EVERY_S + CLIENT_PONG_LIMIT_S
        assert "no sign of life" in str(backend.failure)
        await backend.wait_connected()


async def test_who_asks_for_a_sign_of_life_in_vain_is_told(autojump_clock: trio.testing.MockClock) -> None:
    async with staged(Stage()) as (backend, net):
        await backend.wait_connected()
        net.silence()
        net.reachable = False
        with pytest.raises(Offline, match="no sign of life"):
            await backend.ping()
        with pytest.raises(Offline, match="nobody listens"):
            await backend.connect()


async def test_pauses_between_attempts_double_up_to_a_bound_and_are_spread(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with staged(Stage()) as (backend, net):
        net.reachable = False
        await trio.sleep(MINUTES_S)
        spread = 1 + CLIENT_BACKOFF_JITTER
        expected = [min(2.0**number, CLIENT_BACKOFF_MAX_S) for number in range(len(net.pauses_s))]
        assert all(low <= pause <= low * spread for low, pause in zip(expected, net.pauses_s, strict=True))
        assert len({pause / low for low, pause in zip(expected, net.pauses_s, strict=True)}) > 1
        assert net.pauses_s[-1] >= CLIENT_BACKOFF_MAX_S
        net.reachable = True
        asked_s = trio.current_time()
        await backend.connect()
        assert backend.is_connected
        assert trio.current_time() == asked_s, "at once, whatever is left of the pause"
        assert await backend.ping() >= 0
        net.cut()
        await until(backend, State.WAITING)
        await backend.wait_connected()
        assert net.pauses_s[-1] <= spread, "what has worked begins anew with a short pause"


async def test_every_attempt_asks_for_a_fresh_payload(autojump_clock: trio.testing.MockClock) -> None:
    tokens = itertools.count(1)
    paths: list[str] = []

    async def payload() -> dict[str, int]:
        await trio.sleep(1)
        return {"token": next(tokens)}

    async def play(server: Scripted) -> None:
        paths.append(server.path)
        request = await server.request()
        assert request["payload"]["payload"] == {"token": len(paths)}

    async with scripted(play, payload=payload) as (backend, _):
        pull = backend.pull()
        with trio.move_on_after(60):
            await anext(pull)
    assert len(paths) > 2
    assert all(f"token%2522%253A{number}%257D" in path for number, path in enumerate(paths, 1))


async def test_a_payload_that_cannot_be_had_is_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    asked = []

    def payload() -> str:
        asked.append(trio.current_time())
        if len(asked) < 3:
            raise OSError("the issuer is away")
        return "token"

    async with staged(Stage(), payload=payload) as (backend, _):
        await until(backend, State.WAITING)
        assert "the issuer is away" in str(backend.failure)
        await backend.wait_connected()
        assert len(asked) == 3


async def refuse(request: WebSocketRequest) -> bool:
    await request.reject(401, body=b"who are you?")
    return True


async def refuse_busy(request: WebSocketRequest) -> bool:
    await request.reject(503, extra_headers=[(b"Retry-After", b"120")], body=b"busy")
    return True


async def test_who_is_refused_does_not_come_back_by_itself(autojump_clock: trio.testing.MockClock) -> None:
    async with scripted(Scripted.listen, refuse) as (backend, net):
        with pytest.raises(Unauthorized, match="who are you"):
            await backend.wait_connected()
        for needs in (backend.push(events(1, 1)), anext(backend.pull()), backend.ping(), backend.wait_connected()):
            with pytest.raises(Unauthorized):
                await needs
        await trio.sleep(MINUTES_S)
        assert len(net.dialled_at) == 1
        with pytest.raises(Unauthorized):
            await backend.connect()
        assert len(net.dialled_at) == 2


async def test_a_fresh_payload_gets_another_chance_but_not_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    tokens = itertools.count(1)
    async with scripted(Scripted.listen, refuse, payload=lambda: next(tokens)) as (backend, net):
        with pytest.raises(Unauthorized):
            await backend.wait_connected()
        await trio.sleep(MINUTES_S)
        assert len(net.dialled_at) == CLIENT_REFUSALS_MAX


async def test_a_server_that_is_busy_is_left_alone_as_long_as_it_asks(autojump_clock: trio.testing.MockClock) -> None:
    async with scripted(Scripted.listen, refuse_busy) as (backend, net):
        await trio.sleep(MINUTES_S)
        assert backend.failure is not None
        assert "busy" in str(backend.failure)
        assert min(net.pauses_s) >= 120


async def test_a_server_that_never_answers_a_handshake_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async def stay_silent(request: WebSocketRequest) -> bool:
        await trio.sleep_forever()
        return True

    async with scripted(Scripted.listen, stay_silent, offline="fail") as (backend, _):
        with pytest.raises(Offline, match="did not answer"):
            await backend.push(events(1, 1))
        assert trio.current_time() < CLIENT_CONNECT_LIMIT_S + 1


async def test_a_server_that_hangs_up_before_the_handshake_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def hang_up(request: WebSocketRequest) -> bool:
        await request._connection._stream.aclose()
        return True

    async with scripted(Scripted.listen, hang_up, offline="fail") as (backend, _):
        with pytest.raises(Offline, match="closed the connection before"):
            await backend.push(events(1, 1))
        assert trio.current_time() < 1


async def test_offline_pushes_and_pulls_wait_or_fail_as_asked(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with staged(stage) as (backend, net):
        net.reachable = False
        with trio.move_on_after(100) as patience:
            await backend.push(events(1, 1))
        assert patience.cancelled_caught
        assert stage.stored() == []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.push, events(1, 2))
            await trio.sleep(100)
            net.reachable = True
        assert stage.stored() == [1, 2]
    async with staged(Stage(), offline="fail") as (backend, net):
        net.reachable = False
        for needs in (backend.push(events(1, 1)), anext(backend.pull()), anext(backend.pull(live=False))):
            with pytest.raises(Offline, match="nobody listens"):
                await needs


async def test_its_states_can_be_watched(autojump_clock: trio.testing.MockClock) -> None:
    seen: list[State] = []

    async def watch(states: AsyncIterator[State]) -> None:
        async for state in states:
            seen.append(state)  # noqa: PERF401 -- it is looked at when it has ended, and shown when it has not

    stage = Stage()
    async with trio.open_nursery() as nursery, staged(stage) as (backend, net):
        nursery.start_soon(watch, backend.connection_states())
        await backend.wait_connected()
        await trio.testing.wait_all_tasks_blocked()
        net.reachable = False
        net.cut()
        await trio.sleep(0.5)
        assert not backend.is_connected
        net.reachable = True
        await backend.wait_connected()
        await trio.testing.wait_all_tasks_blocked()
    assert [state for state in seen if state is not State.CONNECTING] == [
        State.CONNECTED,
        State.WAITING,
        State.CONNECTED,
        State.CLOSED,
    ]


async def test_a_closed_client_leaves_nothing_behind(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with staged(stage) as (backend, _):
        pull = backend.pull()
        await anext(pull)
        kept = backend
    with pytest.raises(Offline, match="closed"):
        await kept.push(events(1, 1))
    with pytest.raises(Offline, match="closed"):
        await anext(pull)
    assert len(stage.peers) == 0


async def test_what_the_block_raises_is_raised_bare() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_backend(URL, store_id="a"):
            raise KeyError("mine")


@pytest.mark.parametrize("url", ["", "server", "ftp://server", "http://", "http://server:0", "http://server/?a=b"])
async def test_an_url_that_is_none_is_told_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="is not the URL of a sync server"):
        async with open_backend(url, store_id="a"):
            pass
