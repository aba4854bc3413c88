"""A peer that uses one store: its open pushes and pulls, and the order in which they are served.

Requests are served in the order in which they came. The reader hands them to the store itself; only when a hook must be
asked first, or the store's mailbox is full, they queue for a worker task, so that a Ping is answered all the same
(invariant 7). What the messages mean is decided by the subclasses `RpcPeer` (0.4 and next) and `V3Peer` (0.3).
"""

import abc
from typing import Any

import attrs
import trio

from livesync_trio.access.client import Client
from livesync_trio.connection.asking import Asking
from livesync_trio.connection.channel import Channel
from livesync_trio.connection.live import Pull
from livesync_trio.connection.peer import Peer, Surroundings
from livesync_trio.connection.recording import WEBSOCKET, note_refusal, tell_of_push, user_to_store
from livesync_trio.errors import Kind, Refusal, ServerAhead
from livesync_trio.limits import PUSH_PATIENCE_S, REQUESTS_PER_CONNECTION_MAX
from livesync_trio.model import Batch, text_bytes
from livesync_trio.rules.admission import check_batch
from livesync_trio.store.commands import Accepted, Push, Reply
from livesync_trio.store.handle import StoreHandle
from livesync_trio.telemetry import Marks
from livesync_trio.wire.messages import PullRequest, PushRequest, RequestId


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


class StorePeer(Peer):
    """A client of a store."""

    push_patience_s = PUSH_PATIENCE_S

    def __init__(self, channel: Channel, handle: StoreHandle, client: Client, surroundings: Surroundings) -> None:
        """As `Peer`; `handle` is the store of the connection's URL."""
        super().__init__(channel, client, surroundings)
        self.handle = handle
        self.asking = Asking(surroundings.hooks, client)
        self.pull_tasks = 0
        self._open: dict[bytes, OpenPush | OpenPull] = {}
        self._queue: list[OpenPush | OpenPull] = []  # short, and a deque holds 760 bytes when it is empty
        self._working = False

    # --- what the generation decides -------------------------------------------------------------------------------

    @abc.abstractmethod
    def send_refusal(self, request_id: RequestId, refusal: Refusal) -> None:
        """Queue the refusal of a request."""

    @abc.abstractmethod
    def acknowledge(self, request_id: RequestId) -> None:
        """Queue the acknowledgement of a push."""

    def on_server_ahead(self) -> None:
        """A push was told that the server is ahead."""

    # --- its end ---------------------------------------------------------------------------------------------------

    def on_end(self) -> None:
        """The peer has gone: its pulls end, and nothing new is begun for it."""
        for request in tuple(self._open.values()):
            if isinstance(request, OpenPull):
                request.pull.close()
        self._open.clear()

    def let_go(self) -> None:
        """See `Peer`; what still queues is forgotten."""
        super().let_go()
        for request in self._queue:
            if isinstance(request, OpenPush):
                self._push_ended(request)

    # --- requests --------------------------------------------------------------------------------------------------

    def open_request(self, request: OpenPush | OpenPull) -> None:
        """Take on a request, unless too much is open already, and serve it in its turn."""
        refusal = self._too_much(request)
        if refusal is not None:
            self.refuse(request.request.id, refusal)
            return
        self._open[request.request.id.json] = request
        if isinstance(request, OpenPush):
            request.size_bytes = text_bytes(request.request.events)
            self.unanswered.take(request.size_bytes)
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

    def _push_ended(self, push: OpenPush) -> None:
        """A push was answered, refused or forgotten: its bytes are ours no more."""
        size_bytes, push.size_bytes = push.size_bytes, 0
        if size_bytes:
            self.unanswered.give_back(size_bytes)

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

    def refuse(self, request_id: RequestId, refusal: Refusal) -> None:
        """Refuse a request: note it, answer it."""
        note_refusal(self.surroundings, self.asking.context, refusal, connection=self.number, request=request_id.text)
        self.send_refusal(request_id, refusal)
        if refusal.kind is Kind.TOKEN_EXPIRED:
            self.on_expired()
