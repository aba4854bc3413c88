"""The client on real sockets: with our server and with Cloudflare's, through bad networks and kills."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import attrs
import pytest
import trio

from livesync_trio.client import (
    Backend,
    BackendIdMismatch,
    Event,
    LogBroken,
    Offline,
    Position,
    ServerAhead,
    open_backend,
    open_backend_blocking,
)
from tests.client.conftest import Place
from tests.client.stage import events, numbers_until
from tests.conformance.proxy import TcpProxy
from tests.conformance.servers import ServerProcess, free_port

CUTS = 5
LIMIT_S = 120.0
"""For one test, on a machine that has much else to do."""


def opened(place: Place, **options: object) -> AbstractAsyncContextManager[Backend]:
    return open_backend(place.url, store_id=place.store_id, protocol=place.protocol, **options)  # type: ignore[arg-type]


async def test_what_is_pushed_is_pulled_and_followed(place: Place) -> None:
    odd = ['"ö\\ud83d"', "1e+21", '{"b":[1.5,null],"a":"\\u0000"}', '"\u2028"']
    first = [Event(n, n - 1, 'it\'s "v1.Ö"', args.encode(), "client", "s\n") for n, args in enumerate(odd, 1)]
    with trio.fail_after(LIMIT_S):
        async with opened(place) as one, opened(place, offline="fail") as other:
            assert [page.events async for page in one.pull(live=False)] == [()]
            await one.push([*first, *events(5, 230)])
            pages = [page async for page in other.pull(live=False)]
            pulled = [event for page in pages for event in page.events]
            assert [event.seq_num for event in pulled] == list(range(1, 231))
            assert all(ours.is_same(theirs) for ours, theirs in zip(first, pulled, strict=False))
            assert all(event.created_at for event in pulled)
            assert pages[-1].remaining == 0
            assert (pages[-1].backend_id is None) == (place.protocol == "v3")
            async with other.pull(Position(228)) as followed:
                assert await numbers_until(followed, 230) == [229, 230]
                await one.push(events(231, 232))
                assert await numbers_until(followed, 232) == [231, 232]
            with pytest.raises(ServerAhead) as behind:
                await other.push(events(200, 201))
            assert behind.value.head == 232
            assert await other.ping() < LIMIT_S
            assert other.is_connected


async def test_a_foreign_identity_is_told_and_an_unknown_position_too(place: Place) -> None:
    with trio.fail_after(LIMIT_S):
        async with opened(place) as backend:
            await backend.push([Event(5, 0, "n"), Event(9, 5, "n")])
            with pytest.raises(LogBroken):
                await anext(backend.pull(Position(7)))
            if place.protocol != "v3":
                with pytest.raises(BackendIdMismatch) as told:
                    await anext(backend.pull(Position(5, "another")))
                assert told.value.received == "another"
                with pytest.raises(BackendIdMismatch):
                    await backend.push([Event(10, 9, "n")], backend_id="another")
            assert [event.seq_num async for page in backend.pull(live=False) for event in page.events] == [5, 9]


async def test_the_protocol_is_found_out(server_of: Callable[[str], str]) -> None:
    for protocol in ("ws", "v3"):
        url = server_of(protocol)
        with trio.fail_after(LIMIT_S):
            async with open_backend(url, store_id=f"found-{protocol}", protocol="auto") as backend:
                await backend.push(events(1, 2))
                pages = [page async for page in backend.pull(live=False)]
                assert pages[-1].head == 2
            async with open_backend(url, store_id=f"found-{protocol}", protocol=protocol) as backend:
                assert [page.head async for page in backend.pull(live=False)] == [2]


def test_a_program_without_trio_is_served(server_of: Callable[[str], str]) -> None:
    with open_backend_blocking(server_of("ws"), store_id="blocking") as backend:
        backend.push(events(1, 120))
        pull = backend.pull()
        assert next(pull).head == 100
        pull.close()
        assert [page.head for page in backend.pull()] == [100, 120]
        with pytest.raises(ServerAhead):
            backend.push(events(1, 1))


def test_a_server_that_is_not_there_is_told() -> None:
    with (
        pytest.raises(Offline, match="refused"),
        open_backend_blocking(f"http://127.0.0.1:{free_port()}", store_id="a"),
    ):
        pass


async def test_http_says_that_nobody_is_there() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with trio.fail_after(LIMIT_S):
        async with open_backend(url, store_id="a", protocol="http", offline="fail") as backend:
            with pytest.raises(Offline):
                await backend.push(events(1, 1))


# --- bad networks -----------------------------------------------------------------------------------------------------


async def push_on(backend: Backend, numbers: range) -> None:
    """Push one event after the other, waiting for each, however often the network fails."""
    for number in numbers:
        await backend.push(events(number, number))


async def test_chaos_costs_nothing_but_time(place: Place, make_proxy: Callable[[str], TcpProxy]) -> None:
    """The network is cut at random moments under a pusher and two readers: every event is stored and pulled once."""
    dice, proxy = random.Random(place.protocol), make_proxy(place.url)
    last, through = 25, attrs.evolve(place, url=proxy.url)

    async def be_bad() -> None:
        for _ in range(CUTS):
            await trio.sleep(dice.uniform(0.1, 1.0))
            await trio.to_thread.run_sync(proxy.cut)
            await trio.sleep(dice.uniform(0, 0.3))
            proxy.restore()

    with trio.fail_after(LIMIT_S):
        async with opened(through) as pusher, opened(through) as reader, trio.open_nursery() as nursery:
            nursery.start_soon(be_bad)
            async with reader.pull() as pull, trio.open_nursery() as pushing:
                pushing.start_soon(push_on, pusher, range(1, last + 1))
                assert await numbers_until(pull, last) == list(range(1, last + 1))
            nursery.cancel_scope.cancel()
        async with opened(place) as fresh:
            stored = [event async for page in fresh.pull(live=False) for event in page.events]
            assert all(ours.is_same(theirs) for ours, theirs in zip(events(1, last), stored, strict=True))


@pytest.mark.parametrize("protocol", ["ws", "http", "v3"])
async def test_a_server_that_is_killed_costs_nothing_but_time(own_server: ServerProcess, protocol: str) -> None:
    """kill -9 while it is pushed to: what was acknowledged is there, what was not is pushed again, nothing twice."""
    place, last = Place(own_server.url, protocol, "killed"), 30
    acknowledged: list[int] = []
    enough = {number: trio.Event() for number in (5, 15)}

    async def push_on(backend: Backend) -> None:
        for number in range(1, last + 1):
            await backend.push(events(number, number))
            acknowledged.append(number)
            if number in enough:
                enough[number].set()

    with trio.fail_after(LIMIT_S):
        async with opened(place) as pusher, opened(place) as reader, reader.pull() as pull:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(push_on, pusher)
                for reached in enough.values():
                    await reached.wait()
                    await trio.to_thread.run_sync(own_server.kill)
                    await trio.to_thread.run_sync(own_server.start)
                    await pusher.connect()
            assert acknowledged == list(range(1, last + 1))
            assert await numbers_until(pull, last) == acknowledged
        async with opened(place) as fresh:
            assert [event.seq_num async for page in fresh.pull(live=False) for event in page.events] == acknowledged
