"""A pull of one connection: a cursor that catches up with the log and then follows it (design.md, law 3).

Owns the position of the pull. Registered with the store's actor at a durable head; history up to that head is read page
by page by a task of the connection; then the pull asks again, and once it stands exactly at the head the actor takes it
on as a follower. A pull that gets too far behind (its outbox is full) leaves the followers and reads on from the log.

How pages look is decided by the subclasses in `rpc_peer` and `v3_peer`.
"""

import abc
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import trio

from livesync_trio.connection.outbox import Outbox
from livesync_trio.errors import BackendIdMismatch, LogReplaced, Refusal, StorageUnavailable, StoreDamaged
from livesync_trio.limits import STORAGE_BACKOFF_FIRST_S, STORAGE_BACKOFF_MAX_S
from livesync_trio.model import Cursor, LogState, Page, Publication, StoredEvent
from livesync_trio.store.commands import Register, Registered, Reply
from livesync_trio.store.handle import StoreHandle
from livesync_trio.telemetry import get_logger

_log = get_logger("connection")

StartTask = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
"""Starts a task of the connection; drops it silently when the connection is ending."""


class Pull(abc.ABC):
    """One pull, live or not. Used in the Trio thread only; `close` ends it for good."""

    __slots__ = (
        "_answered",
        "_cursor",
        "_following",
        "_handle",
        "_history",
        "_live",
        "_outbox",
        "_reading",
        "_registration_done",
        "_start_task",
        "_troubled",
        "closed",
    )

    def __init__(
        self, handle: StoreHandle, outbox: Outbox, start_task: StartTask, cursor: Cursor | None, *, live: bool
    ) -> None:
        """`cursor` is where the client stands; None for "at the head, whatever it is"."""
        self._handle = handle
        self._outbox = outbox
        self._start_task = start_task
        self._cursor = cursor
        self._live = live
        self._following = False  # the actor offers everything new
        self._history: LogState | None = None  # registered, but there is history up to this head to read first
        self._troubled = False  # the last registration met a passing trouble
        self._reading = False  # a task reads history for this pull
        self._answered = False  # the pages up to the first registered head were sent
        self._registration_done: trio.Event | None = None  # set while the task waits for an answer
        self.closed = False

    # --- what the subclass decides ---------------------------------------------------------------------------------

    @staticmethod
    @abc.abstractmethod
    def render(events: Sequence[StoredEvent]) -> Sequence[Page]:
        """How history looks; a function that all pulls of the generation share (`store.history.Render`)."""

    @abc.abstractmethod
    async def send_page(self, page: Page, remaining: int, state: LogState, *, live: bool) -> None:
        """Queue a page of history; `live` when it lies beyond the head at which the pull was answered."""

    @abc.abstractmethod
    def send_empty(self, state: LogState) -> None:
        """Queue the answer of a pull for which there is no history."""

    @abc.abstractmethod
    def send_publication(self, publication: Publication) -> None:
        """Queue a durable batch."""

    @abc.abstractmethod
    def send_refusal(self, refusal: Refusal) -> None:
        """Queue the typed error that ends the pull; forget the pull."""

    @abc.abstractmethod
    def send_end(self) -> None:
        """Queue the success that ends a pull that is not live; forget the pull."""

    @abc.abstractmethod
    def log_replaced(self, state: LogState) -> None:
        """The store was reset: end the pull or start over, as the generation demands."""

    # --- how it is ------------------------------------------------------------------------------------------------

    @property
    def following(self) -> bool:
        """Whether it stands at the head and is offered everything new."""
        return self._following

    @property
    def lag(self) -> int:
        """By how many numbers it is behind the head of its store, as far as that is known."""
        head = self._handle.known_head
        return 0 if self._cursor is None or head is None else max(0, head - self._cursor.seq_num)

    @abc.abstractmethod
    def worth_a_line(self, what: str) -> bool:
        """Whether the log shall have another line about this trouble of the store, which all its pulls meet."""

    # --- from the connection ---------------------------------------------------------------------------------------

    def begin_nowait(self) -> bool:
        """Register with the store without a task. False: the mailbox is full, `begin` must be used."""
        return self._handle.post_nowait(self._registration())

    async def begin(self) -> None:
        """Register with the store, waiting for room in its mailbox."""
        await self._handle.post(self._registration())

    def close(self) -> None:
        """End the pull: nothing more is sent for it."""
        self.closed = True
        self._handle.leave(self)

    # --- from the actor (store.followers.Follower); none of these may wait -----------------------------------------

    def offer(self, publication: Publication) -> bool:
        """Take a durable batch, or refuse it and read on from the log."""
        if self.closed:
            return False
        if self._outbox.overfull:
            self.dropped()
            return False
        self.send_publication(publication)
        self._cursor = publication.cursor
        return True

    def dropped(self) -> None:
        """The store offers nothing any more: read on from the log."""
        self._following = False
        self._catch_up()

    def replaced(self, state: LogState) -> None:
        """The store was reset while this pull followed it."""
        self._following = False
        if not self.closed:
            self.log_replaced(state)

    def _registered(self, answer: Registered | Refusal) -> None:
        """The answer to a registration. All that follows from it happens here, before anything else is offered."""
        if self._registration_done is not None:
            self._registration_done.set()
        if self.closed:
            self._handle.leave(self)
        elif isinstance(answer, BackendIdMismatch):
            self.send_refusal(answer)
        elif isinstance(answer, Refusal):
            self._troubled = True  # a passing trouble: a task tries again until it is over (SPEC section 2)
            self._catch_up()
        elif answer.following or self._cursor is None or self._cursor.seq_num >= answer.state.head:
            self._following = answer.following
            self._arrive(answer.state)
        else:
            self._history = answer.state
            self._catch_up()

    def _arrive(self, state: LogState) -> None:
        """The pull stands at the head. If it was not answered by pages of history, the answer is an empty one."""
        if not self._answered and self._cursor is not None:
            self.send_empty(state)
        self._answered = True
        self._cursor = state.cursor
        if not self._live:
            self.send_end()

    # --- catching up -----------------------------------------------------------------------------------------------

    def _registration(self) -> Register:
        return Register(self._cursor, self if self._live else None, Reply(self._registered))

    def _catch_up(self) -> None:
        """Start the task that reads history, unless it runs already or nothing more is wanted."""
        if not self._reading and not self.closed:
            self._reading = True
            self._start_task(self._read_on)

    async def _read_on(self) -> None:
        """Read history until the actor has taken this pull on, or it ends."""
        pause_s = STORAGE_BACKOFF_FIRST_S
        try:
            while not self.closed and not self._following:
                await self._outbox.low()
                if self._history is None and not self._troubled:
                    done = self._registration_done = trio.Event()
                    await self.begin()
                    await done.wait()
                elif self._history is not None and await self._send_history(self._history):
                    self._history, pause_s = None, STORAGE_BACKOFF_FIRST_S
                else:
                    self._history, self._troubled = None, False
                    await trio.sleep(pause_s)
                    pause_s = min(2 * pause_s, STORAGE_BACKOFF_MAX_S)
        finally:
            self._reading, self._registration_done = False, None

    async def _send_history(self, state: LogState) -> bool:
        """Send everything between the cursor and a registered head, page by page, at the peer's pace.

        Returns False when the storage is in trouble; what was sent until then is counted by the cursor.
        """
        beyond_answer = self._answered
        while not self.closed and self._cursor is not None and self._cursor.seq_num < state.head:
            async with self._outbox.reading:
                await self._outbox.low()
                try:
                    sent = await self._send_next(state, self._cursor.seq_num, live=beyond_answer)
                except LogReplaced:
                    return True  # registering again tells what the log is called now
                except (StorageUnavailable, StoreDamaged) as trouble:
                    if self.worth_a_line("history cannot be read"):
                        _log.warning("history cannot be read", store=self._handle.store_id, reason=str(trouble))
                    return False
            if not sent:  # the head is an event: an empty answer is trouble, not the end
                _log.warning("history ends before the head", store=self._handle.store_id, head=state.head)
                return False
        self._answered = True
        if not self._live and not self.closed:
            self.send_end()
        return True

    async def _send_next(self, state: LogState, after: int, *, live: bool) -> bool:
        """Read and send the next pages of history. False: there was nothing, although the head is above `after`."""
        pages = await self._handle.pages(state, after, state.head, self.render)
        for page in pages:
            if self.closed:
                break
            await self.send_page(page, state.event_count - page.last_ordinal, state, live=live)
            self._cursor = Cursor(page.last_seq_num, state.backend_id)
        return bool(pages)
