"""A WebSocket peer of generation 0.4 or next (SPEC sections 3 and 4).

Owns what these generations' messages mean, and the care for clients whose live pull was orphaned (SPEC 3.6).
"""

import re
from functools import partial
from typing import Final

import trio

from livesync_trio.connection.channel import Incoming
from livesync_trio.connection.pulling import Pull, filled, rpc_chunks, rpc_history
from livesync_trio.connection.pushing import OpenPush
from livesync_trio.connection.store_peer import OpenPull, StorePeer
from livesync_trio.errors import BackendIdMismatch, Kind, Refusal
from livesync_trio.limits import ORPHAN_GRACE_S, ORPHAN_QUIET_S
from livesync_trio.model import BackendId, Cursor, LogState, Page, Publication
from livesync_trio.wire import rpc
from livesync_trio.wire.messages import (
    Ack,
    Eof,
    Generation,
    Interrupt,
    Invalid,
    Message,
    Ping,
    PingRequest,
    PullRequest,
    PushRequest,
    RequestId,
    Unintelligible,
)


class RpcPeer(StorePeer):
    """A client of 0.4 or next. Which of the two is known from its first request on."""

    _expecting = False
    _pulled = False
    _pings = 0
    _first_id: int | None = None

    def on_start(self) -> None:
        """Nothing to say first in this protocol."""
        self._channel.take_short = self._take_ack

    def _take_ack(self, text: bytes) -> bool:
        """Take an Ack of an open request, which says nothing but that the client is there.

        By far the most frequent messages: one for each chunk sent, most of them alone. When much is queued it is left
        to `_take`, which decides whether more may be read.
        """
        ack = _ACK_TEXT.fullmatch(text)
        if ack is None or ack[1] not in self._open or self.outbox.queued_bytes or self._logs:
            return False
        self.last_heard_s = self.shared.turns.now_s or trio.current_time()
        return True

    def on_message(self, incoming: Incoming) -> None:
        """Act on one message; binary frames with JSON are taken too (SPEC 3.2)."""
        if incoming.data == _PING_TEXT:
            self._on_ping()
            return
        ack = _ACK_TEXT.fullmatch(incoming.data)
        if ack is not None and ack[1] in self._open:
            return  # several that came together, or while much is queued
        for message in rpc.decode(incoming.data, "ws"):
            self._act(message)

    def _act(self, message: Message) -> None:
        match message:
            case Ping():
                self._on_ping()
            case PushRequest() if self._usable(message.id, message.store_id):
                self.accept_push(message)
            case PullRequest() if self._usable(message.id, message.store_id):
                self._pulled = True
                self.open_request(OpenPull(message, RpcPull(self, message)))
            case Ack():
                self._on_ack(message.id)
            case Interrupt():
                self._on_interrupt(message.id)
            case Invalid():
                self._meet(message.id)
                self.refuse(message.id, Refusal(message.kind, message.message))
            case Unintelligible():
                self.close(Kind.BAD_FRAME, message.message)
            case PushRequest() | PullRequest() | PingRequest() | Eof():
                pass  # answered by `_usable`, or nothing to answer

    def send_refusal(self, request_id: RequestId, refusal: Refusal) -> None:
        """An `Exit` with the typed error."""
        self.outbox.put(rpc.refused(request_id, refusal))

    def acknowledge(self, request_id: RequestId) -> None:
        """An `Exit` with success."""
        self.outbox.put(rpc.push_success(request_id))

    def on_expired(self) -> None:
        """Close: the client comes back by itself, with a fresh token if it has one (SPEC section 2).

        Not done to next, whose live pull would not survive it (SPEC section 4): it goes on reading.
        """
        if self.generation is not Generation.NEXT:
            self.close(Kind.TOKEN_EXPIRED)

    # --- requests --------------------------------------------------------------------------------------------------

    def _meet(self, request_id: RequestId) -> None:
        """Learn from a request id who the client is."""
        self.generation = request_id.generation
        number = int(request_id.json.strip(b'"'))
        if self._first_id is None or number < self._first_id:
            self._first_id = number

    def _usable(self, request_id: RequestId, store_id: str | None) -> bool:
        """Whether a request may be served; answers it when not."""
        self._meet(request_id)
        if request_id.json in self._open:
            self.close(Kind.ID_IN_USE, f"request id {request_id.text} is in use")
            return False
        if store_id is not None and store_id != self.handle.store_id:
            self.refuse(
                request_id,
                Refusal(Kind.STORE_MISMATCH, "The request names another store than the URL of its connection."),
            )
            return False
        return True

    def _on_interrupt(self, request_id: RequestId) -> None:
        """Forget a request. A push that is already with the store is stored and published all the same (SPEC 3.4)."""
        request = self.forget(request_id)
        if isinstance(request, OpenPull):
            request.pull.close()
            if request.request.live:
                self.shared.counters.live_pulls_abandoned += 1
        elif isinstance(request, OpenPush):
            request.interrupted = True
        self.outbox.put(rpc.interrupted(request_id))

    # --- orphaned pulls --------------------------------------------------------------------------------------------

    def on_reminder(self) -> None:
        """Say Pong once more to whoever has said nothing but one Ping.

        LiveStore's own command line waits five seconds for a Pong after that to its first Ping, and sends the next Ping
        after ten (SPEC 3.6).
        """
        if self._pings == 1 and self.generation is None:
            self.outbox.put(rpc.PONG)

    def _on_ping(self) -> None:
        self.outbox.put(rpc.PONG)
        self._pings += 1
        if self._pings == 1:
            self.remind()
        quiet = not self._pulled and not self._open
        if quiet and not self._expecting and trio.current_time() - self.since_s >= ORPHAN_QUIET_S:
            self._expecting = True  # the pull may be right behind the ping
            self.start_task(partial(self._expect_pull, "pinged without ever pulling"))

    def _on_ack(self, request_id: RequestId) -> None:
        """Acks are not needed for flow. One for a request from before this connection is an orphan's (#1365)."""
        if request_id.json in self._open:
            return
        if self._first_id is not None and int(request_id.text) >= self._first_id:
            return  # a late one, for a request that has ended here
        if request_id.generation is Generation.NEXT:
            # Closing would do no more than this, and is never done to next (SPEC section 4).
            self.refuse(request_id, Refusal(Kind.ORPHANED_PULL, "This connection does not serve that request."))
        else:
            self._wake_orphan(f"Ack for unknown request {request_id.text}")

    def on_server_ahead(self) -> None:
        """Whoever is told so needs a live pull to get on (SPEC section 2). Without one, it has probably lost it."""
        if not self._pulled:
            self.start_task(partial(self._expect_pull, "behind, and without a live pull"))

    async def _expect_pull(self, reason: str) -> None:
        await trio.sleep(ORPHAN_GRACE_S)
        if not self._pulled:
            self._wake_orphan(reason)

    def _wake_orphan(self, reason: str) -> None:
        """Close the connection, so that the client fails its lost pull and pulls again. Not done to next."""
        if self.generation is not Generation.NEXT:
            self.shared.counters.orphans_closed += 1
            self.close(Kind.ORPHANED_PULL, reason)


_PING_TEXT: Final = b'{"_tag":"Ping"}'
_ACK_TEXT: Final = re.compile(rb'\{"_tag":"Ack","requestId":("?[0-9]+"?)\}')
"""Ping and Ack as the real clients write them; written otherwise they are decoded like anything else."""


class RpcPull(Pull):
    """A pull in `Chunk`s (SPEC 3.3)."""

    __slots__ = ("_peer", "_request")
    render = staticmethod(rpc_history)

    def __init__(self, peer: RpcPeer, request: PullRequest) -> None:
        backend_id = None if request.backend_id is None else BackendId(request.backend_id)
        cursor = Cursor(request.after, backend_id)
        super().__init__(peer, cursor, live=request.live)
        self._peer = peer
        self._request = request

    async def send_page(self, page: Page, remaining: int, state: LogState, *, live: bool) -> None:
        """A `Chunk` with one page; the hook sees it first."""
        await self._peer.hooks.tell_page(self._request, page, remaining)
        if not self.over:
            empty = rpc.chunk(self._request.id, rpc.page(b"", remaining, state.backend_id))
            self._outbox.put(filled(empty, page.items))

    def send_empty(self, state: LogState) -> None:
        """The one empty page of a pull without history (SPEC 3.3, 3.)."""
        self._outbox.put(rpc.chunk(self._request.id, rpc.page(b"", 0, state.backend_id)))

    def send_publication(self, publication: Publication) -> None:
        """`Chunk`s whose pages are built once for all followers."""
        request_id = self._request.id
        for message in publication.encoded.get(request_id.json) or rpc_chunks(publication, request_id):
            self._outbox.put(message)

    def log_lost(self, refusal: BackendIdMismatch) -> None:
        """`Exit` with the error: the client must start over."""
        self.end()
        self._peer.forget(self._request.id)
        self._peer.refuse(self._request.id, refusal)

    def send_end(self) -> None:
        """`Exit` with success, for pulls that are not live only (SPEC section 2)."""
        self._peer.forget(self._request.id)
        self._outbox.put(rpc.pull_success(self._request.id))
