"""Appends of programs that are no LiveStore clients: checked, charged and asked for as a push is, then stored."""

import secrets
from typing import Final

import attrs

from livesync_trio.access.client import Client
from livesync_trio.connection.asking import Asking
from livesync_trio.connection.pushing import Pushing
from livesync_trio.connection.surroundings import Surroundings
from livesync_trio.errors import Refusal
from livesync_trio.limits import APPEND_ID_RANDOM_BYTES, PUSH_PATIENCE_S
from livesync_trio.model import Cursor, Draft
from livesync_trio.store.commands import Accepted, Numbered
from livesync_trio.store.handle import StoreHandle
from livesync_trio.wire.messages import Generation, PushRequest, RequestId

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
        surroundings: what all connections share.
        client: who appends.
        handle: the store.
        transport: what it came by: `recording.HTTP` or `recording.WEBSOCKET`.
    """

    surroundings: Surroundings
    client: Client
    handle: StoreHandle
    transport: str

    async def append(self, drafts: tuple[Draft, ...], expected: Cursor | None) -> Numbered | Refusal:
        """Append events in the name of the client; waits until they are durable, or refused."""
        events = tuple([draft.numbered(0, 0) for draft in drafts])
        pushing = Pushing(Asking(self.surroundings.hooks, self.client), self.surroundings, self.transport)
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
                push.request = attrs.evolve(push.request, events=events)
            await pushing.tell(push, told)
        return answer
