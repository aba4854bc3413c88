"""A pull of one WebSocket: a subscription whose pages go into the connection's outbox.

How pages look is decided by the subclasses in `rpc_peer` and `v3_peer`. Publications and pages are encoded once,
whatever the number of their receivers (invariant 5): what is made of a publication for the first is kept in
`Publication.encoded` for the others; only the request id in front differs, and clients that started alike even share
that. Pages of history are kept by `store.history`.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Final, Protocol

import trio

from livesync_trio.connection.channel import Message, SharedMessage
from livesync_trio.connection.outbox import Outbox
from livesync_trio.errors import Refusal
from livesync_trio.limits import MESSAGE_WHOLE_MAX_BYTES, OUTBOX_SHARE_BYTES, PUBLICATION_MAX_BYTES, READ_MAX_BYTES
from livesync_trio.memory import Budget
from livesync_trio.model import Cursor, LogState, Page, Publication, StoredEvent
from livesync_trio.store.handle import StoreHandle
from livesync_trio.store.subscription import AlikeSubscription
from livesync_trio.telemetry import get_logger
from livesync_trio.wire import rpc, v3
from livesync_trio.wire.events import PAGE_OVERHEAD_BYTES, RPC_ITEM_OVERHEAD_BYTES, pages, rpc_items, v3_items
from livesync_trio.wire.messages import RequestId

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
        outbox = self._outbox
        return outbox.queued_bytes <= OUTBOX_SHARE_BYTES or not outbox.overfull  # the usual case, without a call

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


def rpc_chunks(publication: Publication, request_id: RequestId) -> Sequence[Message]:
    """The publication as `Chunk`s of a live pull, kept for all pulls of that id; their pages are made once for all."""
    encoded = publication.encoded
    responses: Sequence[bytes] | None = encoded.get("rpc")
    if responses is None:
        cut = pages(publication.events, RPC_ITEM_OVERHEAD_BYTES, PAGE_OVERHEAD_BYTES)
        responses = encoded["rpc"] = [rpc.page(rpc_items(page), 0, publication.state.backend_id) for page in cut]
    made = encoded[request_id.json] = [_chunk(response, request_id) for response in responses]
    return made


def _chunk(response: bytes, request_id: RequestId) -> Message:
    """A page, with `NoMore` (SPEC 3.3, 4.); a large one in parts, so that it is there once however many get it."""
    if len(response) > MESSAGE_WHOLE_MAX_BYTES:
        head, tail = rpc.chunk(request_id, _HERE).split(_HERE)
        return head, response, tail
    return SharedMessage(rpc.chunk(request_id, response))


def filled(empty: bytes, items: bytes) -> Message:
    """A message with a page of history, made of the same message with none.

    Large items stay a buffer of their own, which others may hold as well: they are not copied until they are sent.
    """
    at = empty.index(_BATCH) + len(_BATCH)
    parts = (empty[:at], items, empty[at:])
    return parts if len(items) > MESSAGE_WHOLE_MAX_BYTES else b"".join(parts)


_BATCH: Final = b'"batch":['
_HERE: Final = b"\0"
"""Stands in no JSON text."""


def rpc_history(events: Sequence[StoredEvent]) -> list[Page]:
    """Pages of history for 0.4 and next."""
    return _history(events, rpc_items)


def v3_history(events: Sequence[StoredEvent]) -> list[Page]:
    """Pages of history for 0.3."""
    return _history(events, v3_items)


def _history(events: Sequence[StoredEvent], items: Callable[[Sequence[StoredEvent]], bytes]) -> list[Page]:
    cut = pages(events, RPC_ITEM_OVERHEAD_BYTES, PAGE_OVERHEAD_BYTES)
    return [Page(items(page), page[-1].seq_num, page[-1].ordinal) for page in cut]


def v3_message(publication: Publication) -> bytes:
    """The publication as the one broadcast message of 0.3: the whole batch, nothing remaining (SPEC 5.3)."""
    made: bytes | None = publication.encoded.get("v3")
    if made is None:
        made = v3.broadcast(v3_items(publication.events), publication.request_id)
        publication.encoded["v3"] = made
    return made
