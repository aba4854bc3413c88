"""Read history, then follow: the one state machine of all who want the events of a store from somewhere on.

    ASKING ──► READING ──► ASKING ──► FOLLOWING ──► ASKING (fell behind) …
       ╰──► PAUSING (the storage is in trouble) ──► ASKING

A subscription registers with the store's actor at a durable head. History up to that head is read page by page; then it
asks again, and once it stands exactly at the head the actor takes it on as a follower. One that falls too far behind
leaves the followers and reads on from the log. Its position is a number and the identity of the log: a log that is
replaced by one of the same identity is read on from there.

How pages look, and where they go, is decided by subclasses: `connection.live` for WebSockets, `connection.http_rpc` for
pulls over HTTP, `admin.tail` for server-sent events.
"""

import abc
import enum
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final

import trio

from livesync_trio.errors import (
    BackendIdMismatch,
    LogReplaced,
    Refusal,
    StorageUnavailable,
    StoreDamaged,
)
from livesync_trio.limits import STORAGE_BACKOFF_FIRST_S, STORAGE_BACKOFF_MAX_S
from livesync_trio.model import ROOT_SEQ_NUM, BackendId, Cursor, LogState, Page, Publication, StoredEvent
from livesync_trio.store.commands import DAMAGED, UNAVAILABLE, Register, Registered, Reply
from livesync_trio.store.handle import StoreHandle

NO_LOG: Final = "deleted"
"""What stands for the identity of a store that is gone, in what its clients are told."""


class Phase(enum.Enum):
    """Where a subscription is in its life.

    Attributes:
        ASKING: it is to be registered with the actor, or waits for the actor's answer.
        READING: it reads history up to a registered head.
        PAUSING: the storage is in trouble; it asks again after a pause.
        FOLLOWING: it stands at the head, and the actor offers it everything new.
        OVER: nothing more is sent for it.
    """

    ASKING = enum.auto()
    READING = enum.auto()
    PAUSING = enum.auto()
    FOLLOWING = enum.auto()
    OVER = enum.auto()


class Subscription(abc.ABC):
    """One reader of a store, live or not. Implements `followers.Follower`. Used in the Trio thread only.

    Somebody must carry out its steps whenever it neither follows nor is over: `run`, which `close` cancels, or who
    takes what it sends, with `advance`.
    """

    __slots__ = ("_answer_came", "_answered", "_cursor", "_handle", "_live", "_scope", "_target", "pause_s", "phase")

    def __init__(self, handle: StoreHandle, cursor: Cursor | None, *, live: bool) -> None:
        """`cursor` is where the reader stands; None for "at the head, whatever it is"."""
        self._handle = handle
        self._cursor = cursor
        self._live = live
        self._target: LogState | None = None  # history is read up to this head
        self._answered = False  # everything up to the first registered head was sent
        self._answer_came: trio.Event | None = None  # set while a step waits for the actor's answer
        self._scope: trio.CancelScope | None = None  # of the task that carries out the steps, while there is one
        self.phase = Phase.ASKING
        self.pause_s = STORAGE_BACKOFF_FIRST_S
        """How long the next pause is."""

    # --- what the subclass decides ---------------------------------------------------------------------------------

    @abc.abstractmethod
    def wake(self) -> None:
        """There are steps to be carried out. Must not wait."""

    @abc.abstractmethod
    def has_room(self, publication: Publication) -> bool:
        """Whether a batch can be queued; otherwise it is read from the log when there is room."""

    @abc.abstractmethod
    async def send_page(self, page: Page, remaining: int, state: LogState, *, live: bool) -> None:
        """Queue a page of history; `live` when it lies beyond the head at which the pull was answered."""

    @abc.abstractmethod
    def send_publication(self, publication: Publication) -> None:
        """Queue a durable batch."""

    def send_empty(self, state: LogState) -> None:  # noqa: B027 -- not everybody is told
        """Queue the answer of a reader for whom there is no history."""

    def send_end(self) -> None:  # noqa: B027 -- most have no end
        """Queue the success that ends a subscription that is not live."""

    @abc.abstractmethod
    def log_lost(self, refusal: BackendIdMismatch) -> None:
        """The log whose events the reader has is gone: `end`, or `start_over`."""

    @abc.abstractmethod
    def troubled(self, refusal: Refusal) -> None:
        """It cannot go on for the moment. To wait for better times, do nothing."""

    def reading(self) -> AbstractAsyncContextManager[object]:
        """Held while a page is read and sent; waits until there is room for one."""
        return nullcontext()

    @abc.abstractmethod
    async def read(self, log: LogState, after: int) -> Sequence[Page]:
        """The next pages of history; raises what `StoreHandle.pages` raises."""

    # --- how it is -------------------------------------------------------------------------------------------------

    @property
    def following(self) -> bool:
        """Whether it stands at the head and is offered everything new."""
        return self.phase is Phase.FOLLOWING

    @property
    def over(self) -> bool:
        """Whether nothing more is sent for it."""
        return self.phase is Phase.OVER

    @property
    def ended(self) -> bool:
        """Whether it is over and nothing runs for it any more."""
        return self.phase is Phase.OVER and self._scope is None

    @property
    def lag(self) -> int:
        """By how many numbers it is behind the head of its store, as far as that is known."""
        head = self._handle.known_head
        return 0 if self._cursor is None or head is None else max(0, head - self._cursor.seq_num)

    # --- from its owner --------------------------------------------------------------------------------------------

    def begin_nowait(self) -> bool:
        """Register with the store without a task. False: the mailbox is full, `begin` must be used."""
        return self._handle.post_nowait(self._registration())

    async def begin(self) -> None:
        """Register with the store, waiting for room in its mailbox."""
        await self._handle.post(self._registration())

    def close(self) -> None:
        """End it: nothing more is sent, and whatever runs for it is cancelled."""
        self.phase = Phase.OVER
        self._handle.leave(self)
        if self._scope is not None:
            self._scope.cancel()

    def end(self) -> None:
        """End it from within: the step under way is the last."""
        self.phase = Phase.OVER

    def start_over(self, backend_id: BackendId | None) -> None:
        """Read the log that is there now from its first event on."""
        self._cursor = Cursor(ROOT_SEQ_NUM, backend_id)
        self.ask_again()

    def ask_again(self) -> None:
        """Ask the actor where the head is."""
        if not self.over:
            self.phase = Phase.ASKING
            self.wake()

    # --- from the actor; none of these may wait --------------------------------------------------------------------

    def offer(self, publication: Publication) -> bool:
        """Take a durable batch, or refuse it and read on from the log."""
        if self.phase is not Phase.FOLLOWING:
            return False
        if not self.has_room(publication):
            self.dropped()
            return False
        self.send_publication(publication)
        self._cursor = publication.cursor
        return True

    def dropped(self) -> None:
        """The store offers nothing any more: read on from the log."""
        self.ask_again()

    def replaced(self, state: LogState) -> None:
        """There is another log now. Under the same identity, it is the same one restored: read on."""
        if self.over:
            return
        known = None if self._cursor is None else self._cursor.backend_id
        if known == state.backend_id:
            self.ask_again()
        else:
            self.log_lost(BackendIdMismatch.of(state.backend_id, known or state.backend_id))

    def gone(self) -> None:
        """There is no such store any more: a client is told that its log is lost, as after a reset."""
        if not self.over:
            known = None if self._cursor is None else self._cursor.backend_id
            self.log_lost(BackendIdMismatch.of(NO_LOG, known or NO_LOG))

    def _registered(self, answer: Registered | Refusal) -> None:
        """The answer to a registration. All that follows from it happens here, before anything else is offered."""
        if self._answer_came is not None:
            self._answer_came.set()
        if self.over:
            self._handle.leave(self)
        elif isinstance(answer, BackendIdMismatch):
            self.log_lost(answer)
        elif isinstance(answer, Refusal):
            self._pause(answer)
        elif answer.following or self._cursor is None or self._cursor.seq_num >= answer.state.head:
            self._arrive(answer.state)
        else:
            self._target = answer.state
            self.phase = Phase.READING
            self.wake()

    def _arrive(self, state: LogState) -> None:
        """It stands at the head. If it was not answered by pages of history, the answer is an empty one."""
        if not self._answered and self._cursor is not None:
            self.send_empty(state)
        self._answered = True
        self._cursor = state.cursor
        self.pause_s = STORAGE_BACKOFF_FIRST_S
        if self._live:
            self.phase = Phase.FOLLOWING
        else:
            self._finish()

    def _finish(self) -> None:
        self.end()
        self.send_end()

    def _pause(self, refusal: Refusal) -> None:
        self.phase = Phase.PAUSING
        self.troubled(refusal)
        if not self.over:
            self.wake()

    # --- its steps -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Carry out steps until it follows or is over; `close` cancels it. `scope` must have been set before."""
        assert self._scope is not None
        try:
            with self._scope:
                while self.phase not in _SETTLED:
                    await self.advance()
        finally:
            self._scope = None

    async def advance(self) -> None:
        """Carry out one step: ask, read the next pages, or pause. Always a checkpoint."""
        if self.phase is Phase.ASKING:
            await self._ask()
        elif self.phase is Phase.READING:
            await self._read_on()
        elif self.phase is Phase.PAUSING:
            await trio.sleep(self.take_pause_s())
            if self.phase is Phase.PAUSING:
                self.phase = Phase.ASKING
        else:
            await trio.lowlevel.checkpoint()

    def take_pause_s(self) -> float:
        """How long to pause now; the next pause is longer."""
        pause_s = self.pause_s
        self.pause_s = min(2 * pause_s, STORAGE_BACKOFF_MAX_S)
        return pause_s

    def _registration(self) -> Register:
        return Register(self._cursor, self if self._live else None, Reply(self._registered))

    async def _ask(self) -> None:
        answer_came = self._answer_came = trio.Event()
        try:
            await self.begin()
            await answer_came.wait()
        finally:
            self._answer_came = None

    async def _read_on(self) -> None:
        """Read and send the next pages between the cursor and the registered head."""
        log, cursor = self._target, self._cursor
        assert log is not None
        assert cursor is not None
        async with self.reading():
            if self.phase is not Phase.READING:
                return
            try:
                pages = await self.read(log, cursor.seq_num)
            except LogReplaced:
                self.phase = Phase.ASKING  # asking again tells what the log is called now
                return
            except (StorageUnavailable, StoreDamaged) as trouble:
                self._pause(DAMAGED if isinstance(trouble, StoreDamaged) else UNAVAILABLE)
                return
            if not pages:  # the head is an event: an empty answer is trouble, not the end
                self._pause(UNAVAILABLE)
                return
            live = self._answered
            for page in pages:
                await self.send_page(page, log.event_count - page.last_ordinal, log, live=live)
                if self.phase is not Phase.READING:
                    return
                self._cursor = Cursor(page.last_seq_num, log.backend_id)
        if pages[-1].last_seq_num >= log.head:
            self._target, self._answered, self.pause_s = None, True, STORAGE_BACKOFF_FIRST_S
            if self._live:
                self.phase = Phase.ASKING
            else:
                self._finish()


class AlikeSubscription(Subscription):
    """A subscription whose history looks the same for all of its kind, so that it is read once for many of them."""

    __slots__ = ()

    @staticmethod
    @abc.abstractmethod
    def render(events: Sequence[StoredEvent]) -> Sequence[Page]:
        """How history looks (`store.history.Render`)."""

    async def read(self, log: LogState, after: int) -> Sequence[Page]:
        """See `Subscription`."""
        return await self._handle.pages(log, after, log.head, self.render)


_SETTLED = (Phase.FOLLOWING, Phase.OVER)
