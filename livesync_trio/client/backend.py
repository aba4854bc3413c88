"""The sync backend: what an application has of one store on a server.

Owns `open_backend`, and pushing. A push whose answer was lost is not repeated blindly: the log is looked at first.
"""

from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

import msgspec
import trio

from livesync_trio import errors
from livesync_trio.client.address import Address, Protocol
from livesync_trio.client.connection import LostError
from livesync_trio.client.failures import InvalidPush, LogBroken, Offline, OutcomeUnknown, SyncError, failure_of
from livesync_trio.client.limits import CLIENT_PUSH_ATTEMPTS, CLIENT_PUSH_MAX_BYTES, CLIENT_PUSH_MAX_EVENTS
from livesync_trio.client.link import Link, Patience, Payload, State, States
from livesync_trio.client.opening import Opening
from livesync_trio.client.ordering import START, Position
from livesync_trio.client.pulling import OnReset, Pull
from livesync_trio.client.socket import Dial, dial
from livesync_trio.errors import Kind
from livesync_trio.supervision import open_tasks
from livesync_trio.wire.answers import Event
from livesync_trio.wire.events import EventShape, take_batch
from livesync_trio.wire.reading import Unreadable, read


@asynccontextmanager
async def open_backend(
    url: str,
    *,
    store_id: str,
    payload: Any | Payload = None,
    protocol: Protocol | Literal["auto"] = "ws",
    offline: Patience = "wait",
    dial: Dial = dial,
) -> AsyncIterator["Backend"]:
    """Be a client of one store for the length of a block. Never waits for the server; what needs it does.

    Args:
        url: of the server, as a LiveStore application has it: https, http, wss or ws.
        store_id: the store.
        payload: what a LiveStore application sends as `syncPayload`: a value that JSON has, or a function (plain or
            async) that gives one and is called at each attempt to connect. None for nothing.
        protocol: `ws`: 0.4 over WebSocket; `http`: 0.4 over HTTP; `v3`: 0.3; `auto`: whichever the server speaks.
        offline: `wait`: pushes and pulls wait for a connection. `fail`: they raise Offline as soon as an attempt to
            connect has failed; but a live pull that has begun outlives its connections.
        dial: opens the streams of bytes that WebSockets go through; for tunnels and tests.

    Raises:
        BadAddress: the URL or the store id cannot be used; a ValueError too.
    """
    opening = Opening(Address.of(url), store_id, protocol, dial)
    provider = payload if callable(payload) else None
    opening.address.target("ws", store_id, None)  # raises for what no URL can hold
    link = Link(
        opening.open if provider is not None else lambda _: opening.open(payload), provider, opening.address.place
    )
    failure: BaseException | None = None
    async with open_tasks("sync client") as tasks:
        tasks.start(link.run)
        try:
            yield Backend(link, store_id, opening.address.place, offline)
        except (Exception, BaseExceptionGroup) as error:  # the block's own, and not a crash in here
            failure = error
        finally:
            link.close()
            tasks.cancel()
    if tasks.crash is not None:
        raise tasks.crash
    if failure is not None:
        raise failure


class Backend:
    """One store on one server. Made by `open_backend`; its methods may be used by several tasks at the same time."""

    def __init__(self, link: Link, store_id: str, place: str, patience: Patience) -> None:
        self.store_id = store_id
        self._link = link
        self.place = place
        self._patience: Patience = patience

    # --- the connection -----------------------------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._link.is_connected

    @property
    def failure(self) -> SyncError | None:
        """Why there is no connection; None while there is one."""
        return self._link.failure

    async def wait_connected(self) -> None:
        """Wait for a connection. Raises Refused when the server does not let this client in."""
        await self._link.connected("wait")

    def connection_states(self) -> AsyncIterator[State]:
        """The state now, and each one that follows; when they change faster than they are taken, the last of them."""
        return States(self._link)

    async def connect(self) -> None:
        """Connect now, whatever the pause between two attempts; also when the server has refused this client.

        Raises:
            Offline: nobody answers.
            Refused: the server does not let this client in.
        """
        await self._link.connect()

    async def ping(self) -> float:
        """Ask the server for a sign of life; gives after how many seconds it came.

        Raises:
            Offline: there is no connection, or none came within 5 s.
        """
        connection = await self._link.connected("fail")
        begin_s = trio.current_time()
        try:
            await connection.ping()
        except LostError as lost:
            raise Offline(f"{self.place}: {lost}.") from None
        return trio.current_time() - begin_s

    # --- the log ------------------------------------------------------------------------------------------------------

    def pull(self, after: Position | None = None, *, live: bool = True, on_reset: OnReset = "fail") -> Pull:
        """The log behind a position: pages of events, strictly ascending, without gap or duplicate.

        Use it with `async for`, in one task; a reader that is slow slows the server down. A live pull goes on with what
        is pushed from now on, over any number of connections. The first page may be empty: nothing is new.

        Args:
            after: the last event that you have; None for the whole log. Without an identity in it, that of the store is
                taken for granted.
            live: whether to go on behind the history.
            on_reset: `fail`: a store that was reset or replaced raises BackendIdMismatch (0.3: LogGone). `restart`: its
                new log comes from its first event, on a page that says `restarted`.

        Raises (from the iteration):
            BackendIdMismatch, LogGone: the store was reset or replaced.
            Refused, Unauthorized: the server refuses.
            LogBroken: the log does not continue `after`, or has a hole.
            NotUnderstood: a page cannot be read.
            Offline: there is no connection, and `offline` is `fail`.
        """
        return Pull(
            self._link,
            after or START,
            live=live,
            on_reset=on_reset,
            patience=self._patience,
            place=self.place,
        )

    async def push(self, events: Sequence[Event], *, backend_id: str | None = None) -> None:
        """Append events to the log; returns when they are durable.

        What is more than one request may hold is pushed in several, one after the other; each is stored as a whole or
        not at all.

        Args:
            events: ascending, each the parent of the next; the first one's parent is the head of the log.
            backend_id: identity under which you know the log; None where you know none.

        Raises:
            ServerAhead: the log has gone on: pull, rebase, push again.
            BackendIdMismatch: the store was reset or replaced.
            InvalidPush: these events can never be stored.
            Refused, Unauthorized: the server refuses.
            Offline: there is no connection, and `offline` is `fail`. Nothing was sent.
            OutcomeUnknown: the connection was lost before the answer came, and `offline` is `fail`; or again and again.
                With `wait` the log is looked at, and only what is not in it is pushed again.
        """
        for batch in _batches(events):
            await self._push(batch, backend_id)

    async def _push(self, batch: Sequence[Event], backend_id: str | None) -> None:
        texts = [event.json for event in batch]
        unclear = 0  # how often the answer was lost
        while unclear < CLIENT_PUSH_ATTEMPTS:
            if unclear and await self._is_stored(batch, backend_id):
                return
            connection = await self._link.connected(self._patience)
            try:
                refusal = await connection.push(texts, backend_id)
            except LostError as lost:
                unclear += lost.sent
                if lost.sent and self._patience == "fail":
                    break
                continue
            if refusal is None:
                return
            if unclear and isinstance(refusal, errors.ServerAhead) and await self._is_stored(batch, backend_id):
                return  # what was sent before arrived late
            raise failure_of(refusal, self.place)
        raise OutcomeUnknown(f"{self.place}: the connection was lost while it was pushed to. Pull to see what it has.")

    async def _is_stored(self, batch: Sequence[Event], backend_id: str | None) -> bool:
        """Whether the log has these very events. Raises as `pull`."""
        parent = Position(batch[0].parent_seq_num, backend_id)
        waiting = deque(batch)
        try:
            async with self.pull(parent, live=False) as pull:
                async for page in pull:
                    for event in page.events:
                        if not event.is_same(waiting.popleft()):
                            return False
                        if not waiting:
                            return True
        except LogBroken:
            pass  # nothing can continue a parent that is not there
        return False


def _batches(events: Sequence[Event]) -> Iterator[list[Event]]:
    """Events in as few requests as may be. Raises InvalidPush, before anything is sent."""
    batches: list[list[Event]] = []
    size_bytes = 0
    before: Event | None = None
    for event in events:
        _check(event, before)
        before, event_bytes = event, len(event.json) + 1
        if (
            not batches
            or len(batches[-1]) == CLIENT_PUSH_MAX_EVENTS
            or size_bytes + event_bytes > CLIENT_PUSH_MAX_BYTES
        ):
            batches.append([])
            size_bytes = 0
        batches[-1].append(event)
        size_bytes += event_bytes
    return iter(batches)


_shape: Final = msgspec.json.Decoder(EventShape)
_value: Final = msgspec.json.Decoder(msgspec.Raw)


def _check(event: Event, before: Event | None) -> None:
    """What no good server stores, some store all the same, and break their log by it (SPEC section 7)."""
    try:
        read(_value, event.args)  # one value, and not the end of an event
        text = event.json
        shape, restore = read(_shape, text)
        take_batch([shape], restore)
    except (Unreadable, TypeError) as error:
        raise InvalidPush(f"e{event.seq_num} cannot be written as JSON: {error}.", Kind.INVALID_BATCH) from None
    parent = event.parent_seq_num if before is None else before.seq_num
    if event.parent_seq_num != parent or event.seq_num <= parent:
        raise InvalidPush(f"e{event.seq_num} cannot follow e{parent}.", Kind.INVALID_BATCH)
    if len(text) > CLIENT_PUSH_MAX_BYTES:
        raise InvalidPush(f"e{event.seq_num} is larger than {CLIENT_PUSH_MAX_BYTES} bytes.", Kind.INVALID_BATCH)
