"""A pull: pages in the order of the log, over any number of connections.

Owns the iterator that an application holds. It runs in the application's own task: no page is read before it is wanted.
"""

from collections import deque
from typing import Literal, Self

import trio

from livesync_trio.client.connection import Connection, Stream
from livesync_trio.client.failures import BackendIdMismatch, LogBroken, LogGone, NotUnderstood, failure_of
from livesync_trio.client.limits import CLIENT_STASH_WAIT_S
from livesync_trio.client.link import Backoff, Link, Patience
from livesync_trio.client.ordering import START, Order, Page, Position
from livesync_trio.errors import Refusal
from livesync_trio.wire.answers import Done, Pages
from livesync_trio.wire.reading import Unreadable

OnReset = Literal["fail", "restart"]
"""What becomes of a pull whose store was reset or replaced: it fails, or goes on with the new log from its start."""


class Pull:
    """Pages of one store (`async for`). Close it with `aclose`, or by using it as a context manager."""

    def __init__(
        self, link: Link, after: Position, *, live: bool, on_reset: OnReset, patience: Patience, place: str
    ) -> None:
        """See `backend.Backend.pull`."""
        self._link = link
        self._order = Order(after)
        self._live = live
        self._on_reset = on_reset
        self._patience: Patience = patience
        self._place = place
        self._stream: Stream | None = None
        self._ready: deque[Page] = deque()
        self._ended = False
        self._remaining = 1
        self._restarted = False
        self._stuck_at: int | None = None
        self._answers_end = True
        self._backoff = Backoff()

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End it: the server is told, and what is under way is dropped."""
        self._ended = True
        await self._leave_stream()

    async def __anext__(self) -> Page:
        """The next page. May be cancelled: nothing is lost by it.

        Raises:
            BackendIdMismatch, LogGone: the store was reset or replaced, and that is to be told.
            Refused: the server refuses to give its log.
            LogBroken: it gives none that is whole.
            NotUnderstood: what it gives cannot be read.
            Offline: the connection was lost, and this pull does not wait.
        """
        await trio.lowlevel.checkpoint()
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            try:
                await self._advance()
            except (BackendIdMismatch, LogGone):
                await self._leave_stream()
                if self._on_reset == "fail" or self._restarted:  # twice without a page in between: no end to that
                    self._ended = True
                    raise
                self._order, self._restarted, self._remaining = Order(), True, 1
            except Exception:
                self._ended = True
                await self._leave_stream()
                raise
        return self._ready.popleft()

    async def _advance(self) -> None:
        """Take in what comes next."""
        if self._stream is None:
            connection = await self._link.connected(self._patience)
            await self._ask(connection)
            return
        with trio.move_on_after(CLIENT_STASH_WAIT_S if self._order.waits else float("inf")) as patience:
            answer = await self._stream.receive()
        if patience.cancelled_caught:
            await self._ask_again()
            return
        match answer:
            case None:
                self._stream = None
            case Pages():
                self._take(answer)
                if self._order.hole:
                    await self._ask_again()
                elif self._order.answered and not self._live and not self._answers_end:
                    self._ended = True
                    await self._leave_stream()
            case Done(refusal=None):
                await self._end_of_answer()
            case Done(refusal=Refusal() as refusal):
                await self._refused(refusal)

    async def _ask(self, connection: Connection) -> None:
        if connection.knows_identity and self._order.head and self._order.backend_id is None:
            self._order.backend_id = await _identity(connection)
            if self._order.backend_id is None:
                return  # the connection is lost: once more
        self._answers_end = connection.answers_end
        after = self._order.begin()
        self._stream = connection.pull(after, self._order.backend_id, live=self._live)

    async def _ask_again(self) -> None:
        """Something is missing that does not come by itself. Once; a second time it is missing for good."""
        await self._leave_stream()
        if self._stuck_at == self._order.head:
            raise LogBroken(f"{self._place}: what follows e{self._order.head} is missing.")
        self._stuck_at = self._order.head

    def _take(self, pages: Pages) -> None:
        try:
            arrived = pages.read()
        except Unreadable as error:
            raise NotUnderstood(f"{self._place}: it sent a page that cannot be read: {error}.") from None
        self._backoff.reset()
        if self._live:
            self._patience = "wait"  # it has begun, and outlives its connections
        for one in arrived:
            events = self._order.take(one)
            if events or (self._remaining and self._order.answered):
                self._remaining = one.remaining
                page = Page(tuple(events), one.remaining, self._order.backend_id, self._order.head, self._restarted)
                self._ready.append(page)
                self._restarted = False

    async def _end_of_answer(self) -> None:
        self._stream = None
        if not self._order.answered:
            await self._ask_again()
        elif not self._live:
            self._ended = True
        else:
            await trio.sleep(self._backoff.next_s())  # nobody ends a live pull like that

    async def _refused(self, refusal: Refusal) -> None:
        failure = failure_of(refusal, self._place)
        if not failure.retry or self._patience == "fail":
            raise failure
        self._stream = None
        await trio.sleep(self._backoff.next_s(failure.retry_after_s))

    async def _leave_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()


async def _identity(connection: Connection) -> str | None:
    """The identity of the store, by asking for the first page of its log; None when there was no answer."""
    stream = connection.pull(START.seq_num, None, live=False)
    answer = await stream.receive()
    await stream.aclose()
    return answer.read()[0].backend_id if isinstance(answer, Pages) else None
