"""The one way of a push from a client to its store, whatever it came by.

Check the batch → may they push → charge them → pause → ask the hooks → may they still push → store → tell. Connections,
single HTTP requests and whoever else pushes for a client go through these steps; how they wait, and how they answer, is
theirs.
"""

from typing import Any

import attrs
import trio

from livesync_trio.access.client import Client
from livesync_trio.connection.asking import Asking
from livesync_trio.connection.fitting import refusal_to_misfit
from livesync_trio.connection.recording import tell_of_push, user_to_store
from livesync_trio.connection.surroundings import Surroundings
from livesync_trio.errors import Refusal
from livesync_trio.model import Batch
from livesync_trio.rules.admission import check_batch
from livesync_trio.store.commands import Accepted, Push, Reply
from livesync_trio.telemetry import Marks
from livesync_trio.wire.messages import PushRequest


@attrs.define(eq=False)
class OpenPush:
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

    __slots__ = ("_asking", "_asks", "_client", "_surroundings", "_transport", "tells")

    def __init__(self, asking: Asking, surroundings: Surroundings, transport: str) -> None:
        """Holds nothing.

        Args:
            asking: the hooks, for this client.
            surroundings: what all connections share.
            transport: what they came by, for whoever wants to know: `recording.HTTP` or `recording.WEBSOCKET`.
        """
        self._asking = asking
        self._asks = asking.asks_to_push  # a connection keeps the hooks with which it was opened
        self.tells = asking.tells_push_results
        """Whether a hook observes what became of pushes."""
        self._client: Client = asking.client
        self._surroundings = surroundings
        self._transport = transport

    def begin(self, request: PushRequest, patience_s: float, *, numbered: bool = True) -> OpenPush | Refusal:
        """Check a push as far as that needs neither hooks nor store, and charge it.

        Args:
            request: with at least one event.
            patience_s: the longest pause that the client takes without giving up.
            numbered: False for events that get their numbers from the store: there is no chain to check.
        """
        now_s = trio.current_time()
        marks = Marks() if self._surroundings.watch.on else None
        refusal = check_batch(request.events) if numbered else None
        refusal = (
            refusal
            or self._client.refusal_to_push(now_s)
            or refusal_to_misfit(self._surroundings, self._client, request)
        )
        if refusal is not None:
            return refusal
        pause_s = self._client.charge(request, patience_s, now_s)
        if isinstance(pause_s, Refusal):
            return pause_s
        user = user_to_store(self._client.context) if self._surroundings.store_user else None
        not_before_s = now_s + pause_s if pause_s else 0.0
        return OpenPush(request, Batch(request.events, user), not_before_s=not_before_s, marks=marks)

    def must_wait(self, push: OpenPush) -> bool:
        """Whether `allowed` must be asked before it goes to the store."""
        return self._asks or push.not_before_s > 0

    async def allowed(self, push: OpenPush) -> Refusal | None:
        """Wait out the pause, ask the hooks, and look whether the client may still push; why not, if it may not.

        No hook is asked about a push that was interrupted meanwhile, which nobody makes any more.
        """
        if push.not_before_s:
            await trio.sleep_until(push.not_before_s)
        if push.interrupted:
            return None
        refusal, push.annotation = await self._asking.may(push.request)
        return refusal or self._client.refusal_to_push(trio.current_time())  # the token may have expired meanwhile

    def command(self, push: OpenPush, origin: object, reply: Reply[Accepted]) -> Push:
        """What the store is asked. `origin`: whose push it is, compared by identity only."""
        request = push.request
        return Push(push.batch, request.backend_id, request.id.json, origin, reply, push.marks)

    def note(self, push: OpenPush, answer: Accepted | Refusal) -> None:
        """It was answered: tell whoever watches pushes."""
        if push.marks is not None:
            context, watch = self._client.context, self._surroundings.watch
            tell_of_push(watch, context, push.request, answer, push.marks, transport=self._transport)

    async def tell(self, push: OpenPush, answer: Accepted | Refusal) -> None:
        """Tell the hook that observes."""
        await self._asking.tell_push_result(push.request, answer, push.annotation)
