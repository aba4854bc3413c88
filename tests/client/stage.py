"""A network of memory streams between the client and a server, which a test cuts, silences and closes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import attrs
import msgspec
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, wrap_server_stream

from livesync_trio.client import Backend, Event, Pull, open_backend
from livesync_trio.client.address import Address
from tests.concurrency.stage import MemoryStream, Stage, running

URL = "ws://server.test"

Serve = Callable[[MemoryStream], Awaitable[None]]


@attrs.define(eq=False)
class Net:
    """Streams to a server; `dial` is what the client gets."""

    nursery: trio.Nursery
    serve: Serve
    reachable: bool = True
    silent: bool = False
    dialled_at: list[float] = attrs.Factory(list)
    links: list[tuple[MemoryStream, MemoryStream]] = attrs.Factory(list)

    async def dial(self, address: Address) -> trio.abc.Stream:
        """Connect, unless nobody is there."""
        self.dialled_at.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if not self.reachable:
            raise OSError("nobody listens")
        ours, theirs = trio.testing.memory_stream_pair()
        self.links.append((ours, theirs))
        if self.silent:
            self.silence()
        self.nursery.start_soon(self.serve, theirs)
        return ours

    def cut(self) -> None:
        """End every connection, for both sides at once."""
        for ours, theirs in self.links:
            ours.send_stream.close()
            theirs.send_stream.close()
        self.links.clear()

    def silence(self) -> None:
        """Let nothing more through of what the server says on the connections that exist."""
        for _, theirs in self.links:
            theirs.send_stream.send_all_hook = trio.sleep_forever

    @property
    def pauses_s(self) -> list[float]:
        """Time between one attempt and the next."""
        return [after - before for before, after in zip(self.dialled_at, self.dialled_at[1:], strict=False)]


@asynccontextmanager
async def staged(stage: Stage, **options: Any) -> AsyncIterator[tuple[Backend, Net]]:
    """A client of store `a` on a stage."""
    async with running(stage) as nursery:
        net = Net(nursery, stage.door.serve)
        async with open_backend(URL, store_id="a", dial=net.dial, **options) as backend:
            yield backend, net


# --- servers that do as they like -------------------------------------------------------------------------------------


class Scripted:
    """One connection of a server that a test plays by hand."""

    def __init__(self, ws: WebSocketConnection, path: str) -> None:
        self.ws = ws
        self.path = path

    async def request(self) -> dict[str, Any]:
        """The next request; pings are answered, acks and interrupts passed over."""
        while True:
            message: dict[str, Any] = msgspec.json.decode(await self.ws.get_message())
            match message["_tag"]:
                case "Ping":
                    await self.say({"_tag": "Pong"})
                case "Request":
                    return message

    async def say(self, message: Any) -> None:
        await self.ws.send_message(msgspec.json.encode(message).decode())

    async def page(self, request: dict[str, Any], *numbers: int, parent: int | None = None, **options: Any) -> None:
        """Send a page of chained events; the first one's parent is the number before it unless given."""
        await self.say(chunk_of(request, *numbers, parent=parent, **options))

    async def fail(self, request: dict[str, Any], error: dict[str, Any]) -> None:
        exit_ = {"_tag": "Failure", "cause": {"_tag": "Fail", "error": error}}
        await self.say({"_tag": "Exit", "requestId": request["id"], "exit": exit_})

    async def succeed(self, request: dict[str, Any]) -> None:
        await self.say({"_tag": "Exit", "requestId": request["id"], "exit": {"_tag": "Success", "value": {}}})

    async def listen(self) -> None:
        """Answer pings until the client goes."""
        while True:
            await self.request()


def chunk_of(
    request: dict[str, Any], *numbers: int, parent: int | None = None, remaining: int = 0, identity: str = "id"
) -> dict[str, Any]:
    """A message with a page of chained events; the first one's parent is the number before it unless given."""
    batch, before = [], (numbers[0] - 1 if numbers else 0) if parent is None else parent
    for number in numbers:
        event = {"name": "n", "args": None, "seqNum": number, "parentSeqNum": before}
        batch.append({"eventEncoded": {**event, "clientId": "c", "sessionId": "s"}, "metadata": {"_tag": "None"}})
        before = number
    info = {"_tag": "MoreKnown", "remaining": remaining} if remaining else {"_tag": "NoMore"}
    page = {"batch": batch, "pageInfo": info, "backendId": identity}
    return {"_tag": "Chunk", "requestId": request["id"], "values": [page]}


Play = Callable[[Scripted], Awaitable[None]]
Refuse = Callable[[WebSocketRequest], Awaitable[bool]]


@asynccontextmanager
async def scripted(play: Play, refuse: Refuse | None = None, **options: Any) -> AsyncIterator[tuple[Backend, Net]]:
    """A client of a server whose every connection a test plays. `refuse` may reject a handshake, and says so."""

    async def serve(stream: MemoryStream) -> None:
        async with trio.open_nursery() as connection:
            request = await wrap_server_stream(connection, cast("trio.SocketStream", stream))
            if refuse is not None and await refuse(request):
                return
            ws = await request.accept()
            with suppress(ConnectionClosed):
                await play(Scripted(ws, request.path))
            with trio.move_on_after(1):
                await ws.aclose()

    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            net = Net(nursery, serve)
            async with open_backend(URL, store_id="a", dial=net.dial, **options) as backend:
                yield backend, net
            nursery.cancel_scope.cancel()


# --- the same over HTTP -----------------------------------------------------------------------------------------------


class ScriptedHttp:
    """One request over HTTP, which a test answers by hand."""

    def __init__(self, stream: MemoryStream, head: bytes, message: dict[str, Any]) -> None:
        self._stream = stream
        self.head = head
        self.message = message
        self._begun = False

    async def refuse(self, status: int, body: bytes = b"", *headers: bytes) -> None:
        """Answer with a status, as a proxy would."""
        lines = [b"HTTP/1.1 %d Something" % status, b"content-length: %d" % len(body), *headers]
        await self._stream.send_all(b"\r\n".join([*lines, b"", body]))

    async def send(self, text: bytes) -> None:
        """A piece of the answer."""
        if not self._begun:
            self._begun = True
            await self._stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await self._stream.send_all(b"%x\r\n%b\r\n" % (len(text), text))

    async def end(self) -> None:
        """The answer is whole."""
        await self._stream.send_all(b"0\r\n\r\n")

    async def succeed(self) -> None:
        """The request has succeeded, and had no pages, or these were all."""
        done = {"_tag": "Exit", "requestId": self.message["id"], "exit": {"_tag": "Success", "value": {}}}
        await self.send((b"," if self._begun else b"[") + msgspec.json.encode(done) + b"]")
        await self.end()

    def page(self, *numbers: int, remaining: int = 0) -> bytes:
        """A page of chained events, as it stands in an answer."""
        return msgspec.json.encode(chunk_of(self.message, *numbers, remaining=remaining))

    @property
    def after(self) -> int:
        """The last event that the client has, of a pull."""
        cursor = self.message["payload"]["cursor"]
        return int(cursor["value"]["eventSequenceNumber"]) if cursor["_tag"] == "Some" else 0


PlayHttp = Callable[[ScriptedHttp], Awaitable[None]]


@asynccontextmanager
async def scripted_http(play: PlayHttp, **options: Any) -> AsyncIterator[tuple[Backend, Net]]:
    """A client of a server whose every answer but those to pings a test plays."""

    async def serve(stream: MemoryStream) -> None:
        data = b""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                while b"\r\n\r\n" not in data:
                    if not (more := await stream.receive_some()):
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                while len(data) < length:
                    data += await stream.receive_some()
                message, data = msgspec.json.decode(data[:length]), data[length:]
                request = ScriptedHttp(stream, head, message)
                await (request.succeed() if message["tag"].endswith(".Ping") else play(request))

    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            net = Net(nursery, serve)
            async with open_backend(URL, store_id="a", protocol="http", dial=net.dial, **options) as backend:
                yield backend, net
            nursery.cancel_scope.cancel()


# --- events -----------------------------------------------------------------------------------------------------------


def events(first: int, last: int, name: str = "n", size: int = 1) -> list[Event]:
    """Chained events."""
    args = b'"%b"' % (b"x" * size)
    return [Event(number, number - 1, name, args, "c", "s") for number in range(first, last + 1)]


async def numbers_until(pull: Pull, last: int) -> list[int]:
    """Numbers pulled until `last` is among them."""
    numbers: list[int] = []
    while last not in numbers:
        numbers += [event.seq_num for event in (await anext(pull)).events]
    return numbers
