"""The one way of a push from a client to its store, whatever it came by.

Check the batch → may they push → charge them → pause → ask the hooks → may they still push → store → tell. Connections,
single HTTP requests and whoever else pushes for a client go through these steps; how they wait, and how they answer, is
theirs. An `Appender` does it for programs that are no LiveStore clients.
"""

import secrets
from typing import Any, Final

import attrs
import msgspec
import trio

from livesync_trio.access.client import Client
from livesync_trio.connection.client_hooks import ClientHooks
from livesync_trio.connection.context import ServerContext, may_log, tell_of_push, user_to_store
from livesync_trio.errors import Refusal
from livesync_trio.limits import APPEND_ID_RANDOM_BYTES, PUSH_PATIENCE_S
from livesync_trio.model import Batch, Cursor, Draft
from livesync_trio.rules.admission import check_batch
from livesync_trio.store.commands import Accepted, Numbered, Push, Reply
from livesync_trio.store.handle import StoreHandle
from livesync_trio.telemetry import Marks, get_logger
from livesync_trio.wire.messages import Generation, PushRequest, RequestId

_log = get_logger("connection")


def refusal_to_misfit(shared: ServerContext, client: Client, request: PushRequest, *, strictly: bool) -> Refusal | None:
    """The refusal of a push that does not fit, if such are refused; else it is logged and counted.

    `strictly`: it is no LiveStore client's, so that it is refused whatever the operator wants of theirs.
    """
    if shared.schemas is None or (shared.schemas_of_pushes == "off" and not strictly):
        return None
    refusal = shared.schemas.refusal_of_events(request.events)
    if refusal is None or strictly or shared.schemas_of_pushes == "refuse":
        return refusal
    shared.counters.pushes_misfitting += 1
    if may_log(shared, client.context, "misfit"):
        _log.warning(
            "a push does not fit the schemas of events",
            store=client.context.store_id,
            peer=client.context.client_address,
            reason=refusal.message,
        )
    return None


class OpenPush(msgspec.Struct, eq=False):
    """A push that is not finished.

    Attributes:
        request: what was asked.
        interrupted: the client gave it up and wants no answer.
        answered: it was acknowledged ahead of its broadcast (0.3).
        not_before_s: until when it must wait because it came too fast, on Trio's clock; 0 for no pause.
        batch: its events, with who pushed them.
        marks: when it passed which stage, if anybody wants to know.
        annotation: what the push hook returned for it.
        held_bytes: what it counts for while it is under way.
    """

    request: PushRequest
    batch: Batch
    interrupted: bool = False
    answered: bool = False
    not_before_s: float = 0.0
    marks: Marks | None = None
    annotation: Any = None
    held_bytes: int = 0


class Pushing:
    """The pushes of one client, over one connection or HTTP request."""

    __slots__ = ("_client", "_hooks", "_shared", "_transport", "asks", "tells")

    def __init__(self, hooks: ClientHooks, shared: ServerContext, transport: str) -> None:
        """Holds nothing.

        Args:
            hooks: the hooks, for this client.
            shared: what all connections share.
            transport: what they came by, for whoever wants to know: `context.HTTP` or `context.WEBSOCKET`.
        """
        self._hooks = hooks
        self.asks = hooks.asks_to_push
        """Whether a hook is asked before each push; a connection keeps the hooks with which it was opened."""
        self.tells = hooks.tells_push_results
        """Whether a hook observes what became of pushes."""
        self._client: Client = hooks.client
        self._shared = shared
        self._transport = transport

    def begin(self, request: PushRequest, patience_s: float, *, numbered: bool = True) -> OpenPush | Refusal:
        """Check a push as far as that needs neither hooks nor store, and charge it.

        Args:
            request: with at least one event.
            patience_s: the longest pause that the client takes without giving up.
            numbered: False for events that get their numbers from the store: there is no chain to check.
        """
        now_s = self._shared.turns.now_s or trio.current_time()
        marks = Marks() if self._shared.watch.on else None
        refusal = check_batch(request.events) if numbered else None
        refusal = refusal or self._client.refusal_to_push(now_s)
        if refusal is None and self._shared.schemas is not None:
            refusal = refusal_to_misfit(self._shared, self._client, request, strictly=not numbered)
        if refusal is not None:
            return refusal
        pause_s = self._client.charge(request, patience_s, now_s)
        if isinstance(pause_s, Refusal):
            return pause_s
        user = user_to_store(self._client.context) if self._shared.store_user else None
        not_before_s = now_s + pause_s if pause_s else 0.0
        return OpenPush(request, Batch(request.events, user), not_before_s=not_before_s, marks=marks)

    def must_wait(self, push: OpenPush) -> bool:
        """Whether `allowed` must be asked before it goes to the store."""
        return self.asks or push.not_before_s > 0

    async def allowed(self, push: OpenPush) -> Refusal | None:
        """Wait out the pause, ask the hooks, and look whether the client may still push; why not, if it may not.

        No hook is asked about a push that was interrupted meanwhile, which nobody makes any more.
        """
        if push.not_before_s:
            await trio.sleep_until(push.not_before_s)
        if push.interrupted:
            return None
        refusal, push.annotation = await self._hooks.may(push.request)
        return refusal or self._client.refusal_to_push(trio.current_time())  # the token may have expired meanwhile

    def command(self, push: OpenPush, origin: object, reply: Reply[Accepted]) -> Push:
        """What the store is asked. `origin`: whose push it is, compared by identity only."""
        request = push.request
        return Push(push.batch, request.backend_id, request.id.json, origin, reply, push.marks)

    def note(self, push: OpenPush, answer: Accepted | Refusal) -> None:
        """It was answered: tell whoever watches pushes."""
        if push.marks is not None:
            context, watch = self._client.context, self._shared.watch
            tell_of_push(watch, context, push.request, answer, push.marks, transport=self._transport)

    async def tell(self, push: OpenPush, answer: Accepted | Refusal) -> None:
        """Tell the hook that observes."""
        await self._hooks.tell_push_result(push.request, answer, push.annotation)


_ID: Final = RequestId(b'"append"', Generation.PLAIN)
"""An append has no id of a request; hooks and the log are shown this."""


class NewIds:
    """Makes ids that no event has, for one request: a random name for all its events, and a number for each."""

    __slots__ = ("_made", "_name")

    def __init__(self) -> None:
        """Nothing random is asked for before an event needs it."""
        self._name = ""
        self._made = 0

    def __call__(self) -> str:
        """The next id."""
        self._name = self._name or secrets.token_urlsafe(APPEND_ID_RANDOM_BYTES)
        self._made += 1
        return f"{self._name}.{self._made}"


@attrs.frozen
class Appender:
    """Takes appends, over HTTP and on WebSockets alike.

    Attributes:
        shared: what all connections share.
        client: who appends.
        handle: the store.
        transport: what it came by: `context.HTTP` or `context.WEBSOCKET`.
    """

    shared: ServerContext
    client: Client
    handle: StoreHandle
    transport: str

    async def append(self, drafts: tuple[Draft, ...], expected: Cursor | None) -> Numbered | Refusal:
        """Append events in the name of the client; waits until they are durable, or refused."""
        events = tuple([draft.numbered(0, 0) for draft in drafts])
        pushing = Pushing(ClientHooks(self.shared.hooks, self.client), self.shared, self.transport)
        push = pushing.begin(PushRequest(_ID, None, None, events, None), PUSH_PATIENCE_S, numbered=False)
        if isinstance(push, Refusal):
            return push
        if pushing.must_wait(push):
            refusal = await pushing.allowed(push)
            if refusal is not None:
                return refusal
        answer = await self.handle.append(drafts, push.batch.user, expected, self, push.marks)
        told = answer if isinstance(answer, Refusal) else Accepted(answer.state)
        pushing.note(push, told)
        if pushing.tells:
            if not isinstance(answer, Refusal):
                numbered = zip(drafts, answer.seq_nums, strict=True)
                events = tuple([draft.numbered(number, number - 1) for draft, number in numbered])
                push.request = msgspec.structs.replace(push.request, events=events)
            await pushing.tell(push, told)
        return answer
