"""A receiver of webhooks in memory: it speaks real HTTP on memory streams, and a test says what it answers."""

from __future__ import annotations

import json
import typing
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import attrs
import h11
import httpcore
import trio
import trio.testing

from livesync_trio.config.declaring import Secret
from livesync_trio.config.webhooks import Webhook

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSB0ZXN0cyBvbmx5ISEhISE="
URL = "http://localhost/hook"


def webhook(webhook_id: str = "hook", **fields: Any) -> Webhook:
    """A definition; from the beginning, so that a test need not care when it starts."""
    given: dict[str, Any] = {"id": webhook_id, "url": URL, "secret": Secret(SECRET), "start": "beginning"}
    return Webhook(**(given | fields))


@attrs.frozen
class Arrived:
    """A request as it came."""

    headers: dict[str, str]
    body: bytes
    at_s: float

    @property
    def message(self) -> dict[str, Any]:
        return json.loads(self.body)  # type: ignore[no-any-return]

    @property
    def store(self) -> str:
        return str(self.message["data"]["storeId"])

    @property
    def numbers(self) -> list[int]:
        return [event["seqNum"] for event in self.message["data"]["events"]]


@attrs.frozen
class Reply:
    """An answer."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


Answers = Callable[[Arrived], Awaitable[Reply]]


async def accept(_: Arrived) -> Reply:
    return Reply()


class Receiver(httpcore.AsyncNetworkBackend):
    """All hosts there are. Connections to it are served by tasks of the nursery."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.answer: Answers = accept
        self.arrived: list[Arrived] = []
        """Every request, whatever was answered."""
        self.taken: list[Arrived] = []
        """Those that were answered with success."""
        self.connections = 0
        self.unreachable = False
        self.read_bytes = 0
        """Of answers, by the sender."""

    async def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        await trio.lowlevel.checkpoint()
        if self.unreachable:
            raise httpcore.ConnectError("nobody is there")
        self.connections += 1
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.serve, theirs)
        return _Stream(self, ours)

    async def listen(self) -> int:
        """Take connections of other processes too; gives the port."""
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self._nursery.start_soon(trio.serve_listeners, self.serve, [listener])
        return int(listener.socket.getsockname()[1])

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Answer the requests of one connection."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
        try:
            while True:
                headers, body = await _request(connection, stream)
                arrived = Arrived(headers, body, trio.current_time())
                self.arrived.append(arrived)
                reply = await self.answer(arrived)
                length = ("content-length", str(len(reply.body)))
                head = h11.Response(status_code=reply.status, headers=[*reply.headers, length])
                if 200 <= reply.status < 300:
                    self.taken.append(arrived)
                await stream.send_all(connection.send(head) or b"")
                await stream.send_all(connection.send(h11.Data(reply.body)) or b"")
                await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
                if connection.our_state is not h11.DONE:
                    return
                connection.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError, EOFError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    def numbers(self, store: str) -> list[int]:
        """Numbers of the events of a store that were taken, in order."""
        return [
            number
            for each in self.taken
            if each.message["type"] == "store.events" and each.store == store
            for number in each.numbers
        ]


async def _request(connection: h11.Connection, stream: trio.abc.Stream) -> tuple[dict[str, str], bytes]:
    headers: dict[str, str] = {}
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some()))
        elif isinstance(event, h11.Request):
            assert event.method == b"POST"
            headers = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return headers, body
        else:
            raise EOFError


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, receiver: Receiver, stream: trio.abc.Stream) -> None:
        self._receiver = receiver
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's signature
        try:
            data = bytes(await self._stream.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.ReadError(str(error)) from error
        self._receiver.read_bytes += len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        try:
            await self._stream.send_all(buffer)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        raise AssertionError("no TLS here")

    def get_extra_info(self, info: str) -> typing.Any:
        return False if info == "is_readable" else None


def in_turn(replies: Iterable[Reply], then: Answers = accept) -> Answers:
    """Answers one after the other, and then as `then` does."""
    left = iter(replies)

    async def answer(arrived: Arrived) -> Reply:
        reply = next(left, None)
        return await then(arrived) if reply is None else reply

    return answer
