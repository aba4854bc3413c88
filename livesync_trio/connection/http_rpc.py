"""One RPC request over HTTP (SPEC 3.7): decode the body, ask the store, give the messages of the answer.

Owns no connection and no state; the transport frames the messages as one JSON array.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import attrs
import trio

from livesync_trio.access.client import Client
from livesync_trio.connection.client_hooks import ClientHooks
from livesync_trio.connection.context import HTTP, ServerContext, note_refusal
from livesync_trio.connection.pulling import rpc_history
from livesync_trio.connection.pushing import Pushing
from livesync_trio.errors import BackendIdMismatch, Kind, Refusal, TooFast
from livesync_trio.limits import HTTP_PULL_STORAGE_PATIENCE_S, PUSH_PATIENCE_S, READ_MAX_BYTES
from livesync_trio.model import BackendId, Cursor, LogState, Page, Publication
from livesync_trio.store.commands import UNAVAILABLE, Accepted, Waiting
from livesync_trio.store.handle import StoreHandle
from livesync_trio.store.subscription import AlikeSubscription, Phase
from livesync_trio.wire import rpc
from livesync_trio.wire.messages import (
    Invalid,
    Message,
    PingRequest,
    PullRequest,
    PushRequest,
    RequestId,
    Unintelligible,
)

OK = 200
BAD_REQUEST = 400


@attrs.frozen
class Answer:
    """What goes back.

    Attributes:
        status: HTTP status; the client looks at the body only.
        messages: messages of the JSON array, in order; an iterator where they are many, to be read to the end.
        retry_after_s: when to ask again what was asked too soon.
    """

    status: int
    messages: AsyncGenerator[bytes, None] | tuple[bytes, ...]
    retry_after_s: float | None = None


def refuse_all(body: bytes, refusal: Refusal) -> Answer:
    """Refuse a body as a whole, before anything in it is looked at but the ids, which the client waits for."""
    return _refusal_answer(_ids(rpc.decode(body, "http")) or rpc.first_id(body), refusal)


def _ids(messages: Sequence[Message]) -> list[RequestId]:
    """The ids of the requests that want an answer."""
    return [each.id for each in messages if isinstance(each, PushRequest | PullRequest | PingRequest | Invalid)]


def _too_many(messages: Sequence[Message], client: Client, max_pulls: int) -> Refusal | None:
    """Whether an array asks for more than as many single requests could: each of them is charged."""
    if len(messages) == 1:
        return None
    if sum(isinstance(each, PullRequest) for each in messages) > max_pulls:
        return Refusal(Kind.TOO_MANY_REQUESTS, f"One request may hold {max_pulls} pulls.")
    return client.charge_requests(len(messages) - 1)


def _refusal_answer(request_ids: Sequence[RequestId], refusal: Refusal) -> Answer:
    """A refusal that the client decodes into its reason, once for each request, with the status of the table."""
    refused = tuple(rpc.refused(request_id, refusal) for request_id in request_ids)
    retry_after_s = refusal.retry_after_s if isinstance(refusal, TooFast) else None
    return Answer(refusal.rule.http_status or BAD_REQUEST, refused or (rpc.defect(refusal.message),), retry_after_s)


async def serve(body: bytes, handle: StoreHandle, client: Client, shared: ServerContext) -> Answer:
    """Serve one body.

    Args:
        body: UTF-8 bytes: one request, or an array of some (next, SPEC section 4), served one after the other.
        handle: the store of the URL.
        client: who asks, and what they may do.
        shared: what all connections share.

    Returns:
        The answer; every request in it gets an `Exit`, without which the client would wait for ever (SPEC 3.7).
    """
    shared.counters.http_requests += 1
    messages = rpc.decode(body, "http")
    hooks = ClientHooks(shared.hooks, client)
    request = _Request(handle, hooks, Pushing(hooks, shared, HTTP), shared)
    too_many = _too_many(messages, client, shared.max_open_pulls)
    if too_many is not None:
        note_refusal(shared, client.context, too_many)
        return _refusal_answer(_ids(messages), too_many)
    answers = [await request.answer(message) for message in messages]
    if len(answers) == 1:
        return answers[0]
    retry_after_s = max((answer.retry_after_s for answer in answers if answer.retry_after_s is not None), default=None)
    return Answer(max(answer.status for answer in answers), _one_by_one(answers), retry_after_s)


async def _one_by_one(answers: Sequence[Answer]) -> AsyncGenerator[bytes, None]:
    """The messages of several answers as those of one."""
    for answer in answers:
        if isinstance(answer.messages, tuple):
            for message in answer.messages:
                yield message
        else:
            async with aclosing(answer.messages) as messages:
                async for message in messages:
                    yield message


@attrs.frozen
class _Request:
    """One request on its way through."""

    handle: StoreHandle
    hooks: ClientHooks
    pushing: Pushing
    shared: ServerContext

    async def answer(self, message: Message) -> Answer:
        match message:
            case PingRequest():
                return Answer(OK, (rpc.ping_success(message.id),))
            case PushRequest() | PullRequest() if message.store_id not in (None, self.handle.store_id):
                return self._refuse(
                    message.id, Refusal(Kind.STORE_MISMATCH, "The request names another store than its URL.")
                )
            case PushRequest():
                return await self._push(message)
            case PullRequest():
                return await self._pull(message)
            case Invalid():
                return self._refuse(message.id, Refusal(message.kind, message.message))
            case Unintelligible():
                return Answer(BAD_REQUEST, (rpc.defect(message.message),))
            case _:
                return Answer(BAD_REQUEST, (rpc.defect("this message has no answer over HTTP"),))

    async def _push(self, request: PushRequest) -> Answer:
        if not request.events:
            return Answer(OK, (rpc.push_success(request.id),))
        push = self.pushing.begin(request, PUSH_PATIENCE_S)
        if isinstance(push, Refusal):
            return self._refuse(request.id, push)
        if self.pushing.must_wait(push):
            refusal = await self.pushing.allowed(push)
            if refusal is not None:
                return self._refuse(request.id, refusal)
        waiting: Waiting[Accepted] = Waiting()
        await self.handle.post(self.pushing.command(push, self, waiting.reply))
        answer = await waiting.wait()
        self.pushing.note(push, answer)
        if self.pushing.tells:
            await self.pushing.tell(push, answer)
        if isinstance(answer, Refusal):
            return self._refuse(request.id, answer)
        return Answer(OK, (rpc.push_success(request.id),))

    async def _pull(self, request: PullRequest) -> Answer:
        refusal = (await self.hooks.may(request)).refusal
        if refusal is not None:
            return self._refuse(request.id, refusal)
        pull = HttpPull(self, request)
        await pull.settle()
        if pull.refusal is not None:
            return self._refuse(request.id, pull.refusal)
        return Answer(OK, pull.messages())

    def _refuse(self, request_id: RequestId, refusal: Refusal) -> Answer:
        note_refusal(self.shared, self.hooks.context, refusal, request=request_id.text)
        return _refusal_answer((request_id,), refusal)


class HttpPull(AlikeSubscription):
    """A pull whose answer ends at the head; its steps are carried out by whoever takes the messages."""

    render = staticmethod(rpc_history)

    def __init__(self, asked: _Request, request: PullRequest) -> None:
        backend_id = None if request.backend_id is None else BackendId(request.backend_id)
        super().__init__(asked.handle, Cursor(request.after, backend_id), live=False)
        self._asked = asked
        self._request = request
        self._queue: list[bytes | tuple[Page, int, BackendId]] = []
        self._sent = False
        self._patient_until_s = trio.current_time() + HTTP_PULL_STORAGE_PATIENCE_S
        self.refusal: Refusal | None = None
        """Why it has no answer."""

    async def settle(self) -> None:
        """Ask the store, waiting for storage a little: a failed poll ends the client's live pull (SPEC 3.7)."""
        with trio.move_on_at(self._patient_until_s) as patience:
            while self.phase in (Phase.ASKING, Phase.PAUSING):
                await self.advance()
        if patience.cancelled_caught:
            self._refuse(UNAVAILABLE)

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """The chunks up to the head, and the Exit. At most so many pages are held for all such answers together."""
        sending, held_bytes = self._asked.shared.memory.sending, 0
        try:
            while True:
                for queued in self._queue:
                    yield queued if isinstance(queued, bytes) else await self._shown(*queued)
                sending.give_back(held_bytes)
                held_bytes, self._queue = 0, []
                if self.over:
                    break
                if self.phase is not Phase.READING:
                    await self.advance()
                    continue
                async with sending.reads:
                    await sending.wait_for(READ_MAX_BYTES)
                    held_bytes = READ_MAX_BYTES
                    await self.advance()
                    more_bytes = max(0, self._queued_bytes() - held_bytes)  # a single event may be larger
                    sending.take(more_bytes)
                    held_bytes += more_bytes
            if self.refusal is not None:
                yield rpc.refused(self._request.id, self.refusal)
        finally:
            sending.give_back(held_bytes)
            self.end()

    def wake(self) -> None:
        """Nothing to do: who takes the messages carries out the steps."""

    def has_room(self, publication: Publication) -> bool:
        """It follows nothing."""
        return False

    def send_publication(self, publication: Publication) -> None:
        """It follows nothing."""

    async def send_page(self, page: Page, remaining: int, state: LogState, *, live: bool) -> None:
        """Queue it. The hook sees it when nobody waits for this reading to end: it may be slow."""
        self._queue.append((page, remaining, state.backend_id))
        self._sent = True
        self._patient_until_s = trio.current_time() + HTTP_PULL_STORAGE_PATIENCE_S

    async def _shown(self, page: Page, remaining: int, backend_id: BackendId) -> bytes:
        """A `Chunk` with one page; the hook sees it first."""
        await self._asked.hooks.tell_page(self._request, page, remaining)
        return rpc.chunk(self._request.id, rpc.page(page.items, remaining, backend_id))

    def _queued_bytes(self) -> int:
        return sum(len(queued) if isinstance(queued, bytes) else len(queued[0].items) for queued in self._queue)

    def send_empty(self, state: LogState) -> None:
        """The one empty page of a pull without history (SPEC 3.3, 3.)."""
        self._queue.append(rpc.chunk(self._request.id, rpc.page(b"", 0, state.backend_id)))

    def send_end(self) -> None:
        """`Exit` with success."""
        self._queue.append(rpc.pull_success(self._request.id))

    def log_lost(self, refusal: BackendIdMismatch) -> None:
        """`Exit` with the error: the store was reset, and the client must start over."""
        self._refuse(refusal)

    def troubled(self, refusal: Refusal) -> None:
        """A passing trouble is waited out for a while. Then the answer ends where it stands.

        The client asks on from there; a failed pull over HTTP would end its live pull for good (SPEC 3.7).
        """
        if refusal.kind is Kind.STORAGE_UNAVAILABLE and trio.current_time() < self._patient_until_s:
            return
        if refusal.kind is Kind.STORE_DAMAGED or not self._sent:
            self._refuse(refusal)
        else:
            self.end()
            self.send_end()

    def _refuse(self, refusal: Refusal) -> None:
        self.end()
        self.refusal = refusal
