"""What hostile clients do, again and again, each as a function; and a program that does them on demand.

Run as `python -m tests.security.attacks PORT`: it says `ready` and then does what each line names, until the next line,
nothing at an empty one. It is nice, so that the healthy client beside it on the same core is held up less by it.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from tests.bad_input.clients import NO_CURSOR, event, http_rpc, pull, push, push_payload, sync_url
from tests.bad_input.nesting import nested
from tests.bad_input.websockets import CONTINUATION, PING, TEXT, frame, text, upgrade
from tests.bad_input.wires import head, post

from .fuzzing import Fuzzer

SEED: Final = int(os.environ.get("LIVESYNC_FUZZ_SEED", "20261120"))
MIB: Final = 1024 * 1024

Attack = Callable[[int], Awaitable[None]]


async def _connected(port: int, *, small_buffer: bool = False) -> trio.SocketStream:
    opened = trio.socket.socket()
    if small_buffer:
        opened.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
    await opened.connect(("127.0.0.1", port))
    return trio.SocketStream(opened)


@asynccontextmanager
async def _forced(*streams: trio.SocketStream) -> AsyncIterator[None]:
    """Close them in the end, without a word."""
    try:
        yield
    finally:
        for stream in streams:
            stream.socket.close()


async def _drain(stream: trio.SocketStream) -> None:
    try:
        while await stream.receive_some(65536):
            pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def _say_and_listen(port: int, data: bytes) -> None:
    """Say it on a new connection, listen for a moment, and hang up."""
    stream = await _connected(port)
    async with _forced(stream), trio.open_nursery() as nursery:
        nursery.start_soon(_drain, stream)
        try:
            await stream.send_all(data)
            await trio.sleep(0.02)
        except trio.BrokenResourceError:
            pass
        nursery.cancel_scope.cancel()


async def _flood(port: int, data: bytes, *, reads: bool, first: bytes = b"") -> None:
    """Say the same on one connection as fast as it is taken; on a new one, when that is closed."""
    while True:
        stream = await _connected(port, small_buffer=not reads)
        async with _forced(stream), trio.open_nursery() as nursery:
            if reads:
                nursery.start_soon(_drain, stream)
            try:
                await stream.send_all(first or upgrade(sync_url("attacked")))
                while True:
                    await stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            nursery.cancel_scope.cancel()


async def _together(count: int, what: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(what)


async def fuzz(port: int) -> None:
    """Broken conversations, eight at a time."""
    fuzzer = Fuzzer(SEED)

    async def converse() -> None:
        while True:
            await _say_and_listen(port, b"".join(fuzzer.conversation()))

    await _together(8, converse)


async def pulls(port: int) -> None:
    """Live pulls without end on one socket."""
    many = b"".join(text(pull(str(number), "attacked", live=True)) for number in range(10_000))
    await _flood(port, many, reads=True)


async def pings(port: int) -> None:
    """Two floods of protocol pings and two of messages, whose pongs nobody reads."""
    for_protocol, as_messages = frame(PING, b"x" * 125) * 500, frame(TEXT, b'{"_tag":"Ping"}') * 500
    async with trio.open_nursery() as nursery:
        for data in (for_protocol, as_messages) * 2:
            nursery.start_soon(partial(_flood, port, data, reads=False))


async def pings_heard(port: int) -> None:
    """The same from those who read every pong."""
    async with trio.open_nursery() as nursery:
        for data in (frame(PING, b"") * 5_000, frame(TEXT, b'{"_tag":"Ping"}') * 5_000):
            nursery.start_soon(partial(_flood, port, data, reads=True))


async def deaf(port: int) -> None:
    """Thirty sockets that ask for 18 MB ten times each and read nothing."""
    writer = await _connected(port)
    batches = (push(str(number), "big", event(number, number - 1, "x" * 900_000)) for number in range(1, 21))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drain, writer)
        await writer.send_all(upgrade(sync_url("big")) + b"".join(map(text, batches)))
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    asked = b"".join(text(pull(str(number), "big", live=True)) for number in range(10))
    while True:
        streams = [await _connected(port, small_buffer=True) for _ in range(30)]
        async with _forced(*streams):
            for stream in streams:
                await stream.send_all(upgrade(sync_url("big")) + asked)
            await trio.sleep(1)


def _pushed(batch: bytes) -> bytes:
    return frame(
        TEXT,
        b'{"_tag":"Request","id":"1","tag":"SyncWsRpc.Push","headers":[],"payload":'
        b'{"storeId":"attacked","backendId":{"_tag":"None"},"batch":[%b]}}' % batch,
    )


async def million(port: int) -> None:
    """Pushes of a million elements, one after the other."""
    await _flood(port, _pushed(b",".join([b"{}"] * 1_000_000)), reads=True)


async def deep(port: int) -> None:
    """Messages nested 100,000 deep; each costs its connection."""
    data = upgrade(sync_url("attacked")) + frame(TEXT, nested(100_000).encode())

    async def say() -> None:
        while True:
            await _say_and_listen(port, data)

    await _together(4, say)


async def surrogates(port: int) -> None:
    """Events of 1 MiB full of half surrogate pairs."""
    args = b'"' + rb"\ud83d" * (MIB // 6) + b'"'
    one = b'{"name":"n","args":%b,"seqNum":9,"parentSeqNum":8,"clientId":"c","sessionId":"s"}' % args
    await _flood(port, _pushed(one), reads=True)


async def largest(port: int) -> None:
    """Frames as large as they may be, full of small values."""
    await _flood(port, _pushed(b",".join([b"[1,2]"] * (31 * MIB // 6))), reads=True)


async def fragments(port: int) -> None:
    """Empty fragments without end."""
    await _flood(port, frame(TEXT, b'"', fin=False) + frame(CONTINUATION, b"", fin=False) * 20_000, reads=True)


async def silent(port: int) -> None:
    """Three hundred sockets that say half a request and nothing more."""
    while True:
        streams = [await _connected(port) for _ in range(300)]
        async with _forced(*streams):
            for number, stream in enumerate(streams):
                await stream.send_all(head("GET / HTTP/1.1")[: number % 20])
            await trio.sleep(1)


async def pipelined(port: int) -> None:
    """HTTP requests by the thousand on one connection."""
    data = head("GET /health HTTP/1.1") * 2_000
    await _flood(port, data, first=data, reads=True)


async def chunks(port: int) -> None:
    """Bodies of one-byte chunks."""
    begin = head(f"POST {sync_url('attacked', 'http')} HTTP/1.1", "Transfer-Encoding: chunked")
    await _flood(port, b"1\r\n \r\n" * 10_000, first=begin, reads=True)


async def unread(port: int) -> None:
    """Pushes as fast as the socket takes them, their answers unread."""
    numbers = itertools.count()
    batch = push_payload("attacked", event(1, 0, "x" * 20_000))
    data = b"".join(text({**push(str(next(numbers)), "attacked"), "payload": batch}) for _ in range(100))
    await _flood(port, data, reads=False)


async def knocking(port: int) -> None:
    """Strangers' HTTP requests, each on a connection of its own."""
    asked = http_rpc("attacked", "1", "Pull", {"storeId": "attacked", "cursor": NO_CURSOR})
    wrong = post(sync_url("attacked", "http", {"authToken": "guess"}), asked.partition(b"\r\n\r\n")[2])

    async def knock() -> None:
        while True:
            await _say_and_listen(port, wrong)

    await _together(8, knock)


ATTACKS: Final[dict[str, Attack]] = {
    attack.__name__: attack
    for attack in (
        *(fuzz, pulls, pings, pings_heard, deaf, million, deep, surrogates, largest, fragments),
        *(silent, pipelined, chunks, unread, knocking),
    )
}


async def obey(port: int) -> None:
    """Do what the lines say; each is answered when what was done before has ended."""
    async with trio.open_nursery() as nursery:
        scope, ended = trio.CancelScope(), trio.Event()
        ended.set()

        async def do(attack: Attack, scope: trio.CancelScope, ended: trio.Event) -> None:
            with scope:
                await attack(port)
            ended.set()

        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            scope.cancel()
            await ended.wait()
            if name := line.strip():
                scope, ended = trio.CancelScope(), trio.Event()
                nursery.start_soon(do, ATTACKS[name], scope, ended)
            print("ready", flush=True)
        scope.cancel()


def main() -> None:
    os.nice(10)
    print("ready", flush=True)
    trio.run(obey, int(sys.argv[1]))


if __name__ == "__main__":
    main()
