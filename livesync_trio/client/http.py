"""0.4 over HTTP: a request for every question, and a live pull that asks again and again (SPEC 3.7).

Nothing is open between two requests, so the connection is what the last answer and the pings say of it.
"""

import itertools
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import trio

from livesync_trio.client.address import Address
from livesync_trio.client.connection import LostError
from livesync_trio.client.failures import Offline, Refused, Unauthorized, failure_of, failure_of_status
from livesync_trio.client.limits import (
    CLIENT_ANSWER_LIMIT_S,
    CLIENT_CONNECT_LIMIT_S,
    CLIENT_MESSAGE_MAX_BYTES,
    CLIENT_PING_EVERY_S,
    CLIENT_POLL_EVERY_S,
    CLIENT_PONG_LIMIT_S,
)
from livesync_trio.errors import Kind, Refusal
from livesync_trio.wire import asking_rpc
from livesync_trio.wire.answers import Answer, Done, Pages, Unusable
from livesync_trio.wire.reading import Unreadable

_SHOWN_BYTES = 1_000


@asynccontextmanager
async def open_http(
    address: Address,
    target: str,
    store_id: str,
    payload: bytes | None,
    network: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator["HttpConnection"]:
    """Ask whether a server is there, and stay ready to ask for the length of a block.

    Raises:
        Offline: nobody answers.
        Refused: the server does not let this client in.
    """
    limits = httpx.Timeout(CLIENT_ANSWER_LIMIT_S, connect=CLIENT_CONNECT_LIMIT_S)
    async with httpx.AsyncClient(timeout=limits, trust_env=False, transport=network) as client:
        connection = HttpConnection(client, address.http_url(target), store_id, payload, address.place)
        try:
            await connection.ping()
        except LostError as lost:
            raise connection.refused or Offline(f"{address.place}: {lost}.") from None
        yield connection


class HttpConnection:
    """A server that has answered (`connection.Connection`)."""

    knows_identity = True
    answers_end = True

    def __init__(self, client: httpx.AsyncClient, url: str, store_id: str, payload: bytes | None, place: str) -> None:
        self._client = client
        self._url = url
        self._store_id = store_id
        self._payload = payload
        self._place = place
        self._ids = itertools.count()
        self._ended = trio.Event()
        self._lost = ""
        self.refused: Refused | None = None
        self.was_useful = False

    async def run(self) -> str:
        """See the contract."""
        while not self._lost:
            with trio.move_on_after(CLIENT_PING_EVERY_S) as pause:
                await self._ended.wait()
            if pause.cancelled_caught:
                try:
                    await self.ping()
                except LostError:
                    break
        if self.refused is not None:
            raise self.refused
        return self._lost

    @property
    def is_lost(self) -> bool:
        """See the contract."""
        return bool(self._lost)

    def pull(self, after: int, backend_id: str | None, *, live: bool) -> "HttpStream":
        """See the contract."""
        request_id = next(self._ids)
        body = asking_rpc.pull(request_id, self._store_id, self._payload, after, backend_id, live=None)
        return HttpStream(self, Exchange(self._client, self._request(body)), live=live)

    async def push(self, events: list[bytes], backend_id: str | None) -> Refusal | None:
        """See the contract."""
        body = asking_rpc.push(
            next(self._ids), self._store_id, self._payload, events, backend_id, transport=asking_rpc.HTTP
        )
        return (await self.done(Exchange(self._client, self._request(body)))).refusal

    async def ping(self) -> None:
        """See the contract."""
        body = asking_rpc.http_ping(next(self._ids), self._store_id, self._payload)
        with trio.move_on_after(CLIENT_PONG_LIMIT_S) as patience:
            await self.done(Exchange(self._client, self._request(body)))
        if patience.cancelled_caught:
            raise self.lose(f"it gave no sign of life within {CLIENT_PONG_LIMIT_S:g} s", sent=True)

    def _request(self, body: bytes) -> httpx.Request:
        headers = {"content-type": "application/json"}
        if self._store_id.isascii() and self._store_id.isprintable():  # others do not fit into a header
            headers["x-livestore-store-id"] = self._store_id
        return self._client.build_request("POST", self._url, content=body, headers=headers)

    async def done(self, exchange: "Exchange") -> Done:
        """The end of a request whose answer has no pages. Raises LostError."""
        while not isinstance(answer := await self.next_answer(exchange), Done):
            pass
        return answer

    async def next_answer(self, exchange: "Exchange") -> Answer:
        """What comes next of an answer. Raises LostError, also when the server does not let us in any more."""
        try:
            answer = await exchange.next_answer()
        except httpx.ConnectError as error:
            raise self.lose(str(error) or "it cannot be reached", sent=False) from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise self.lose(str(error) or type(error).__name__, sent=True) from error
        except Refused as error:  # it speaks HTTP, and nothing of the protocol
            return self._turned_away(error)
        self.was_useful = True
        if isinstance(answer, Unusable):
            return Done("", Refusal(Kind.HOOK_REFUSED, f"{answer.message}."))
        if isinstance(answer, Done) and answer.refusal is not None:
            failure = failure_of(answer.refusal, self._place)
            if isinstance(failure, Unauthorized):
                return self._turned_away(failure)
        return answer

    def _turned_away(self, failure: Refused) -> Done:
        """A new attempt to connect, with another payload perhaps, decides what becomes of it. Raises LostError."""
        self.refused = failure
        raise self.lose(str(failure), sent=False)

    def lose(self, why: str, *, sent: bool) -> LostError:
        """The connection is of no use any more; gives what to raise."""
        self._lost = self._lost or why
        self._ended.set()
        return LostError(why, sent=sent)


class Exchange:
    """One request, and its answer as it arrives."""

    def __init__(self, client: httpx.AsyncClient, request: httpx.Request) -> None:
        """Nothing is sent yet."""
        self._client = client
        self._request = request
        self._response: httpx.Response | None = None
        self._data: AsyncIterator[bytes] | None = None
        self._splitter = asking_rpc.Splitter(CLIENT_MESSAGE_MAX_BYTES)
        self._answers: deque[Answer] = deque()
        self._beginning = b""

    async def next_answer(self) -> Answer:
        """What comes next.

        Raises:
            httpx.HTTPError: the connection broke.
            Refused: what came is no answer of the protocol.
        """
        if self._data is None:
            self._response = await self._client.send(self._request, stream=True)
            self._data = self._response.aiter_bytes()
        while not self._answers:
            data = await anext(self._data, b"")
            try:
                self._take(data)
            except Unreadable as error:
                self._answers.append(Unusable(f"it sent what this client does not understand: {error}"))
        answer = self._answers.popleft()
        if isinstance(answer, Done | Unusable):
            await self.aclose()
        return answer

    def _take(self, data: bytes) -> None:
        assert self._response is not None
        if len(self._beginning) < _SHOWN_BYTES:
            self._beginning += data[:_SHOWN_BYTES]
        try:
            self._answers += map(asking_rpc.read_answer, self._splitter.feed(data))
        except Unreadable:
            raise self._no_answer() from None
        if not data and not self._answers:
            raise self._no_answer()

    def _no_answer(self) -> Refused:
        response = self._response
        assert response is not None
        retry_after = response.headers.get("retry-after", "")
        return failure_of_status(
            response.status_code, self._beginning, retry_after, str(response.url.copy_with(query=None))
        )

    async def aclose(self) -> None:
        """Be done with it, whatever has come."""
        if self._response is None or self._data is None:
            return
        more: bytes = await anext(self._data, b"") if self._splitter.whole else b"?"
        if more:
            await self._response.aclose()  # else the connection is as good as new
        with suppress(httpx.HTTPError, httpx.StreamError, trio.ClosedResourceError):
            while await anext(self._data, b""):  # what is left in buffers: httpx's generators must come to their end
                pass


class HttpStream:
    """The pages of one answer as they arrive; behind it, the pause before the next poll (`connection.Stream`)."""

    def __init__(self, connection: HttpConnection, exchange: Exchange, *, live: bool) -> None:
        self._connection = connection
        self._exchange: Exchange | None = exchange
        self._live = live

    async def receive(self) -> Pages | Done | None:
        """See the contract."""
        exchange, self._exchange = self._exchange, None  # for good, if this is cancelled
        if exchange is None:
            return None
        try:
            answer = await self._connection.next_answer(exchange)
        except LostError:
            return None
        match answer:
            case Pages():
                self._exchange = exchange
                return answer
            case Done(refusal=None) if self._live:
                await trio.sleep(CLIENT_POLL_EVERY_S)
                return None
            case Done():
                return answer
        return None

    async def aclose(self) -> None:
        """See the contract."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            await exchange.aclose()
