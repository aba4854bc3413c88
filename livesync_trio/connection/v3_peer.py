"""A WebSocket peer of generation 0.3 (SPEC section 5).

Every 0.3 socket gets every broadcast, also one that never pulled, and it never asks again after a reconnect: hence a
pull from the head is opened for it on the start, replaced when it pulls itself.
"""

import hashlib
from contextlib import suppress
from typing import Final

import trio

from livesync_trio.connection.channel import Incoming
from livesync_trio.connection.context import record
from livesync_trio.connection.pulling import Pull, filled, v3_history, v3_message
from livesync_trio.connection.pushing import OpenPush
from livesync_trio.connection.store_peer import OpenPull, StorePeer
from livesync_trio.errors import BackendIdMismatch, Kind, Refusal, ServerAhead
from livesync_trio.limits import V3_PUSH_PATIENCE_S
from livesync_trio.model import Cursor, LogState, Page, Publication
from livesync_trio.store.commands import Inspect, Reply, Reset
from livesync_trio.wire import v3
from livesync_trio.wire.messages import (
    AdminInfo,
    AdminReset,
    Generation,
    Invalid,
    Message,
    Ping,
    PullRequest,
    PushRequest,
    RequestId,
)

_BROADCASTS: Final = PullRequest(RequestId(b'"broadcasts"', Generation.V3), None, None, True, 0, None)
"""What the pull hook is asked about a socket that has not pulled: may it have the store's broadcasts?"""


class V3Peer(StorePeer):
    """A client of 0.3."""

    generation: str | None = Generation.V3
    _stream: "V3Pull"
    _may_follow = True
    push_patience_s = V3_PUSH_PATIENCE_S

    async def prepare(self) -> None:
        """Ask the pull hook whether this socket may have the store's broadcasts, which it gets without pulling."""
        self._may_follow = (await self.hooks.may(_BROADCASTS)).refusal is None

    def on_start(self) -> None:
        """Follow the store from its head, wherever that is."""
        self._stream = V3Pull(self, _BROADCASTS)
        if self._may_follow and not self._stream.begin_nowait():
            self.start_task(self._stream.begin)

    def on_message(self, incoming: Incoming) -> None:
        """Act on one message. Binary frames and what cannot be understood are ignored (SPEC 5.2, 5.3)."""
        if incoming.text:
            self._act(v3.decode(incoming.data))

    def _act(self, message: Message) -> None:
        match message:
            case Ping():
                self.outbox.put(v3.pong(message))
            case PushRequest() if self._usable(message.id):
                self.accept_push(message)
            case PullRequest() if self._usable(message.id):
                self._open_stream(OpenPull(message, V3Pull(self, message)))
            case AdminReset() if self._is_admin(message.id, message.secret):
                self._reset(message.id)
            case AdminInfo() if self._is_admin(message.id, message.secret):
                self._inform(message.id)
            case Invalid():
                self.refuse(message.id, Refusal(message.kind, message.message))
            case _:
                pass

    def pulls(self) -> list[Pull]:
        """The one stream of the socket."""
        return [self._stream] if self._may_follow and not self._stream.over else []

    @property
    def _unended_pulls(self) -> int:
        """Streams that were closed a moment ago; the one that is replaced does not count."""
        return max(0, self.pull_tasks - 1)

    def _open_stream(self, opened: OpenPull) -> None:
        """A socket has one stream of events: a new pull takes the place of the one before, unless it is refused."""
        refusal = self._too_much(opened)
        if refusal is not None:
            self.refuse(opened.request.id, refusal)
            return
        assert isinstance(opened.pull, V3Pull)
        self._stream.close()
        self.forget(self._stream.request.id)
        self._stream = opened.pull
        self.open_request(opened)

    def _usable(self, request_id: RequestId) -> bool:
        """Whether the id is free, or its pull's own; 0.3 connections are kept open even so (SPEC 5.3, Reconnect)."""
        if isinstance(self._open.get(request_id.json), OpenPush):
            self.refuse(request_id, Refusal(Kind.INVALID_REQUEST, "A push with this requestId is still open."))
            return False
        return True

    def on_end(self) -> None:
        """See `Peer`; the stream ends as well."""
        self._stream.close()
        super().on_end()

    def let_go(self) -> None:
        """See `Peer`; the stream leads back to us as well."""
        super().let_go()
        with suppress(AttributeError):  # it ended before it began
            del self._stream

    def send_refusal(self, request_id: RequestId, refusal: Refusal) -> None:
        """`Error`; for a parent that is not the head with exactly the reference's text (SPEC 5.3)."""
        text = refusal.message
        if isinstance(refusal, ServerAhead):
            text = v3.parent_mismatch(refusal.head, refusal.provided)
        self.outbox.put(v3.error(request_id, text))

    def acknowledge(self, request_id: RequestId) -> None:
        """`PushAck`, unless the broadcast of the same push has brought it along already."""
        self.outbox.put(v3.push_ack(request_id))

    def acknowledge_early(self, publication: Publication) -> None:
        """The pusher gets its `PushAck` before the broadcast of its own batch (SPEC 5.3). The batch is durable."""
        request = self._open.get(publication.request_id)
        if publication.origin is self and isinstance(request, OpenPush) and not request.answered:
            request.answered = True
            self.acknowledge(request.request.id)

    # --- admin -----------------------------------------------------------------------------------------------------

    def _is_admin(self, request_id: RequestId, secret: str) -> bool:
        """Whether the secret is right; without one in the configuration there is no admin."""
        expected = self.shared.admin_secret
        attempts, host = self.shared.admin_attempts, self.hooks.context.client_host
        now_s = trio.current_time()
        refusal: Refusal | None = attempts.refusal(host, now_s)
        if refusal is None:
            if expected is not None and expected.matches(secret):
                return True
            attempts.failed(host, now_s)
            refusal = Refusal(Kind.NOT_ALLOWED, "Invalid admin secret")
        self.refuse(request_id, refusal)
        return False

    def _reset(self, request_id: RequestId) -> None:
        if (unrecorded := self.shared.audit.refusal) is not None:
            self.refuse(request_id, unrecorded)
            return
        record(self.shared.audit, self.hooks.context, "reset")

        def answered(answer: LogState | Refusal) -> None:
            if isinstance(answer, Refusal):
                self.refuse(request_id, answer)
            else:
                self.outbox.put(v3.admin_reset_res(request_id))

        command = Reset(Reply(answered))
        if not self.handle.post_nowait(command):
            self.start_task(lambda: self.handle.post(command))

    def _inform(self, request_id: RequestId) -> None:
        if (unrecorded := self.shared.audit.refusal) is not None:
            self.refuse(request_id, unrecorded)
            return
        record(self.shared.audit, self.hooks.context, "inspect")

        def answered(answer: LogState | Refusal) -> None:
            if isinstance(answer, Refusal):
                self.refuse(request_id, answer)
            else:
                object_id = hashlib.sha256(self.handle.store_id.encode()).hexdigest()
                self.outbox.put(v3.admin_info_res(request_id, object_id))

        command = Inspect(Reply(answered))
        if not self.handle.post_nowait(command):
            self.start_task(lambda: self.handle.post(command))


class V3Pull(Pull):
    """What a 0.3 socket receives: the answer to its PullReq, if it sent one, and then every broadcast."""

    __slots__ = ("_peer", "request")
    render = staticmethod(v3_history)

    def __init__(self, peer: V3Peer, request: PullRequest) -> None:
        """`request` is `_BROADCASTS` for what the socket gets before it pulls."""
        cursor = None if request is _BROADCASTS else Cursor(request.after, None)
        super().__init__(peer, cursor, live=True)
        self._peer = peer
        self.request = request

    async def send_page(self, page: Page, remaining: int, state: LogState, *, live: bool) -> None:
        """A page of the answer; beyond it, history looks like broadcasts (SPEC 5.3)."""
        if live or self.request is _BROADCASTS:
            self._outbox.put(filled(v3.pull_res(b"", 0, b"push", b'"catch-up"'), page.items))
            return
        await self._peer.hooks.tell_page(self.request, page, remaining)
        if not self.over:
            self._outbox.put(filled(v3.pull_res(b"", remaining, b"pull", self.request.id.json), page.items))

    def send_empty(self, state: LogState) -> None:
        """The empty answer of a pull without history."""
        if self.request is not _BROADCASTS:
            self._outbox.put(v3.pull_res(b"", 0, b"pull", self.request.id.json))

    def send_publication(self, publication: Publication) -> None:
        """One broadcast with the whole batch, built once for all."""
        self._peer.acknowledge_early(publication)
        self._outbox.put(v3_message(publication))

    def log_lost(self, refusal: BackendIdMismatch) -> None:
        """0.3 knows no identities: after a reset it is told nothing and gets what comes (SPEC 5.3, Admin).

        It is given the new log from its first event on, as the reference's broadcasts would: no hole in it at least.
        """
        self.start_over(None)
