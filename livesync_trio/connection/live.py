"""A pull of one WebSocket: a subscription whose pages go into the connection's outbox.

How pages look is decided by the subclasses in `rpc_peer` and `v3_peer`.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Protocol

import trio

from livesync_trio.connection.outbox import Outbox
from livesync_trio.errors import Refusal
from livesync_trio.limits import PUBLICATION_MAX_BYTES, READ_MAX_BYTES
from livesync_trio.memory import Budget
from livesync_trio.model import Cursor, LogState, Page, Publication
from livesync_trio.store.handle import StoreHandle
from livesync_trio.store.subscription import AlikeSubscription
from livesync_trio.telemetry import get_logger

_log = get_logger("connection")

StartTask = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
"""Starts a task of the connection; drops it silently when the connection is ending."""


class Carrier(Protocol):
    """What a pull needs of its connection.

    Attributes:
        handle: the store.
        outbox: where the pages go.
        sending: the server's budget for them.
        pull_tasks: how many tasks of pulls run.
    """

    handle: StoreHandle
    outbox: Outbox
    pull_tasks: int

    @property
    def sending(self) -> Budget:
        """The server's budget for what is sent."""

    def start_task(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task that ends with the connection."""

    def worth_a_line(self, what: str) -> bool:
        """Whether the log shall have another line of this kind about the store."""


class Pull(AlikeSubscription):
    """One pull, live or not; `close` ends it for good."""

    __slots__ = ("_carrier", "_held_bytes", "_large_comes", "_outbox")

    def __init__(self, carrier: Carrier, cursor: Cursor | None, *, live: bool) -> None:
        """`cursor` is where the client stands; None for "at the head, whatever it is"."""
        super().__init__(carrier.handle, cursor, live=live)
        self._carrier = carrier
        self._outbox = carrier.outbox
        self._held_bytes = 0  # of the server's budget, by the pages that are being sent
        self._large_comes = False  # the next page to be read is known to be large

    @property
    def has_task(self) -> bool:
        """Whether a task carries out its steps, which may be its end."""
        return self._scope is not None

    def wake(self) -> None:
        """Start the task that carries out the steps, unless it runs already."""
        if self._scope is None:
            self._scope = trio.CancelScope()
            self._carrier.pull_tasks += 1
            self._carrier.start_task(self.run)

    async def run(self) -> None:
        """See `Subscription`. The connection counts the task until it has really ended."""
        try:
            await super().run()
        finally:
            self._carrier.pull_tasks -= 1

    def has_room(self, publication: Publication) -> bool:
        """What is large is read from the log, by one follower after the other, instead of being queued for all."""
        if publication.size_bytes > PUBLICATION_MAX_BYTES:
            self._large_comes = True
            return False
        return not self._outbox.overfull

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[None, None]:
        """One page for each connection, and not before the client has taken the last ones."""
        sending = self._carrier.sending
        async with self._outbox.reading:
            await self._outbox.low()
            self._held_bytes = 0
            try:
                yield
                await trio.lowlevel.checkpoint()  # what the socket does not take is counted in this turn
            finally:
                sending.give_back(self._held_bytes)

    async def read(self, log: LogState, after: int) -> Sequence[Page]:
        """See `Subscription`. What it turns out to hold is counted before others may read as well."""
        sending = self._carrier.sending
        async with sending.large_read if self._large_comes else nullcontext(), sending.reading():
            await sending.wait_for(READ_MAX_BYTES)
            self._held_bytes = READ_MAX_BYTES
            pages = await super().read(log, after)
            more_bytes = max(0, sum([len(page.items) for page in pages]) - READ_MAX_BYTES)  # one event may be larger
            sending.take(more_bytes)
            self._held_bytes += more_bytes
            self._large_comes = False
            return pages

    def troubled(self, refusal: Refusal) -> None:
        """A pull is never failed for a passing trouble (SPEC section 2); the log is told."""
        if self._carrier.worth_a_line("history cannot be read"):
            _log.warning("history cannot be read", store=self._handle.store_id, reason=refusal.message)
