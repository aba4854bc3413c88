"""One peer on a WebSocket: its two tasks, its open requests, and its end.

Owns the reader of a connection, the table of open requests and the order in which they are served.
What the messages mean is decided by the subclasses `RpcPeer` (0.4 and next) and `V3Peer` (0.3).

Requests are served in the order in which they came. The reader hands them to the store itself; only when a hook must be
asked first, or the store's mailbox is full, they queue for a worker task, so that a Ping is answered all the same
(invariant 7).
"""

import abc
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import attrs
import trio

from livesync_trio.access.client import Client
from livesync_trio.audit import Audit
from livesync_trio.config import Secret
from livesync_trio.connection.asking import Asking
from livesync_trio.connection.channel import Channel, ChannelEnded, Incoming
from livesync_trio.connection.frame_log import logged
from livesync_trio.connection.live import Pull
from livesync_trio.connection.outbox import Outbox, nobody
from livesync_trio.connection.recording import WEBSOCKET, may_log, note_refusal, tell_of_push, user_to_store
from livesync_trio.connection.writing import Writing
from livesync_trio.errors import RULES, Kind, Refusal, ServerAhead
from livesync_trio.fairness import Attempts
from livesync_trio.hooks import HookRunner
from livesync_trio.limits import (
    CLOSE_REASON_MAX_BYTES,
    PUSH_PATIENCE_S,
    PUSHES_SHARE_BYTES,
    PUSHES_UNDER_WAY_MAX_BYTES,
    REQUESTS_PER_CONNECTION_MAX,
)
from livesync_trio.memory import Budget, Memory
from livesync_trio.model import Batch, text_bytes
from livesync_trio.rules.admission import check_batch
from livesync_trio.store.commands import Accepted, Push, Reply
from livesync_trio.store.handle import StoreHandle
from livesync_trio.supervision import Tasks, open_tasks
from livesync_trio.telemetry import Counters, Flood, Marks, PushWatch, get_logger
from livesync_trio.wire.messages import Generation, PullRequest, PushRequest, RequestId

_log = get_logger("connection")
_numbers = itertools.count(1)


@attrs.define(eq=False)
class Surroundings:
    """What every connection of a server shares. A reload of the configuration changes it (`reloading`).

    Attributes:
        hooks: runs the user's functions; a connection keeps those with which it was opened.
        counters: totals of the server.
        max_open_pulls: open pulls allowed on one connection.
        admin_secret: for the admin messages of 0.3; None switches them off.
        admin_attempts: wrong secrets so far, by address.
        audit: the record of who did what.
        flood: keeps repeated lines from filling the log.
        watch: whoever wants to know of each push.
        store_user: whether who pushed an event is stored beside it.
        memory: what all connections together may hold.
    """

    hooks: HookRunner
    counters: Counters
    max_open_pulls: int
    admin_secret: Secret | None = None
    admin_attempts: Attempts = attrs.field(factory=Attempts)
    audit: Audit = attrs.field(factory=Audit)
    flood: Flood = attrs.field(factory=Flood)
    watch: PushWatch = attrs.field(factory=PushWatch)
    store_user: bool = False
    memory: Memory = attrs.field(factory=Memory)


@attrs.define(eq=False)
class OpenPush:
    """A push that is not finished.

    Attributes:
        request: what was asked.
        interrupted: the client gave it up and wants no answer.
        answered: it was acknowledged ahead of its broadcast (0.3).
        not_before_s: until when it must wait because it came too fast, on Trio's clock.
        marks: when it passed which stage, if anybody wants to know.
        annotation: what the push hook returned for it.
        size_bytes: what it counts for while it is under way.
    """

    request: PushRequest
    interrupted: bool = False
    answered: bool = False
    not_before_s: float = 0.0
    marks: Marks | None = None
    annotation: Any = None
    size_bytes: int = 0


@attrs.define(eq=False)
class OpenPull:
    """A pull that has not ended."""

    request: PullRequest
    pull: Pull


class Peer(abc.ABC):
    """A connected client."""

    push_patience_s = PUSH_PATIENCE_S
    generation: Generation | None = None

    def __init__(
        self,
        channel: Channel,
        handle: StoreHandle,
        client: Client,
        surroundings: Surroundings,
    ) -> None:
        """Nothing is started before `run`.

        Args:
            channel: the transport.
            handle: the store of the connection's URL.
            client: who this is, and what they may do; released by whoever made it, when this has ended.
            surroundings: what all connections share.
        """
        self.number = next(_numbers)
        self.since_s = self.last_heard_s = trio.current_time()
        self.outbox = Outbox()
        self._channel = logged(channel, self.number)
        self._writing = Writing(self._channel, self.outbox, surroundings.memory.sending, self.number)
        self.handle = handle
        self.client = client
        self.asking = Asking(surroundings.hooks, client)
        self.surroundings = surroundings
        self._open: dict[bytes, OpenPush | OpenPull] = {}
        self._queue: list[OpenPush | OpenPull] = []  # short, and a deque holds 760 bytes when it is empty
        self._working = False
        self._ended = False
        self._reading = True  # False while we do not read, and so cannot judge the peer's silence
        self._pushing_bytes = 0  # of pushes that are not answered
        self._push_answered_lot: trio.lowlevel.ParkingLot | None = None  # while the reader waits for that
        self.pull_tasks = 0
        self._tasks: Tasks | None = None
        self.start_outliving = self.start_task
        """Starts a task that goes on when the connection has ended; `Peers` puts its own here."""

    # --- what the generation decides -------------------------------------------------------------------------------

    async def prepare(self) -> None:  # noqa: B027 -- most have nothing to ask
        """Whatever must be asked before the client is told that the connection is open. Starts nothing."""

    @abc.abstractmethod
    def on_start(self) -> None:
        """The connection is open."""

    @abc.abstractmethod
    def on_message(self, incoming: Incoming) -> None:
        """Act on one message. Must not wait."""

    @abc.abstractmethod
    def send_refusal(self, request_id: RequestId, refusal: Refusal) -> None:
        """Queue the refusal of a request."""

    @abc.abstractmethod
    def acknowledge(self, request_id: RequestId) -> None:
        """Queue the acknowledgement of a push."""

    # --- life ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the peer until it goes, is closed, or this is cancelled. Never raises anything of ours."""
        async with open_tasks(f"connection {self.number}") as tasks:
            self._tasks = tasks
            self._channel.on_control = self.outbox.on_work
            try:
                self.on_start()
                await self._read()
            except Exception as error:
                self.surroundings.counters.connections_crashed += 1
                _log.error("connection crashed", connection=self.number, exc_info=error)
                self.close(Kind.INTERNAL)
            finally:
                self._end_requests()
            if not self._writing.under_way:
                await self._write()
        self._tasks = None
        for request in self._queue:
            if isinstance(request, OpenPush):
                self._push_ended(request)

    def let_go(self) -> None:
        """Called when it has ended: what leads back to it is undone, so that nothing waits for the garbage collector.

        Connections that end in a storm would leave it half a million objects, and everybody a pause of a second.
        """
        self.outbox.on_work = self._channel.on_control = nobody
        self._channel.let_go()

    def flush(self) -> None:
        """Write what is queued; a task of the connection carries on with what the socket does not take at once."""
        if self._writing.under_way or self._ended or self._tasks is None:
            return
        try:
            if not self._writing.at_once():
                self._writing.under_way = True  # from now on, not only from the task's first step
                self._tasks.start(self._write)
        except ChannelEnded:
            self.cut()

    async def _write(self) -> None:
        """Carry on writing; when the connection was to be closed, or the peer has gone, that is its end."""
        await self._writing.carry_on()
        if self.outbox.closing is not None:
            self.cut()

    def _end_requests(self) -> None:
        """The peer has gone: its pulls end, and nothing new is begun for it."""
        self._ended = True
        for request in tuple(self._open.values()):
            if isinstance(request, OpenPull):
                request.pull.close()
        self._open.clear()

    def close(self, kind: Kind, reason: str | None = None) -> None:
        """Close the connection with the code of the table, after what is queued."""
        text = RULES[kind].meaning if reason is None else reason
        self.surroundings.counters.connections_closed[str(kind)] += 1
        if may_log(self.surroundings, self.asking.context, str(kind)):
            _log.log(RULES[kind].log_level, "connection closed", connection=self.number, kind=str(kind), reason=text)
        self.outbox.close(kind, text.encode()[:CLOSE_REASON_MAX_BYTES].decode(errors="ignore"))

    def worth_a_line(self, what: str) -> bool:
        """Whether the log shall have another line of this kind about the store."""
        return self.surroundings.flood.allows(self.handle.store_id, what, trio.current_time())

    def cut(self) -> None:
        """End the connection at once."""
        self._channel.cut()
        if self._tasks is not None:
            self._tasks.cancel()

    def probe(self) -> None:
        """Ask a silent peer for a sign of life."""
        self._channel.probe()

    def start_task(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task that ends with the connection."""
        if self._tasks is not None and not self._ended:
            self._tasks.start(work)

    @property
    def sending(self) -> Budget:
        """The server's budget for what is sent."""
        return self.surroundings.memory.sending

    @property
    def silent_since_s(self) -> float:
        """When it was heard last; now, as long as we do not listen."""
        return self.last_heard_s if self._reading and not self._channel.held_back else trio.current_time()

    @property
    def overdue(self) -> bool:
        """Whether it holds memory that others wait for, and does not do its part."""
        late = self.sending.waiting and trio.current_time() > self._writing.due_s
        return bool(late) or (self._reading and self._channel.overdue)

    async def _read(self) -> None:
        try:
            while True:
                await self._channel.flow(self._take)
                self._reading = False
                await self.outbox.not_flooded()
                while self._pushes_too_much:
                    self._push_answered_lot = self._push_answered_lot or trio.lowlevel.ParkingLot()
                    await self._push_answered_lot.park()
                self._reading, self.last_heard_s = True, trio.current_time()
        except ChannelEnded as ended:
            if ended.kind is not None:
                self.close(ended.kind, str(ended))
            else:
                self.outbox.close(Kind.SERVICE_RESTART)  # the peer has gone: the code reaches nobody

    def _take(self, messages: list[Incoming]) -> bool:
        """Act on what arrived. False: so much is queued for the peer that nothing more may be read from it."""
        for incoming in messages:
            if self.outbox.closing is None:
                self.on_message(incoming)
        self.last_heard_s = trio.current_time()
        return not self.outbox.flooded and not (self._pushing_bytes and self._pushes_too_much)

    @property
    def _pushes_too_much(self) -> bool:
        """Whether no more pushes may be read before some are answered."""
        if self._pushing_bytes < PUSHES_SHARE_BYTES:
            return False
        memory = self.surroundings.memory
        return self._pushing_bytes >= PUSHES_UNDER_WAY_MAX_BYTES or memory.received.over

    def _count_push(self, push: OpenPush, size_bytes: int) -> None:
        push.size_bytes = size_bytes
        self._pushing_bytes += size_bytes
        self.surroundings.memory.receiving(size_bytes).take(size_bytes)

    def _push_ended(self, push: OpenPush) -> None:
        """A push was answered, refused or forgotten: its bytes are ours no more."""
        size_bytes, push.size_bytes = push.size_bytes, 0
        if size_bytes:
            self._pushing_bytes -= size_bytes
            self.surroundings.memory.receiving(size_bytes).give_back(size_bytes)
            lot, self._push_answered_lot = self._push_answered_lot, None
            if lot is not None:
                lot.unpark_all()

    # --- requests --------------------------------------------------------------------------------------------------

    def open_request(self, request: OpenPush | OpenPull) -> None:
        """Take on a request, unless too much is open already, and serve it in its turn."""
        refusal = self._too_much(request)
        if refusal is not None:
            self.refuse(request.request.id, refusal)
            return
        self._open[request.request.id.json] = request
        if isinstance(request, OpenPush):
            self._count_push(request, text_bytes(request.request.events))
        if self._queue or self._must_wait(request) or not self._serve_nowait(request):
            self._queue.append(request)
            if not self._working:
                self._working = True
                self.start_task(self._work_off)

    def forget(self, request_id: RequestId) -> OpenPush | OpenPull | None:
        """Take a request out of the table; None when it is not open."""
        return self._open.pop(request_id.json, None)

    def pulls(self) -> list[Pull]:
        """The pulls that are sent for now."""
        return [request.pull for request in self._open.values() if isinstance(request, OpenPull)]

    @property
    def open_pulls(self) -> int:
        """Pulls that have not ended."""
        return sum(isinstance(request, OpenPull) for request in self._open.values())

    @property
    def _unended_pulls(self) -> int:
        """Open pulls, and tasks of pulls that were closed a moment ago."""
        if not self.pull_tasks:
            return self.open_pulls
        tasks = sum(isinstance(request, OpenPull) and request.pull.has_task for request in self._open.values())
        return self.open_pulls + self.pull_tasks - tasks

    def _too_much(self, request: OpenPush | OpenPull) -> Refusal | None:
        if len(self._queue) >= REQUESTS_PER_CONNECTION_MAX or len(self._open) >= 2 * REQUESTS_PER_CONNECTION_MAX:
            return Refusal(Kind.TOO_MANY_REQUESTS, "Too many requests of this connection are waiting. Try again.")
        if isinstance(request, OpenPull) and self._unended_pulls >= self.surroundings.max_open_pulls:
            return Refusal(Kind.TOO_MANY_REQUESTS, "Too many pulls are open on this connection.")
        return None

    def _must_wait(self, request: OpenPush | OpenPull) -> bool:
        return self.asking.must_ask(request.request) or (isinstance(request, OpenPush) and request.not_before_s > 0)

    def _serve_nowait(self, request: OpenPush | OpenPull) -> bool:
        """Hand a request to the store. False: its mailbox is full."""
        if isinstance(request, OpenPull):
            return request.pull.begin_nowait()
        return self.handle.post_nowait(self._push_command(request))

    async def _work_off(self) -> None:
        """Serve the queued requests in order, asking their hooks."""
        try:
            while self._queue:
                await self._serve(self._queue[0])
                del self._queue[0]
        finally:
            self._working = False

    async def _serve(self, request: OpenPush | OpenPull) -> None:
        if isinstance(request, OpenPush):
            await trio.sleep_until(request.not_before_s)
            if request.interrupted:  # while it was queued: no hook is asked about a push that nobody makes
                self._push_ended(request)
                return
        refusal, annotation = await self.asking.may(request.request)
        if refusal is None and isinstance(request, OpenPush):
            refusal = self.client.refusal_to_push(trio.current_time())  # the token may have expired meanwhile
        if refusal is not None:
            if isinstance(request, OpenPush):
                self._push_ended(request)
            if self.forget(request.request.id) is not None:
                self.refuse(request.request.id, refusal)
            return
        if isinstance(request, OpenPull):
            if not request.pull.over:
                await request.pull.begin()
        elif not request.interrupted:
            request.annotation = annotation
            await self.handle.post(self._push_command(request))
        else:
            self._push_ended(request)

    # --- pushes ----------------------------------------------------------------------------------------------------

    def accept_push(self, request: PushRequest) -> None:
        """Check a push as far as that needs no store, and take it on."""
        if not request.events:
            self.acknowledge(request.id)  # SPEC 3.4: no other check
            return
        now_s = trio.current_time()
        refusal = check_batch(request.events) or self.client.refusal_to_push(now_s)
        if refusal is not None:
            self.refuse(request.id, refusal)
            return
        pause_s = self.client.charge(request, self.push_patience_s, now_s)
        if isinstance(pause_s, Refusal):
            self.refuse(request.id, pause_s)
            return
        marks = Marks() if self.surroundings.watch.on else None
        self.open_request(OpenPush(request, not_before_s=now_s + pause_s if pause_s else 0.0, marks=marks))

    def _push_command(self, open_push: OpenPush) -> Push:
        request = open_push.request

        def answered(answer: Accepted | Refusal) -> None:
            self._push_answered(open_push, answer)

        user = user_to_store(self.asking.context) if self.surroundings.store_user else None
        batch, marks = Batch(request.events, user), open_push.marks
        return Push(batch, request.backend_id, request.id.json, self, Reply(answered), marks)

    def _push_answered(self, open_push: OpenPush, answer: Accepted | Refusal) -> None:
        """Called by the actor: the push is durable and published, or refused."""
        self._push_ended(open_push)
        request = open_push.request
        if open_push.marks is not None:
            watch, context = self.surroundings.watch, self.asking.context
            tell_of_push(watch, context, request, answer, open_push.marks, transport=WEBSOCKET)
        if self.asking.tells_push_results:
            self.start_outliving(lambda: self.asking.tell_push_result(request, answer, open_push.annotation))
        if open_push.interrupted:
            return
        self.forget(request.id)
        if isinstance(answer, Refusal):
            self.refuse(request.id, answer)
            if isinstance(answer, ServerAhead):
                self.on_server_ahead()
        elif not open_push.answered:
            self.acknowledge(request.id)

    def on_server_ahead(self) -> None:  # noqa: B027 -- not every generation cares
        """A push was told that the server is ahead."""

    def refuse(self, request_id: RequestId, refusal: Refusal) -> None:
        """Refuse a request: note it, answer it."""
        note_refusal(self.surroundings, self.asking.context, refusal, connection=self.number, request=request_id.text)
        self.send_refusal(request_id, refusal)
        if refusal.kind is Kind.TOKEN_EXPIRED:
            self.on_expired()

    def on_expired(self) -> None:  # noqa: B027 -- not every generation can be closed
        """The client's token has expired: the connection may be closed, if that brings the client back."""
