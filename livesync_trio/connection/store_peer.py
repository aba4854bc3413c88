"""A peer that uses one store: its open pushes and pulls, and the order in which they are served.

Requests are served in the order in which they came. The reader hands them to the store itself; only when a hook must be
asked first, or the store's mailbox is full, they queue for a worker task, so that a Ping is answered all the same
(invariant 7). What the messages mean is decided by the subclasses `RpcPeer` (0.4 and next) and `V3Peer` (0.3).
"""

import abc
from functools import partial

import attrs

from livesync_trio.access.client import Client
from livesync_trio.connection.channel import Channel
from livesync_trio.connection.client_hooks import ClientHooks
from livesync_trio.connection.context import WEBSOCKET, ServerContext, note_refusal
from livesync_trio.connection.peer import Peer
from livesync_trio.connection.pulling import Pull
from livesync_trio.connection.pushing import OpenPush, Pushing
from livesync_trio.errors import Kind, Refusal, ServerAhead
from livesync_trio.limits import PUSH_PATIENCE_S, REQUESTS_PER_CONNECTION_MAX
from livesync_trio.store.commands import Accepted, Push, Reply
from livesync_trio.store.handle import StoreHandle
from livesync_trio.wire.messages import PullRequest, PushRequest, RequestId


@attrs.define(eq=False)
class OpenPull:
    """A pull that has not ended."""

    request: PullRequest
    pull: Pull


class StorePeer(Peer):
    """A client of a store."""

    push_patience_s = PUSH_PATIENCE_S

    def __init__(self, channel: Channel, handle: StoreHandle, client: Client, shared: ServerContext) -> None:
        """As `Peer`; `handle` is the store of the connection's URL."""
        super().__init__(channel, client, shared)
        self.handle = handle
        self.hooks = ClientHooks(shared.hooks, client)
        self.pushing = Pushing(self.hooks, shared, WEBSOCKET)
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
            request.held_bytes = request.batch.size_bytes
            self.unanswered.take(request.held_bytes)
            waits = self.pushing.asks or request.not_before_s > 0
        else:
            waits = self.hooks.asks_to_pull
        if self._queue or waits or not self._serve_nowait(request):
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
        if isinstance(request, OpenPull) and self._unended_pulls >= self.shared.max_open_pulls:
            return Refusal(Kind.TOO_MANY_REQUESTS, "Too many pulls are open on this connection.")
        return None

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
            refusal = await self.pushing.allowed(request)
        else:
            refusal = (await self.hooks.may(request.request)).refusal
        if refusal is not None:
            if isinstance(request, OpenPush):
                self._push_ended(request)
            if self.forget(request.request.id) is not None:
                self.refuse(request.request.id, refusal)
        elif isinstance(request, OpenPull):
            if not request.pull.over:
                await request.pull.begin()
        elif request.interrupted:
            self._push_ended(request)
        else:
            await self.handle.post(self._push_command(request))

    # --- pushes ----------------------------------------------------------------------------------------------------

    def accept_push(self, request: PushRequest) -> None:
        """Check a push as far as that needs no store, and take it on."""
        if not request.events:
            self.acknowledge(request.id)  # SPEC 3.4: no other check
            return
        push = self.pushing.begin(request, self.push_patience_s)
        if isinstance(push, Refusal):
            self.refuse(request.id, push)
        else:
            self.open_request(push)

    def _push_ended(self, push: OpenPush) -> None:
        """A push was answered, refused or forgotten: its bytes are ours no more."""
        held_bytes, push.held_bytes = push.held_bytes, 0
        if held_bytes:
            self.unanswered.give_back(held_bytes)

    def _push_command(self, push: OpenPush) -> Push:
        return self.pushing.command(push, self, Reply(partial(self._push_answered, push)))

    def _push_answered(self, push: OpenPush, answer: Accepted | Refusal) -> None:
        """Called by the actor: the push is durable and published, or refused."""
        self._push_ended(push)
        if push.marks is not None:
            self.pushing.note(push, answer)
        if self.pushing.tells:
            self.start_outliving(partial(self.pushing.tell, push, answer))
        request = push.request
        if push.interrupted:
            return
        self.forget(request.id)
        if isinstance(answer, Refusal):
            self.refuse(request.id, answer)
            if isinstance(answer, ServerAhead):
                self.on_server_ahead()
        elif not push.answered:
            self.acknowledge(request.id)

    def refuse(self, request_id: RequestId, refusal: Refusal) -> None:
        """Refuse a request: note it, answer it."""
        note_refusal(self.shared, self.hooks.context, refusal, connection=self.number, request=request_id.text)
        self.send_refusal(request_id, refusal)
        if refusal.kind is Kind.TOKEN_EXPIRED:
            self.on_expired()
