"""0.4 over HTTP: a request for every question, and a live pull that asks again and again (SPEC 3.7).

Nothing is open between two requests, so the connection is what the last answer and the pings say of it.
"""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpcore
import trio

from livesync_trio.client.address import Address
from livesync_trio.client.connection import LostError
from livesync_trio.client.dialing import Dial
from livesync_trio.client.exchange import BROKEN, Body, Exchange, open_pool
from livesync_trio.client.failures import Offline, Refused, Unauthorized, failure_of
from livesync_trio.client.limits import CLIENT_PING_EVERY_S, CLIENT_POLL_EVERY_S, CLIENT_PONG_LIMIT_S
from livesync_trio.errors import Kind, Refusal
from livesync_trio.wire import client_rpc
from livesync_trio.wire.answers import ALIVE, Alive, Answer, Done, Pages, Unusable


@asynccontextmanager
async def open_http(
    address: Address, target: str, store_id: str, payload: bytes | None, dial: Dial
) -> AsyncIterator["HttpConnection"]:
    """Ask whether a server is there, and stay ready to ask for the length of a block.

    Raises:
        Offline: nobody answers.
        Refused: the server does not let this client in.
    """
    async with open_pool(dial, address) as pool:
        connection = HttpConnection(pool, address, target, store_id, payload)
        try:
            await connection.ping()
        except LostError as lost:
            raise connection.refused or Offline(f"{address.place}: {lost}.") from None
        yield connection


class HttpConnection:
    """A server that has answered (`connection.Connection`)."""

    knows_identity = True
    answers_end = True

    def __init__(
        self,
        pool: httpcore.AsyncConnectionPool,
        address: Address,
        target: str,
        store_id: str,
        payload: bytes | None,
    ) -> None:
        self._pool = pool
        self._address = address
        self._target = target
        self._store_id = store_id
        self._payload = payload
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
        body = client_rpc.pull(request_id, self._store_id, self._payload, after, backend_id, live=None)
        return HttpStream(self, self._exchange(body), live=live)

    async def push(self, events: list[bytes], backend_id: str | None) -> Refusal | None:
        """See the contract."""
        body = client_rpc.push(
            next(self._ids), self._store_id, self._payload, events, backend_id, transport=client_rpc.HTTP
        )
        return (await self.done(self._exchange(body))).refusal

    async def ping(self) -> None:
        """See the contract."""
        body = client_rpc.http_ping(next(self._ids), self._store_id, self._payload)
        with trio.move_on_after(CLIENT_PONG_LIMIT_S) as patience:
            await self.done(self._exchange(body))
        if patience.cancelled_caught:
            raise self.lose(f"it gave no sign of life within {CLIENT_PONG_LIMIT_S:g} s", sent=True)

    def _exchange(self, body: bytes) -> Exchange:
        headers = [
            (b"host", self._address.authority.encode()),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        if self._store_id.isascii() and self._store_id.isprintable():  # others do not fit into a header
            headers.append((b"x-livestore-store-id", self._store_id.encode()))
        url = httpcore.URL(scheme=b"http", host=self._address.host, port=self._address.port, target=self._target)
        request = httpcore.Request(b"POST", url, headers=headers, content=Body(body))
        return Exchange(self._pool, request, self._address.place)

    async def done(self, exchange: "Exchange") -> Done:
        """The end of a request whose answer has no pages. Raises LostError."""
        while not isinstance(answer := await self.next_answer(exchange), Done):
            pass
        return answer

    async def next_answer(self, exchange: "Exchange") -> Answer:
        """What comes next of an answer. Raises LostError, also when the server does not let us in any more."""
        try:
            answer = await exchange.next_answer()
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            raise self.lose(str(error) or "it cannot be reached", sent=False) from error
        except BROKEN as error:
            raise self.lose(str(error) or type(error).__name__, sent=True) from error
        except Refused as error:  # it speaks HTTP, and nothing of the protocol
            return self._turned_away(error)
        self.was_useful = True
        if isinstance(answer, Unusable):
            return Done("", Refusal(Kind.HOOK_REFUSED, f"{answer.message}."))
        if isinstance(answer, Done) and answer.refusal is not None:
            failure = failure_of(answer.refusal, self._address.place)
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
        answer: Answer = ALIVE
        try:
            while isinstance(answer, Alive):
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
