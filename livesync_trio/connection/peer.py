"""One connection, whatever it speaks: its tasks, its outbox, its liveness, and its end.

Owns the reader of a connection and the order in which it ends. Knows no store: `StorePeer` adds the requests to one,
and what the messages mean is decided by the classes below that. `peers.Peers` runs it.
"""

import abc
import enum
import itertools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import trio

from livesync_trio.access.client import Client
from livesync_trio.connection import frame_log
from livesync_trio.connection.channel import Channel, ChannelEnded, Incoming
from livesync_trio.connection.context import ServerContext, may_log
from livesync_trio.connection.outbox import Outbox, nobody
from livesync_trio.errors import RULES, Kind
from livesync_trio.limits import (
    CLOSE_REASON_MAX_BYTES,
    MESSAGE_LARGE_BYTES,
    OUTBOX_SHARE_BYTES,
    PUSHES_SHARE_BYTES,
    PUSHES_UNDER_WAY_MAX_BYTES,
)
from livesync_trio.memory import Budget, Memory
from livesync_trio.supervision import Tasks, open_tasks
from livesync_trio.telemetry import get_logger


class Unanswered:
    """Bytes of requests under way: each is taken once and given back once, whatever becomes of it."""

    __slots__ = ("_lot", "_memory", "held_bytes")

    def __init__(self, memory: Memory) -> None:
        """`memory`: the budgets of the server."""
        self._memory = memory
        self.held_bytes = 0
        self._lot: trio.lowlevel.ParkingLot | None = None  # while the reader waits: an idle peer holds none

    @property
    def too_much(self) -> bool:
        """Whether nothing more may be read before something is answered."""
        if self.held_bytes < PUSHES_SHARE_BYTES:
            return False
        return self.held_bytes >= PUSHES_UNDER_WAY_MAX_BYTES or self._memory.received.over

    def take(self, size_bytes: int) -> None:
        """A request of that size is under way."""
        self.held_bytes += size_bytes
        budget = self._memory.received if size_bytes <= MESSAGE_LARGE_BYTES else self._memory.received_large
        budget.used_bytes += size_bytes  # what is held already

    def give_back(self, size_bytes: int) -> None:
        """It was answered, refused or forgotten."""
        self.held_bytes -= size_bytes
        budget = self._memory.received if size_bytes <= MESSAGE_LARGE_BYTES else self._memory.received_large
        budget.give_back(size_bytes)
        if self._lot is not None:
            self._lot.unpark_all()

    async def not_too_much(self) -> None:
        """Wait while nothing more may be read. No checkpoint otherwise."""
        while self.too_much:
            self._lot = self._lot or trio.lowlevel.ParkingLot()
            await self._lot.park()
        self._lot = None


_log = get_logger("connection")
_numbers = itertools.count(1)


class Life(enum.Enum):
    """How far a connection is (drawn in docs/architecture.md)."""

    NEW = enum.auto()
    OPEN = enum.auto()
    ENDING = enum.auto()
    """Nothing more is read: its requests end, and what is queued is written."""
    OVER = enum.auto()


class Reader(Protocol):
    """Somebody who reads a log for a peer, as statistics see it: a `store.subscription.Subscription`."""

    @property
    def following(self) -> bool:
        """Whether it stands at the head."""

    @property
    def lag(self) -> int:
        """By how many numbers it is behind."""


class Peer(abc.ABC):
    """A connected client, whatever it speaks."""

    generation: str | None = None
    """What it speaks, as the control plane and the log call it; None until that is known."""

    def __init__(self, channel: Channel, client: Client, shared: ServerContext) -> None:
        """Nothing is started before `run`.

        Args:
            channel: the transport.
            client: who this is, and what they may do; released by whoever made it, when this has ended.
            shared: what all connections share.
        """
        self.number = next(_numbers)
        self.since_s = self.last_heard_s = trio.current_time()
        self.client = client
        self.shared = shared
        self.outbox = Outbox(channel, shared.memory.sending, self.number)
        self.unanswered = Unanswered(shared.memory)
        self._channel = channel
        self._logs = frame_log.wanted()
        self._life = Life.NEW
        self._reading = True  # False while we do not read, and so cannot judge the peer's silence
        self._tasks: Tasks | None = None  # while it is OPEN or ENDING
        self.start_outliving = self.start_task
        """Starts a task that goes on when the connection has ended; `Peers` puts its own here."""
        self.remind: Callable[[], None] = nobody
        """Has `on_reminder` called in a moment (`limits.REMINDER_S`); `Peers` puts its own here."""

    # --- what the protocol decides ---------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """What it is connected to: the log calls it the store."""
        return self.client.context.store_id

    async def prepare(self) -> None:  # noqa: B027 -- most have nothing to ask
        """Whatever must be asked before the client is told that the connection is open. Starts nothing."""

    @abc.abstractmethod
    def on_start(self) -> None:
        """The connection is open."""

    @abc.abstractmethod
    def on_message(self, incoming: Incoming) -> None:
        """Act on one message. Must not wait."""

    def on_end(self) -> None:  # noqa: B027 -- not everybody has something open
        """Nothing more is read: what was asked for ends, and nothing new may be begun."""

    def on_reminder(self) -> None:  # noqa: B027 -- most ask for none
        """The moment has come for which `remind` was called, and the connection is still there."""

    def on_expired(self) -> None:  # noqa: B027 -- not every protocol can be closed
        """The client's token has expired: the connection may be closed, if that brings the client back."""

    def pulls(self) -> Sequence[Reader]:
        """Who reads logs for it now."""
        return ()

    # --- life ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the peer until it goes, is closed, or this is cancelled. Never raises anything of ours."""
        async with open_tasks(f"connection {self.number}") as tasks:
            self._tasks, self._life = tasks, Life.OPEN
            self._channel.on_control = self.outbox.on_work
            try:
                self.on_start()
                await self._read()
            except Exception as error:
                self.shared.counters.connections_crashed += 1
                _log.error("connection crashed", connection=self.number, exc_info=error)
                self.close(Kind.INTERNAL)
            finally:
                self._life = Life.ENDING
                self.on_end()
            if not self.outbox.carried_on:
                await self._write()
        self._tasks, self._life = None, Life.OVER

    def let_go(self) -> None:
        """Called when it has ended: what leads back to it is undone, so that nothing waits for the garbage collector.

        Connections that end in a storm would leave it half a million objects, and everybody a pause of a second.
        """
        self.outbox.on_work = self._channel.on_control = self.remind = nobody
        self._channel.let_go()

    def flush(self) -> None:
        """Write what is queued; a task of the connection carries on with what the socket does not take at once."""
        if self._life is not Life.OPEN:
            return
        try:
            done = self.outbox.flush()
        except ChannelEnded:
            self.cut()
            return
        if not done:
            self.start_task(self._write)

    async def _write(self) -> None:
        """Carry on writing; when the connection was to be closed, or the peer has gone, that is its end."""
        await self.outbox.carry_on()
        if self.outbox.closing is not None:
            self.cut()

    def close(self, kind: Kind, reason: str | None = None) -> None:
        """Close the connection with the code of the table, after what is queued."""
        text = RULES[kind].meaning if reason is None else reason
        self.shared.counters.connections_closed[str(kind)] += 1
        if may_log(self.shared, self.client.context, str(kind)):
            _log.log(RULES[kind].log_level, "connection closed", connection=self.number, kind=str(kind), reason=text)
        self.outbox.close(kind, text.encode()[:CLOSE_REASON_MAX_BYTES].decode(errors="ignore"))

    def cut(self) -> None:
        """End the connection at once: whoever opened the stream closes it when the tasks have ended."""
        if self._tasks is not None:
            self._tasks.cancel()

    def start_task(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task that ends with the connection; none is started once that is ending."""
        if self._tasks is not None and self._life is Life.OPEN:
            self._tasks.start(work)

    # --- reading ---------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            while True:
                await self._channel.flow(self._take)
                self._reading = False
                await self.outbox.not_flooded()
                await self.unanswered.not_too_much()
                self._reading, self.last_heard_s = True, trio.current_time()
        except ChannelEnded as ended:
            if ended.kind is not None:
                self.close(ended.kind, str(ended))
            else:
                self.outbox.close(Kind.SERVICE_RESTART)  # the peer has gone: the code reaches nobody

    def _take(self, messages: list[Incoming]) -> bool:
        """Act on what arrived. False: nothing more may be read for now, because of what is queued or not answered."""
        if self._logs:
            frame_log.log_received(self.number, [message.data for message in messages])
        for incoming in messages:
            if self.outbox.closing is None:
                self.on_message(incoming)
        self.last_heard_s = self.shared.turns.now_s or trio.current_time()
        if self.outbox.queued_bytes < OUTBOX_SHARE_BYTES and self.unanswered.held_bytes < PUSHES_SHARE_BYTES:
            return True  # nearly always, without a call
        return not self.outbox.flooded and not self.unanswered.too_much

    # --- what `Peers` watches --------------------------------------------------------------------------------------

    def probe(self) -> None:
        """Ask a silent peer for a sign of life."""
        self._channel.probe()

    @property
    def silent_since_s(self) -> float:
        """When it was heard last; now, as long as we do not listen."""
        return self.last_heard_s if self._reading and not self._channel.held_back else trio.current_time()

    @property
    def overdue(self) -> bool:
        """Whether it holds memory that others wait for, and does not do its part."""
        late = self.sending.waiting and trio.current_time() > self.outbox.due_s
        return bool(late) or (self._reading and self._channel.overdue)

    @property
    def sending(self) -> Budget:
        """The server's budget for what is sent."""
        return self.shared.memory.sending

    def worth_a_line(self, what: str) -> bool:
        """Whether the log shall have another line of this kind about the store."""
        return self.shared.flood.allows(self.label, what, trio.current_time())
