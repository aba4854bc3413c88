"""How a replica and a server come together: one task pulls, one pushes, for as long as the store is open.

Owns what the answers of the server mean for the replica. Waiting for a connection, and staying connected, is the
client's.
"""

import random
from collections.abc import Callable
from typing import Final, Literal

import trio

from livesync_trio.client import (
    Backend,
    BackendIdMismatch,
    Event,
    LogBroken,
    Position,
    ServerAhead,
    SyncError,
)
from livesync_trio.livestore.events import LogEvent
from livesync_trio.livestore.faults import LogReplaced
from livesync_trio.livestore.limits import (
    STORE_PULL_HELD_BYTES,
    STORE_PULL_HELD_EVENTS,
    STORE_PUSH_EVENTS_MAX,
    STORE_RETRY_FIRST_S,
    STORE_RETRY_MAX_S,
)
from livesync_trio.livestore.notices import Notices
from livesync_trio.livestore.replica import Replica
from livesync_trio.livestore.tables import no_progress

OnReset = Literal["stop", "restart"]
"""What a store does when the server's log is another one: stop with LogReplaced, or follow the new one from its
beginning, with what is pending behind it."""

_JITTER: Final = 0.2


class Syncing:
    """The two tasks of one store.

    Attributes:
        caught_up: whether everything that the server had when the store connected has been applied.
    """

    def __init__(self, backend: Backend, replica: Replica, on_reset: OnReset, told: Callable[[], None]) -> None:
        """`told` is called after each change of the replica, and of what is said here."""
        self._backend, self._replica, self._on_reset, self._told = backend, replica, on_reset, told
        self.caught_up = False
        self._error: str | None = None
        self._pulling = trio.CancelScope()

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the server."""
        return self._backend.is_connected

    @property
    def last_error(self) -> str | None:
        """What went wrong last, in words; None when nothing has since."""
        failure = None if self._backend.is_connected else self._backend.failure
        return self._error if failure is None else str(failure)

    async def pull(self) -> None:
        """Take in what the server has, for ever.

        Raises:
            LogReplaced: its log is another one, and the store is to stop then.
            EventFailed, UnknownEvent: as `Replica.receive`.
        """
        pauses = _Pauses()
        while True:
            try:
                with trio.CancelScope() as self._pulling:
                    await self._pull(pauses)
            except (BackendIdMismatch, LogBroken, LogReplaced) as error:
                self._meet_another_log(error)
            except SyncError as error:
                self._note(error)
                await pauses.sleep()

    async def _pull(self, pauses: "_Pauses") -> None:
        replica, held, held_bytes = self._replica, list[LogEvent](), 0
        async with self._backend.pull(Position(replica.upstream_head, replica.backend_id)) as pages:
            async for page in pages:
                held += map(log_event, page.events)
                held_bytes += sum(len(event.args) for event in page.events)
                if page.remaining and len(held) < STORE_PULL_HELD_EVENTS and held_bytes < STORE_PULL_HELD_BYTES:
                    continue  # the fewer the transactions, the fewer the rebases
                replica.receive(held, page.backend_id)
                held, held_bytes = [], 0
                self.caught_up = self.caught_up or not page.remaining
                self._note(None)
                pauses.reset()

    async def push(self, notices: Notices) -> None:
        """Push what is pending, for ever; what cannot be pushed now stays pending.

        Raises:
            LogReplaced: the server has lost events that it had, and the store is to stop then.
        """
        replica, pauses = self._replica, _Pauses()
        while True:
            await notices.until(lambda: replica.pending > 0)
            batch, rebases = replica.pending_events(STORE_PUSH_EVENTS_MAX), replica.rebases
            try:
                await self._backend.push([wire_event(event) for event in batch], backend_id=replica.backend_id)
            except ServerAhead as ahead:
                if rebases == replica.rebases and ahead.head < batch[0].parent_seq_num:
                    self._meet_another_log(ahead)
                else:  # the pull brings what the server has, and with it another parent for what is pending
                    await notices.until(lambda head=ahead.head: replica.upstream_head >= head)  # type: ignore[misc]
            except BackendIdMismatch as error:
                if error.received == replica.backend_id:
                    self._meet_another_log(error)
            except SyncError as error:
                self._note(error)
                await pauses.sleep()
            else:
                replica.acknowledge(batch, rebases)
                pauses.reset()
                self._note(None)

    def _meet_another_log(self, error: Exception) -> None:
        if self._on_reset == "stop":
            if isinstance(error, LogReplaced):
                raise error
            raise LogReplaced(f"the server's log is not the one that this store has followed: {error}") from error
        self._replica.start_over(no_progress)
        self._pulling.cancel()
        self._note(error)

    def _note(self, error: Exception | None) -> None:
        self._error = None if error is None else str(error)
        self._told()


class _Pauses:
    """Pauses after refusals: 1, 2, 4 … 30 s, each spread a little."""

    def __init__(self) -> None:
        self._next_s = STORE_RETRY_FIRST_S

    async def sleep(self) -> None:
        await trio.sleep(self._next_s * random.uniform(1.0, 1.0 + _JITTER))  # noqa: S311
        self._next_s = min(2.0 * self._next_s, STORE_RETRY_MAX_S)

    def reset(self) -> None:
        self._next_s = STORE_RETRY_FIRST_S


def log_event(event: Event) -> LogEvent:
    """An event from the server as the log has it. SQLite has no text with halves of surrogate pairs."""
    names = (event.name, event.client_id, event.session_id)
    name, client_id, session_id = (each if each.isascii() else _well_formed(each) for each in names)
    return LogEvent(event.seq_num, event.parent_seq_num, name, event.args.decode(), client_id, session_id)


def wire_event(event: LogEvent) -> Event:
    """An event of the log as it is pushed."""
    return Event(
        event.seq_num, event.parent_seq_num, event.name, event.args.encode(), event.client_id, event.session_id
    )


def _well_formed(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
