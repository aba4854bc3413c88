"""One HTTP request and its answer as it arrives, on connections that are dialled.

Owns what httpcore needs to use the streams that a client dials. Knows the protocol only as far as to tell its answers
from those of a proxy.
"""

from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any, Final

import httpcore
import trio

from livesync_trio.client.address import Address
from livesync_trio.client.dialing import TOO_LATE, Dial, cause_of
from livesync_trio.client.failures import Refused, failure_of_status
from livesync_trio.client.limits import (
    CLIENT_ANSWER_LIMIT_S,
    CLIENT_CLOSE_LIMIT_S,
    CLIENT_CONNECT_LIMIT_S,
    CLIENT_KEEP_S,
    CLIENT_MESSAGE_MAX_BYTES,
)
from livesync_trio.wire import client_rpc
from livesync_trio.wire.answers import Answer, Done, Unusable
from livesync_trio.wire.reading import Unreadable

_SHOWN_BYTES: Final = 1_000
_LIMITS: Final = {"read": CLIENT_ANSWER_LIMIT_S, "write": CLIENT_ANSWER_LIMIT_S}

BROKEN: Final = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)
"""What an exchange raises when its connection breaks."""


def open_pool(dial: Dial, address: Address) -> httpcore.AsyncConnectionPool:
    """Connections to one server, a context manager. Its URLs are those of plain HTTP: TLS belongs to the dialling."""
    return httpcore.AsyncConnectionPool(
        max_connections=None,  # a reader who is slow with a page holds one
        keepalive_expiry=CLIENT_KEEP_S,
        network_backend=_Network(dial, address),
    )


class Exchange:
    """One request, and its answer as it arrives."""

    def __init__(self, pool: httpcore.AsyncConnectionPool, request: httpcore.Request, place: str) -> None:
        """Nothing is sent yet."""
        request.extensions = {"timeout": _LIMITS}
        self._pool = pool
        self._request = request
        self._place = place
        self._response: httpcore.Response | None = None
        self._data: AsyncIterator[bytes] | None = None
        self._splitter = client_rpc.Splitter(CLIENT_MESSAGE_MAX_BYTES)
        self._answers: deque[Answer] = deque()
        self._beginning = b""

    async def next_answer(self) -> Answer:
        """What comes next.

        Raises:
            httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException: the connection broke.
            Refused: what came is no answer of the protocol.
        """
        if self._data is None:
            self._response = await self._pool.handle_async_request(self._request)
            self._data = self._response.aiter_stream()
        while not self._answers:
            data = await anext(self._data, b"")
            try:
                self._take(data)
            except Unreadable as error:
                self._answers.append(Unusable(f"it sent what this client does not understand: {error}"))
            except Refused:
                await self.aclose()
                raise
            if self._answers and isinstance(self._answers[-1], Done | Unusable):
                await self._read_end()  # at once: nobody may ever ask for what has come
                await self.aclose()
        return self._answers.popleft()

    def _take(self, data: bytes) -> None:
        if len(self._beginning) < _SHOWN_BYTES:
            self._beginning += data[:_SHOWN_BYTES]
        try:
            self._answers += map(client_rpc.read_answer, self._splitter.feed(data))
        except Unreadable:
            raise self._no_answer() from None
        if not data and not self._answers:
            raise self._no_answer()

    def _no_answer(self) -> Refused:
        assert self._response is not None
        headers = {name.lower(): value for name, value in self._response.headers}
        retry_after = headers.get(b"retry-after", b"").decode("latin-1")
        return failure_of_status(self._response.status, self._beginning, retry_after, self._place)

    async def _read_end(self) -> None:
        """All answers are there: with what closes their array, the connection is as good as new."""
        assert self._data is not None
        with suppress(*BROKEN, Unreadable), trio.move_on_after(CLIENT_CLOSE_LIMIT_S):
            while data := await anext(self._data, b""):
                self._splitter.feed(data)

    async def aclose(self) -> None:
        """Be done with it, whatever has come."""
        if self._response is None or self._data is None:
            return
        await self._response.aclose()
        with suppress(*BROKEN):
            while await anext(self._data, b""):  # what is left in buffers: httpcore's generators must come to their end
                pass


class Body(AsyncIterator[bytes]):
    """The body of a request. That of httpcore leaves a generator behind, unfinished, when the connection breaks."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._parts = iter((data,))

    def __aiter__(self) -> "Body":
        self._parts = iter((self._data,))
        return self

    async def __anext__(self) -> bytes:
        for part in self._parts:
            return part
        raise StopAsyncIteration


class _Network(httpcore.AsyncNetworkBackend):
    """Dials for httpcore; where to, the address says."""

    def __init__(self, dial: Dial, address: Address) -> None:
        self._dial = dial
        self._address = address

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises httpcore.ConnectError, httpcore.ConnectTimeout."""
        try:
            with trio.fail_after(CLIENT_CONNECT_LIMIT_S):
                return _Stream(await self._dial(self._address))
        except trio.TooSlowError:
            raise httpcore.ConnectTimeout(TOO_LATE) from None
        except (OSError, trio.BrokenResourceError) as error:
            raise httpcore.ConnectError(cause_of(error)) from error


class _Stream(httpcore.AsyncNetworkStream):
    """A stream of Trio as httpcore has it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 -- as above
        """Raises httpcore.ReadError, httpcore.ReadTimeout."""
        try:
            with trio.fail_after(float("inf") if timeout is None else timeout):
                return bytes(await self._stream.receive_some(max_bytes))
        except trio.TooSlowError:
            raise httpcore.ReadTimeout(f"it was silent for {timeout:g} s") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.ReadError(cause_of(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- as above
        """Raises httpcore.WriteError, httpcore.WriteTimeout."""
        try:
            with trio.fail_after(float("inf") if timeout is None else timeout):
                await self._stream.send_all(buffer)
        except trio.TooSlowError:
            raise httpcore.WriteTimeout(f"it took nothing for {timeout:g} s") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.WriteError(cause_of(error)) from error

    async def aclose(self) -> None:
        """Close it."""
        await trio.aclose_forcefully(self._stream)

    def get_extra_info(self, info: str) -> Any:
        """`is_readable` is what httpcore asks of a connection that is idle: one that the server has closed is."""
        stream = self._stream
        while isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        return stream.socket.is_readable() if info == "is_readable" and isinstance(stream, trio.SocketStream) else None
