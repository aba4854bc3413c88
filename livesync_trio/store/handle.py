"""The only door to a store (docs/architecture.md): post a command, read a page of its history, stop following.

Owns nothing: a handle names a store, and finds its present actor anew for each command, so that it outlives crashes
and dormancy of the actor.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from livesync_trio.errors import Kind, LogReplaced, Refusal
from livesync_trio.model import Batch, Cursor, Draft, LogState, Page, StoredEvent, StoreId
from livesync_trio.storage.base import (
    Adopt,
    Appended,
    Delete,
    Freeze,
    NoStore,
    StoreOutcome,
    StoreSummary,
    StoreWrite,
)
from livesync_trio.store.actor import StoreActor
from livesync_trio.store.commands import (
    Accepted,
    Alter,
    Append,
    Command,
    Inspect,
    Numbered,
    Push,
    Register,
    Registered,
    Reply,
    Reset,
    Waiting,
)
from livesync_trio.store.followers import Follower
from livesync_trio.store.history import History, Render
from livesync_trio.store.mailbox import Closed
from livesync_trio.store.persistence import Readers
from livesync_trio.telemetry import Marks


class Directory(Protocol):
    """What a handle needs of the registry."""

    history: History
    readers: Readers

    def actor(self, store_id: StoreId) -> StoreActor | Refusal:
        """The store's running actor, started if need be; a refusal when the store is fenced or the server drains."""

    def running(self, store_id: StoreId) -> StoreActor | None:
        """The store's actor if one runs now."""


class StoreHandle:
    """A store, for whoever wants something of it."""

    __slots__ = ("_directory", "store_id")

    def __init__(self, directory: Directory, store_id: StoreId) -> None:
        self._directory = directory
        self.store_id = store_id

    @property
    def known_head(self) -> int | None:
        """The durable head, if an actor runs that knows it."""
        actor = self._directory.running(self.store_id)
        return None if actor is None else actor.head

    # --- posting ---------------------------------------------------------------------------------------------------

    def post_nowait(self, command: Command) -> bool:
        """Post a command without waiting.

        Returns:
            True when it was posted, or answered at once with a refusal; False when the mailbox is full.
        """
        actor = self._directory.actor(self.store_id)
        if isinstance(actor, Refusal):
            command.reply.give(actor)
            return True
        return actor.post_nowait(command)

    async def post(self, command: Command) -> None:
        """Post a command, waiting while the mailbox is full. Cancelled before it is posted, it has no effect."""
        while not self.post_nowait(command):
            actor = self._directory.actor(self.store_id)
            if isinstance(actor, Refusal):
                continue
            try:
                await actor.mailbox.post(command)
            except Closed:
                continue  # the actor ended while we waited for room: the next one takes the command
            return

    # --- the commands, with their answers --------------------------------------------------------------------------

    async def push(
        self, batch: Batch, backend_id: str | None, request_id: bytes, origin: object, marks: Marks | None = None
    ) -> Accepted | Refusal:
        """Append a batch and wait for the answer. See `commands.Push`.

        Cancelled while waiting, only the wait ends: the batch may be stored and published all the same.
        """
        waiting: Waiting[Accepted] = Waiting()
        await self.post(Push(batch, backend_id, request_id, origin, waiting.reply, marks))
        return await waiting.wait()

    async def append(
        self,
        drafts: tuple[Draft, ...],
        user: str | None,
        expected: Cursor | None,
        origin: object,
        marks: Marks | None = None,
    ) -> Numbered | Refusal:
        """Append events without numbers and wait for the answer. See `commands.Append`.

        Cancelled while waiting, only the wait ends: they may be stored and published all the same.
        """
        waiting: Waiting[Numbered] = Waiting()
        await self.post(Append(drafts, user, expected, origin, waiting.reply, marks))
        return await waiting.wait()

    async def register(self, cursor: Cursor | None, follower: Follower | None) -> Registered | Refusal:
        """Register a pull and wait for the answer. See `commands.Register`."""
        waiting: Waiting[Registered] = Waiting()
        await self.post(Register(cursor, follower, waiting.reply))
        return await waiting.wait()

    async def reset(self) -> LogState | Refusal:
        """Give the store a new identity and an empty log; gives the new state. See `commands.Reset`."""
        waiting: Waiting[LogState] = Waiting()
        await self.post(Reset(waiting.reply))
        return await waiting.wait()

    async def delete(self) -> NoStore | Refusal:
        """Let there be no such store. Whoever asks it for anything afterwards makes a new one."""
        answer = await self.alter(Delete(self.store_id))
        assert isinstance(answer, NoStore | Refusal)
        return answer

    async def freeze(self, *, frozen: bool) -> LogState | Refusal:
        """Let the store take no more events, or take them again; gives its state. Makes it where there is none."""
        answer = await self.alter(lambda _: Freeze(self.store_id, frozen))
        if isinstance(answer, NoStore):  # another server was first
            return Refusal(Kind.NO_SUCH_STORE, f"There is no store {self.store_id[:80]!r} any more.")
        assert isinstance(answer, LogState | Refusal)
        return answer

    async def rename(self, to: StoreId) -> LogState | Refusal:
        """Give the store another name, under which there must be no events; gives its state there.

        Raises:
            StorageUnavailable, StoreDamaged: nothing was changed.
        """
        there = await self._directory.readers.summary(to)
        taken = Refusal(Kind.ALREADY_THERE, f"There is a store {to[:80]!r} with events in it. Nothing was changed.")
        if there is not None and there.state.event_count:
            return taken
        replacing = None if there is None else there.state
        answer = await self.alter(lambda log: Adopt(to, self.store_id, log, log.backend_id, replacing))
        if isinstance(answer, Refusal):
            return answer
        if not isinstance(answer, Appended):
            return taken  # it came into being, or was pushed to, just now
        running = self._directory.running(to)
        if running is not None and not running.tell(answer.state) and replacing is not None:
            running.doubt(replacing)  # its mailbox is full: it looks before it carries out the next command
        return answer.state

    async def alter(self, decide: Callable[[LogState], StoreWrite | Refusal] | Delete) -> StoreOutcome | Refusal:
        """Change the store as a whole. See `commands.Alter`."""
        waiting: Waiting[StoreOutcome] = Waiting()
        await self.post(Alter(decide, waiting.reply))
        return await waiting.wait()

    async def inspect(self) -> LogState | Refusal:
        """The state of the log, in order with everything posted before."""
        waiting: Waiting[LogState] = Waiting()
        await self.post(Inspect(waiting.reply))
        return await waiting.wait()

    def push_nowait(
        self,
        batch: Batch,
        backend_id: str | None,
        request_id: bytes,
        origin: object,
        receive: Callable[[Accepted | Refusal], None],
    ) -> bool:
        """Append a batch; `receive` gets the answer, called by the actor. False: the mailbox is full, nothing done."""
        return self.post_nowait(Push(batch, backend_id, request_id, origin, Reply(receive)))

    # --- beside the mailbox ----------------------------------------------------------------------------------------

    async def pages(self, log: LogState, after: int, up_to: int, render: Render) -> Sequence[Page]:
        """Read history. See `History.pages`.

        A log that is gone is doubted where it came from, so that who registers again is not sent to it once more.
        """
        try:
            return await self._directory.history.pages(log, after, up_to, render)
        except LogReplaced:
            actor = self._directory.running(self.store_id)
            if actor is not None:
                actor.doubt(log)
            raise

    async def read(self, log: LogState, after: int) -> list[StoredEvent]:
        """The next events of a log. See `Readers.read`."""
        return await self._directory.readers.read(log, after, log.head)

    async def summary(self) -> StoreSummary | None:
        """What is durably kept about the store; None while nobody has used it. See `base.Reader.summary`."""
        return await self._directory.readers.summary(self.store_id)

    def leave(self, follower: Follower) -> None:
        """Stop following."""
        actor = self._directory.running(self.store_id)
        if actor is not None:
            actor.followers.discard(follower)
