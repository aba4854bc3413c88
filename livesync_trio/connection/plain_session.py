"""What is spoken in the plain dialect on one WebSocket: who the client is, its requests in order, its subscription.

    CONNECTED ──► AUTHENTICATING ──► AUTHENTICATED ──► SYNCING ──► SYNCED ──► SYNCING (it fell behind) …

Owns no connection: `plain_peer` has one for it, `either_peer` finds out from the first message whether it is wanted.
"""

import enum
from collections.abc import Awaitable, Callable, Sequence

import trio

from livesync_trio.access.client import Client
from livesync_trio.connection.channel import Incoming
from livesync_trio.connection.client_hooks import ClientHooks
from livesync_trio.connection.context import WEBSOCKET, note_refusal, record
from livesync_trio.connection.peer import Peer
from livesync_trio.connection.pulling import Pull
from livesync_trio.connection.pushing import Appender, NewIds
from livesync_trio.errors import (
    BackendIdMismatch,
    Kind,
    LogReplaced,
    Refusal,
    StorageUnavailable,
    StoreDamaged,
)
from livesync_trio.limits import GUEST_MESSAGE_MAX_BYTES, READ_MAX_BYTES, REQUESTS_PER_CONNECTION_MAX
from livesync_trio.memory import Budget
from livesync_trio.model import BackendId, Cursor, LogState, Page, Publication, StoredEvent
from livesync_trio.openapi import moment_read
from livesync_trio.storage.chain import server_time
from livesync_trio.store.commands import DAMAGED, UNAVAILABLE
from livesync_trio.store.handle import StoreHandle
from livesync_trio.wire import dialect
from livesync_trio.wire.events import PAGE_OVERHEAD_BYTES, RPC_ITEM_OVERHEAD_BYTES, pages
from livesync_trio.wire.messages import Generation, PullRequest, RequestId
from livesync_trio.wire.plain import plain_items

Admit = Callable[[str], Awaitable[Client | Refusal]]
"""Has a client with this token admitted."""

AUTH_FIRST = Refusal(Kind.UNAUTHENTICATED, 'This server wants a token first: {"type":"auth","token":…}.')
_PULL = RequestId(b'"pull"', Generation.PLAIN)


class Sync(enum.Enum):
    """How far a session is."""

    CONNECTED = enum.auto()
    AUTHENTICATING = enum.auto()
    AUTHENTICATED = enum.auto()
    SYNCING = enum.auto()
    SYNCED = enum.auto()


class PlainSession:
    """One client of the dialect."""

    def __init__(self, peer: Peer, handle: StoreHandle, admit: Admit, *, known: bool) -> None:
        """Nothing is begun before the first message.

        Args:
            peer: the connection.
            handle: the store of its URL.
            admit: admits a client that sends a token.
            known: whether the peer's client was admitted already; else it can only send a token.
        """
        self.peer = peer
        self.handle = handle
        self.outbox = peer.outbox
        self.pull_tasks = 0
        self.state = Sync.AUTHENTICATED if known else Sync.CONNECTED
        self._admit = admit
        self._admitted: Client | None = None  # by a token of a message: released here, not by who runs the peer
        self._queue: list[tuple[dialect.Message, int]] = []
        self._working = False
        self.live: PlainPull | None = None

    # --- what a pull asks of its carrier ---------------------------------------------------------------------------

    @property
    def sending(self) -> Budget:
        """See `pulling.Carrier`."""
        return self.peer.sending

    def start_task(self, work: Callable[..., object]) -> None:
        """See `pulling.Carrier`."""
        self.peer.start_task(work)  # type: ignore[arg-type]

    def worth_a_line(self, what: str) -> bool:
        """See `pulling.Carrier`."""
        return self.peer.worth_a_line(what)

    # --- messages --------------------------------------------------------------------------------------------------

    def on_message(self, incoming: Incoming) -> None:
        """Act on one message: pings at once, everything else in its turn."""
        if self.state is Sync.CONNECTED and len(incoming.data) > GUEST_MESSAGE_MAX_BYTES:
            self.peer.close(Kind.UNAUTHENTICATED)
            return
        try:
            message = dialect.decode(incoming.data, NewIds())
        except dialect.BadMessage as bad:
            self._refuse(bad.id, Refusal(Kind.INVALID_REQUEST, f"The message cannot be read: {str(bad)[:300]}."))
            return
        if isinstance(message, dialect.Ping):
            if message.wants_answer:
                self.outbox.put(dialect.PONG)
            return
        if self.state in (Sync.CONNECTED, Sync.AUTHENTICATING) and not isinstance(message, dialect.Auth):
            self._refuse(message.id, AUTH_FIRST)
            return
        if len(self._queue) >= REQUESTS_PER_CONNECTION_MAX:
            self._refuse(message.id, Refusal(Kind.TOO_MANY_REQUESTS, "Too many requests are waiting. Try again."))
            return
        size_bytes = len(incoming.data)
        self.peer.unanswered.take(size_bytes)
        self._queue.append((message, size_bytes))
        if not self._working:
            self._working = True
            self.peer.start_task(self._work_off)

    async def _work_off(self) -> None:
        """Serve what is queued, one after the other."""
        try:
            while self._queue:
                message, size_bytes = self._queue.pop(0)
                try:
                    await self._serve(message)
                finally:
                    self.peer.unanswered.give_back(size_bytes)
        finally:
            self._working = False

    async def _serve(self, message: dialect.Message) -> None:
        match message:
            case dialect.Auth():
                await self._authenticate(message)
            case dialect.Push():
                await self._push(message)
            case dialect.Pull():
                await self._pull(message)
            case dialect.Unsubscribe():
                self._end_live()

    def end(self) -> None:
        """The connection ends."""
        self._end_live()
        for _, size_bytes in self._queue:
            self.peer.unanswered.give_back(size_bytes)
        self._queue.clear()
        if self._admitted is not None:
            self._admitted.release()

    def _end_live(self) -> None:
        if self.live is not None:
            self.live.close()
            self.live = None
            self.state = Sync.AUTHENTICATED

    def _refuse(self, request_id: bytes | None, refusal: Refusal) -> None:
        note_refusal(self.peer.shared, self.peer.client.context, refusal, connection=self.peer.number)
        self.outbox.put(dialect.error(request_id, refusal))
        if refusal.kind is Kind.TOKEN_EXPIRED:
            self.peer.close(Kind.TOKEN_EXPIRED)

    # --- requests --------------------------------------------------------------------------------------------------

    async def _authenticate(self, message: dialect.Auth) -> None:
        """Find out who it is; one that is known already may come with a fresh token."""
        before, self.state = self.state, Sync.AUTHENTICATING
        client = await self._admit(message.token)
        if isinstance(client, Refusal):
            self.state = before
            self._refuse(message.id, client)
            return
        if self._admitted is not None:
            self._admitted.release()
        self.peer.client = self._admitted = client
        self.state = Sync.AUTHENTICATED if before is Sync.CONNECTED else before
        record(self.peer.shared.audit, client.context, "connect")
        state = await self.handle.inspect()
        if isinstance(state, Refusal):
            self._refuse(message.id, state)
            return
        user = client.context.user
        self.outbox.put(dialect.session(message.id, None if user is None else user.id, state))

    async def _push(self, message: dialect.Push) -> None:
        expected = None
        if message.head is not None:
            expected = Cursor(message.head, None if message.backend_id is None else BackendId(message.backend_id))
        appender = Appender(self.peer.shared, self.peer.client, self.handle, WEBSOCKET)
        answer = await appender.append(message.drafts, expected)
        if isinstance(answer, Refusal):
            self._refuse(message.id, answer)
        else:
            self.outbox.put(dialect.ack(message.id, message.drafts, answer.seq_nums, answer.repeated, answer.state))

    async def _pull(self, message: dialect.Pull) -> None:
        asked = PullRequest(_PULL, None, None, message.live, message.after, message.backend_id)
        refusal = (await ClientHooks(self.peer.shared.hooks, self.peer.client).may(asked)).refusal
        if refusal is None and self.peer.client.expired(trio.current_time()):
            refusal = Refusal(Kind.TOKEN_EXPIRED, "The token has expired. Come back with a fresh one.")
        if refusal is not None:
            self._refuse(message.id, refusal)
            return
        try:
            await self._pull_admitted(message)
        except (StorageUnavailable, LogReplaced):
            self._refuse(message.id, UNAVAILABLE)
        except StoreDamaged:
            self._refuse(message.id, DAMAGED)
        except ValueError as error:
            self._refuse(message.id, Refusal(Kind.INVALID_REQUEST, f"`since` cannot be read: {error}."))

    async def _pull_admitted(self, message: dialect.Pull) -> None:
        state = await self.handle.inspect()
        if isinstance(state, Refusal):
            self._refuse(message.id, state)
            return
        if message.backend_id not in (None, state.backend_id):
            self._refuse(message.id, BackendIdMismatch.of(state.backend_id, str(message.backend_id)))
            return
        after = message.after
        if message.since is not None:
            after = await self._before(state, after, moment_read(message.since))
        if message.live:
            self._end_live()
            self.live = PlainPull(self, Cursor(after, state.backend_id), message.id)
            self.state = Sync.SYNCING
            await self.live.begin()
            return
        async with self.sending.reading():
            await self.sending.wait_for(READ_MAX_BYTES)
            try:
                events = await self.handle.read(state, after) if after < state.head else []
                self._answer(message, state, after, events[: message.limit])
                await self.outbox.low()
            finally:
                self.sending.give_back(READ_MAX_BYTES)

    def _answer(self, message: dialect.Pull, state: LogState, after: int, events: Sequence[StoredEvent]) -> None:
        seen = events[-1].seq_num if events else after
        following = b"null" if seen >= state.head else b"%d" % seen
        more = b',"next":%b,"head":%d,"backendId":%b' % (following, state.head, dialect.quoted(state.backend_id))
        self.outbox.put(dialect.events(message.id, plain_items(events), server_time(), more))

    async def _before(self, state: LogState, after: int, moment: str) -> int:
        """The number of the last event before the first one that was appended at a moment or later."""
        while after < state.head:
            for event in await self.handle.read(state, after):
                if event.created_at >= moment:
                    return after
                after = event.seq_num
        return after


class PlainPull(Pull):
    """A subscription in `events` messages."""

    __slots__ = ("_request_id", "_session")

    def __init__(self, session: PlainSession, cursor: Cursor, request_id: bytes | None) -> None:
        super().__init__(session, cursor, live=True)
        self._session = session
        self._request_id = request_id

    @staticmethod
    def render(events: Sequence[StoredEvent]) -> Sequence[Page]:
        """Pages of events in their plain form."""
        cut = pages(events, RPC_ITEM_OVERHEAD_BYTES, PAGE_OVERHEAD_BYTES)
        return [Page(plain_items(page), page[-1].seq_num, page[-1].ordinal) for page in cut]

    async def send_page(self, page: Page, remaining: int, state: LogState, *, live: bool) -> None:
        """A page of history; `remaining` events follow it."""
        more = b',"remaining":%d,"backendId":%b' % (remaining, dialect.quoted(state.backend_id))
        self._outbox.put(dialect.events(self._request_id, page.items, server_time(), more))

    def send_empty(self, state: LogState) -> None:
        """There is no history."""
        more = b',"remaining":0,"backendId":%b' % dialect.quoted(state.backend_id)
        self._outbox.put(dialect.events(self._request_id, b"", server_time(), more))

    def send_publication(self, publication: Publication) -> None:
        """A broadcast, made once for all."""
        made: bytes | None = publication.encoded.get("plain")
        if made is None:
            more = b',"remaining":0,"backendId":%b' % dialect.quoted(publication.state.backend_id)
            items = plain_items(publication.events)
            made = dialect.events(None, items, publication.events[-1].created_at, more)
            publication.encoded["plain"] = made
        self._outbox.put(made)

    def log_lost(self, refusal: BackendIdMismatch) -> None:
        """Tell it, and go on with the log that is there now."""
        self._outbox.put(dialect.reset(refusal.expected))
        self._session.state = Sync.SYNCING
        self.start_over(BackendId(refusal.expected))

    def wake(self) -> None:
        """See `Pull`; there is something to catch up with."""
        self._session.state = Sync.SYNCING
        super().wake()

    def _arrive(self, state: LogState) -> None:
        super()._arrive(state)
        self._session.state = Sync.SYNCED
