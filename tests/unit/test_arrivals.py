"""`transport.arrivals`: one task hears for many sockets, and for other threads."""

from __future__ import annotations

import gc
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from livesync_trio.limits import ARRIVALS_PER_TURN
from livesync_trio.transport.arrivals import Arrivals

pytestmark = pytest.mark.skipif(not Arrivals.available(), reason="select.epoll is Linux's")


Pair = Callable[[], tuple[socket.socket, socket.socket]]


@asynccontextmanager
async def hearing() -> AsyncIterator[tuple[Arrivals, trio.Nursery]]:
    arrivals = Arrivals()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(arrivals.run)
            yield arrivals, nursery
            nursery.cancel_scope.cancel()


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ExitStack() as sockets:

        def make() -> tuple[socket.socket, socket.socket]:
            ours, theirs = map(sockets.enter_context, socket.socketpair())
            ours.setblocking(False)
            return ours, theirs

        yield make


def until(end: bytes, got: list[bytes]) -> Callable[[bytes], bool]:
    def take(data: bytes) -> bool:
        got.append(data)
        return data != end

    return take


async def test_bytes_come_until_that_is_enough(pair: Pair) -> None:
    ours, theirs = pair()
    got: list[bytes] = []
    async with hearing() as (arrivals, nursery):

        async def say() -> None:
            for word in (b"one", b"two", b"enough"):
                theirs.send(word)
                await trio.testing.wait_all_tasks_blocked()

        nursery.start_soon(say)
        await arrivals.flow(ours.fileno(), until(b"enough", got))
        assert got == [b"one", b"two", b"enough"]
        theirs.send(b"later")
        await trio.testing.wait_all_tasks_blocked()
        assert got[-1] == b"enough"
        await arrivals.flow(ours.fileno(), until(b"later", got))
        assert got[-1] == b"later"


async def test_the_end_of_a_peer_is_no_bytes(pair: Pair) -> None:
    ours, theirs = pair()
    got: list[bytes] = []
    async with hearing() as (arrivals, _):
        theirs.close()
        await arrivals.flow(ours.fileno(), until(b"", got))
    assert got == [b""]


async def test_what_fails_for_one_is_its_own(pair: Pair) -> None:
    ours, theirs = pair()
    other, of_other = pair()
    got: list[bytes] = []

    def fail(_: bytes) -> bool:
        raise ValueError("mine")

    async with hearing() as (arrivals, nursery):
        nursery.start_soon(arrivals.flow, other.fileno(), until(b"end", got))
        theirs.send(b"x")
        with pytest.raises(ValueError, match="mine"):
            await arrivals.flow(ours.fileno(), fail)
        of_other.send(b"heard")
        await trio.testing.wait_all_tasks_blocked()
        assert got == [b"heard"]


async def test_a_cancelled_wait_takes_nothing_more(pair: Pair) -> None:
    ours, theirs = pair()
    got: list[bytes] = []
    async with hearing() as (arrivals, _):
        with trio.move_on_after(0) as given_up:
            await arrivals.flow(ours.fileno(), until(b"", got))
        assert given_up.cancelled_caught
        theirs.send(b"too late")
        await trio.testing.wait_all_tasks_blocked()
        assert got == []
        assert os.read(ours.fileno(), 100) == b"too late"


async def test_who_ends_its_own_wait_is_woken_once(pair: Pair) -> None:
    ours, theirs = pair()
    async with hearing() as (arrivals, _):
        with trio.CancelScope() as own:

            def leave(_: bytes) -> bool:
                own.cancel()
                return False

            theirs.send(b"x")
            await arrivals.flow(ours.fileno(), leave)
        await trio.testing.wait_all_tasks_blocked()


async def test_a_number_used_again_is_another_socket(pair: Pair) -> None:
    """A socket is closed while it is listened to, the next one gets its number, then the first wait is cancelled."""
    ours, _ = pair()
    got: list[bytes] = []
    async with hearing() as (arrivals, nursery):
        first = trio.CancelScope()

        async def listen_first() -> None:
            with first:
                await arrivals.flow(number, until(b"", []))

        number = ours.fileno()
        nursery.start_soon(listen_first)
        await trio.testing.wait_all_tasks_blocked()
        ours.close()
        again, of_again = pair()
        assert again.fileno() == number  # the kernel gives the lowest that is free
        nursery.start_soon(arrivals.flow, number, until(b"end", got))
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
        await trio.testing.wait_all_tasks_blocked()
        of_again.send(b"heard")
        await trio.testing.wait_all_tasks_blocked()
        assert got == [b"heard"]


async def test_one_who_never_stops_talking_does_not_drown_the_others(pair: Pair) -> None:
    loud, of_loud = pair()
    quiet, of_quiet = pair()
    got: list[bytes] = []

    def take(data: bytes) -> bool:
        of_loud.send(data)  # there is always more
        return True

    async with hearing() as (arrivals, nursery):
        nursery.start_soon(arrivals.flow, loud.fileno(), take)
        of_loud.send(b"x")
        of_quiet.send(b"end")
        await arrivals.flow(quiet.fileno(), until(b"end", got))
    assert got == [b"end"]


async def test_a_reset_is_the_end_too() -> None:
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as theirs:
        ours, _ = listener.accept()
        with ours:
            ours.setblocking(False)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            theirs.close()
            async with hearing() as (arrivals, _):
                await arrivals.flow(ours.fileno(), until(b"", got))
    assert got == [b""]


# --- calls of other threads -------------------------------------------------------------------------------------------


async def test_what_other_threads_ask_for_is_called_in_order() -> None:
    got: list[int] = []
    done = trio.Event()

    def ask(arrivals: Arrivals) -> None:
        for number in range(1000):
            arrivals.call_soon(partial(got.append, number))
        arrivals.call_soon(done.set)

    async with hearing() as (arrivals, _):
        await trio.testing.wait_all_tasks_blocked()
        await trio.to_thread.run_sync(ask, arrivals)
        await done.wait()
    assert got == list(range(1000))


async def test_calls_are_made_before_it_hears_and_after() -> None:
    """The writer thread works before the doors open and until after they have closed."""
    arrivals = Arrivals()
    with trio.fail_after(5):
        for _ in range(2):
            called = trio.Event()
            await trio.to_thread.run_sync(arrivals.call_soon, called.set)
            await called.wait()
            with trio.CancelScope() as hearing_scope:
                hearing_scope.cancel()
                await arrivals.run()


async def test_no_call_is_lost_when_it_stops_hearing() -> None:
    """The bell was rung, but who should hear it is cancelled first: an actor would wait for ever."""
    got: list[str] = []
    async with hearing() as (arrivals, nursery):
        await trio.testing.wait_all_tasks_blocked()
        arrivals.call_soon(partial(got.append, "rung"))
        nursery.cancel_scope.cancel()
    assert got == ["rung"]


async def test_a_flood_of_messages_does_not_delay_the_calls(pair: Pair) -> None:
    """Between two turns of the flood what threads ask for is done, however many sockets have something."""
    async with hearing() as (arrivals, nursery):
        called = trio.Event()
        heard_before_call = 0

        def take(_: bytes) -> bool:
            nonlocal heard_before_call
            heard_before_call += not called.is_set()
            return True

        pairs = [pair() for _ in range(4 * ARRIVALS_PER_TURN)]
        for ours, theirs in pairs:
            theirs.send(b"x")
            nursery.start_soon(arrivals.flow, ours.fileno(), take)
        await trio.lowlevel.checkpoint()
        arrivals.call_soon(called.set)
        await called.wait()
        assert heard_before_call <= ARRIVALS_PER_TURN


def test_its_descriptors_go_with_it() -> None:
    async def make() -> None:
        arrivals = Arrivals()
        with trio.move_on_after(0):
            await arrivals.run()

    def count() -> int:
        gc.collect()
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    trio.run(make)
    before = count()
    for _ in range(5):
        trio.run(make)
    assert count() == before
