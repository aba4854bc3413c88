"""One WebSocket to a server, and the requests that are open on it.

Owns the only reader and the only writer of the socket. A reader who does not keep up holds the reading back, and so the
server; when somebody waits for an answer that stands behind those pages, they are dropped instead, and pulled again.
"""

import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import cast
from weakref import WeakValueDictionary

import attrs
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    WebSocketConnection,
    wrap_client_stream,
)

from livesync_trio.client.address import Address
from livesync_trio.client.connection import LostError
from livesync_trio.client.dialects import Dialect
from livesync_trio.client.failures import Offline, failure_of_status
from livesync_trio.client.limits import (
    CLIENT_BUFFER_BYTES,
    CLIENT_CLOSE_LIMIT_S,
    CLIENT_CONNECT_LIMIT_S,
    CLIENT_MESSAGE_MAX_BYTES,
    CLIENT_PING_EVERY_S,
    CLIENT_PONG_LIMIT_S,
)
from livesync_trio.errors import Kind, Refusal
from livesync_trio.limits import RECEIVE_BYTES
from livesync_trio.supervision import Tasks, lent_nursery, open_tasks
from livesync_trio.wire.answers import Done, Pages, Unusable

Dial = Callable[[Address], Awaitable[trio.abc.Stream]]
"""Opens a stream of bytes to a server, encrypted where its address says so. May raise OSError."""


async def dial(address: Address) -> trio.abc.Stream:
    """Connect over TCP, with TLS where the address says so."""
    if not address.secure:
        return await trio.open_tcp_stream(address.host, address.port)
    stream = await trio.open_ssl_over_tcp_stream(address.host, address.port, https_compatible=True)
    await stream.do_handshake()
    return stream


@asynccontextmanager
async def open_socket(address: Address, target: str, dialect: Dialect, dial: Dial) -> AsyncIterator["SocketConnection"]:
    """Open a WebSocket for the length of a block.

    Raises:
        Offline: nobody answers.
        Refused: the server does not let this client in.
    """
    deadline = trio.current_time() + CLIENT_CONNECT_LIMIT_S
    with _told(address, deadline):
        stream = _Watched(await dial(address))
    try:
        async with lent_nursery() as nursery:
            with _told(address, deadline):
                socket = await _handshake(nursery, stream, address.authority, target)
            try:
                yield SocketConnection(socket, dialect)
            finally:
                with trio.move_on_after(CLIENT_CLOSE_LIMIT_S, shield=True):
                    await socket.aclose()
    except ConnectionRejected as error:  # raised by the library's task
        headers = dict(error.headers or ())
        retry_after = headers.get(b"retry-after", b"").decode("latin-1")
        raise failure_of_status(error.status_code, error.body or b"", retry_after, address.place) from None
    finally:
        await trio.aclose_forcefully(stream)  # the library leaves it open when the server was first to go


@contextmanager
def _told(address: Address, deadline: float) -> Iterator[None]:
    """Tell what goes wrong before the WebSocket is open. Raises Offline."""
    try:
        with trio.fail_at(deadline):
            yield
    except trio.TooSlowError:
        raise Offline(f"{address.place}: it did not answer within {CLIENT_CONNECT_LIMIT_S:g} s.") from None
    except (OSError, trio.BrokenResourceError) as error:
        raise Offline(f"{address.place}: {_cause_of(error)}.") from error


def _cause_of(error: BaseException) -> str:
    """Why it was not to be had, in a few words: of several addresses that were tried, the first one."""
    reason = error.__cause__ or error
    while isinstance(reason, BaseExceptionGroup):
        reason = reason.exceptions[0]
    return getattr(reason, "strerror", None) or str(reason)


async def _handshake(nursery: trio.Nursery, stream: "_Watched", host: str, target: str) -> WebSocketConnection:
    with trio.CancelScope() as until_it_ends:
        stream.on_end = until_it_ends.cancel
        socket = await wrap_client_stream(
            nursery,
            cast("trio.SocketStream", stream),
            host,
            target,
            message_queue_size=1,
            max_message_size=CLIENT_MESSAGE_MAX_BYTES,
            receive_buffer_size=RECEIVE_BYTES,
        )
        stream.on_end = None
        return socket
    raise trio.BrokenResourceError("it closed the connection before it had let anybody in")


class _Watched(trio.abc.Stream):
    """A stream whose end is told: trio-websocket waits for a handshake also when the stream has ended."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.on_end: Callable[[], None] | None = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self._end()
        return data

    async def aclose(self) -> None:
        self._end()
        await self._stream.aclose()

    def _end(self) -> None:
        if self.on_end is not None:
            self.on_end()


@attrs.define(eq=False)
class _OpenPush:
    """A push that waits for its answer."""

    answer: Done | None = None
    sent: bool = False
    ended: trio.Event = attrs.Factory(trio.Event)


class SocketStream:
    """The pages of one pull that have come and are not taken yet (`connection.Stream`)."""

    def __init__(self, connection: "SocketConnection", request_id: str, *, live: bool) -> None:
        self._connection = connection
        self.request_id = request_id
        self.live = live
        self._pages: deque[Pages] = deque()
        self._size_bytes = 0
        self._end: Done | None = None
        self._ended = False
        self._news = trio.Event()

    async def receive(self) -> Pages | Done | None:
        """See the contract."""
        while not self._pages and not self._ended:
            self._news = trio.Event()
            await self._news.wait()
        if not self._pages:
            return self._end
        pages = self._pages.popleft()
        self._size_bytes -= pages.size_bytes
        self._connection.taken(self)
        return pages

    async def aclose(self) -> None:
        """See the contract."""
        self.give_up()

    def give_up(self) -> None:
        """Nothing more is wanted of it."""
        if not self._ended:
            self.end(None)
            self._connection.give_up(self.request_id)

    @property
    def full(self) -> bool:
        """Whether nothing more should come for the time being."""
        return self._size_bytes >= CLIENT_BUFFER_BYTES

    def put(self, pages: Pages) -> None:
        """Pages have come."""
        self._pages.append(pages)
        self._size_bytes += pages.size_bytes
        self._news.set()

    def end(self, how: Done | None) -> None:
        """No more will come; what is here may still be taken."""
        if not self._ended:
            self._ended, self._end = True, how
        self._news.set()


class SocketConnection:
    """A WebSocket that is open (`connection.Connection`)."""

    def __init__(self, socket: WebSocketConnection, dialect: Dialect) -> None:
        self._socket = socket
        self._dialect = dialect
        self.knows_identity = dialect.knows_identity
        self.answers_end = dialect.answers_end
        self._ids = itertools.count()
        self._streams: WeakValueDictionary[str, SocketStream] = WeakValueDictionary()  # whoever pulls, holds it
        self._given_up: set[str] = set()
        self._pushes: dict[str, _OpenPush] = {}
        self._outgoing: deque[tuple[bytes, _OpenPush | None]] = deque()
        self._something_to_write = trio.Event()
        self._moved = trio.Event()
        self._heard = trio.Event()
        self._wanted = trio.Event()
        self._asked = False
        self._pulled = False
        self._tasks: Tasks | None = None
        self._lost = ""
        self.was_useful = False

    async def run(self) -> str:
        """See the contract."""
        try:
            async with open_tasks("sync connection") as tasks:
                self._tasks = tasks
                for task in (self._read, self._write, self._stay_alive):
                    tasks.start(task)
        finally:
            self._lose("it was closed")
        return self._lost

    def pull(self, after: int, backend_id: str | None, *, live: bool) -> SocketStream:
        """See the contract."""
        request_id = next(self._ids)
        stream = SocketStream(self, str(request_id), live=live)
        if self._lost:
            stream.end(None)
        else:
            self._pulled = True
            self._streams[stream.request_id] = stream
            self._put(self._dialect.pull(request_id, after, backend_id, live=live))
        return stream

    async def push(self, events: list[bytes], backend_id: str | None) -> Refusal | None:
        """See the contract."""
        if self._lost:
            raise LostError(self._lost, sent=False)
        request_id = next(self._ids)
        push = self._pushes[str(request_id)] = _OpenPush()
        try:
            self._put(self._dialect.push(request_id, events, backend_id), push)
            self._moved.set()
            await push.ended.wait()
        finally:
            del self._pushes[str(request_id)]
        if push.answer is None:
            raise LostError(self._lost, sent=push.sent)
        return push.answer.refusal

    async def ping(self) -> None:
        """See the contract."""
        heard = self._heard
        self._wanted.set()
        while not heard.is_set() and not self._lost:
            await heard.wait()
        if self._lost:
            raise LostError(self._lost, sent=False)

    @property
    def is_lost(self) -> bool:
        """See the contract."""
        return bool(self._lost)

    async def is_understood(self) -> bool:
        """Whether the server answers in this protocol; for finding out which one it speaks."""
        heard = self._heard
        self._put(self._dialect.ping)
        with trio.move_on_after(CLIENT_PONG_LIMIT_S):
            await heard.wait()
        return heard.is_set() and not self._lost

    def taken(self, stream: SocketStream) -> None:
        """A reader has taken pages: there is room, and the reference may send the next."""
        ack = self._dialect.ack(stream.request_id)
        if ack is not None and stream.request_id in self._streams:
            self._put(ack)
        self._moved.set()

    def give_up(self, request_id: str) -> None:
        """What comes for a pull is dropped from now on."""
        self._streams.pop(request_id, None)
        interrupt = self._dialect.interrupt(request_id)
        if interrupt is not None and request_id not in self._given_up:
            self._given_up.add(request_id)
            self._put(interrupt)
        self._moved.set()

    def _put(self, message: bytes, push: _OpenPush | None = None) -> None:
        if not self._lost:
            self._outgoing.append((message, push))
            self._something_to_write.set()

    def _lose(self, why: str) -> None:
        """The connection is of no use any more: whoever waits is told."""
        if self._lost:
            return
        self._lost = why
        for push in self._pushes.values():
            push.ended.set()
        for stream in list(self._streams.values()):
            stream.end(None)
        self._streams.clear()
        self._heard.set()
        if self._tasks is not None:
            self._tasks.cancel()

    # --- its tasks ----------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        """Nothing is written elsewhere: a write that is cancelled midway would break the socket."""
        try:
            while True:
                while self._outgoing:
                    message, push = self._outgoing.popleft()
                    if push is not None:
                        push.sent = True
                    await self._socket.send_message(message.decode())
                self._something_to_write = trio.Event()
                await self._something_to_write.wait()
        except ConnectionClosed as closed:
            self._lose(_reason(closed))

    async def _stay_alive(self) -> None:
        """Ask for a sign of life now and then, and when somebody wants one; any message is one."""
        while True:
            with trio.move_on_after(CLIENT_PING_EVERY_S):
                await self._wanted.wait()
            self._wanted = trio.Event()
            self._asked = True
            self._moved.set()
            with trio.move_on_after(CLIENT_PONG_LIMIT_S) as patience:
                await self._pong()
            self._asked = False
            if patience.cancelled_caught:
                self._lose(f"it gave no sign of life within {CLIENT_PONG_LIMIT_S:g} s")

    async def _pong(self) -> None:
        if self._pulled or not self._dialect.knows_identity:
            heard = self._heard
            self._put(self._dialect.ping)
            await heard.wait()
            return
        # Who pings in 0.4 without ever having pulled is taken for one who lost a pull, and closed (SPEC 3.6).
        try:
            await self._socket.ping()
        except ConnectionClosed as closed:
            self._lose(_reason(closed))
        self._hear()

    def _hear(self) -> None:
        self._heard.set()
        self._heard = trio.Event()
        self.was_useful = True

    async def _read(self) -> None:
        try:
            while True:
                message = await self._socket.get_message()
                self._hear()
                data = message.encode() if isinstance(message, str) else message
                match self._dialect.read_answer(data):
                    case Pages() as pages:
                        await self._hand_over(pages)
                    case Done() as done:
                        self._end(done)
                    case Unusable(why):
                        self._fail_all(why)
        except ConnectionClosed as closed:
            self._lose(_reason(closed))

    async def _hand_over(self, pages: Pages) -> None:
        if pages.request_id is None:
            streams = list(self._streams.values())
        else:
            stream = self._streams.get(pages.request_id)
            streams = [] if stream is None else [stream]
            if stream is None:
                self.give_up(pages.request_id)
        for stream in streams:
            while stream.full and not (self._pushes or self._asked) and stream.request_id in self._streams:
                self._moved = trio.Event()
                await self._moved.wait()
            if stream.full:
                stream.give_up()  # it is pulled again from where its reader is then
            else:
                stream.put(pages)

    def _end(self, done: Done) -> None:
        push, stream = self._pushes.get(done.request_id), self._streams.pop(done.request_id, None)
        self._given_up.discard(done.request_id)
        if push is not None:
            push.answer = done
            push.ended.set()
        if stream is not None:
            stream.end(done)

    def _fail_all(self, why: str) -> None:
        """A defect is no answer to anything in particular: it ends every request, and the connection goes on."""
        for request_id in [*self._pushes, *self._streams]:
            self._end(Done(request_id, Refusal(Kind.HOOK_REFUSED, f"{why}.")))


def _reason(closed: ConnectionClosed) -> str:
    reason = closed.reason
    if reason is None:
        return "it was closed"
    return f"it was closed with {reason.code} {reason.reason or ''}".rstrip()
