"""Appends of programs that are no LiveStore clients: checked, charged and asked for as a push is, then stored."""

import secrets
from collections.abc import Sequence
from typing import Final

import attrs
import trio

from livesync_trio.access.client import Client
from livesync_trio.connection.asking import Asking
from livesync_trio.connection.recording import user_to_store
from livesync_trio.connection.surroundings import Surroundings
from livesync_trio.errors import Refusal
from livesync_trio.limits import APPEND_ID_RANDOM_BYTES, PUSH_PATIENCE_S
from livesync_trio.model import Cursor, Draft
from livesync_trio.store.commands import Accepted, Numbered
from livesync_trio.store.handle import StoreHandle
from livesync_trio.wire.messages import Generation, PushRequest, RequestId

_ID: Final = RequestId(b'"append"', Generation.PLAIN)
"""An append has no id of a request; hooks and the log are shown this."""


def new_id() -> str:
    """An id that no event has."""
    return secrets.token_urlsafe(APPEND_ID_RANDOM_BYTES)


@attrs.frozen
class Appender:
    """Takes appends, over HTTP and on WebSockets alike.

    Attributes:
        surroundings: what all connections share.
        client: who appends.
        handle: the store.
    """

    surroundings: Surroundings
    client: Client
    handle: StoreHandle

    async def append(self, drafts: tuple[Draft, ...], expected: Cursor | None) -> Numbered | Refusal:
        """Append events in the name of the client; waits until they are durable, or refused."""
        now_s, client = trio.current_time(), self.client
        shown = PushRequest(_ID, None, None, tuple(draft.numbered(0, 0) for draft in drafts), None)
        refusal = client.refusal_to_push(now_s)
        if refusal is None and self.surroundings.schemas is not None:
            refusal = self.surroundings.schemas.refusal_of_drafts(drafts)
        if refusal is not None:
            return refusal
        pause_s = client.charge(shown, PUSH_PATIENCE_S, now_s)
        if isinstance(pause_s, Refusal):
            return pause_s
        if pause_s:
            await trio.sleep(pause_s)
        asking = Asking(self.surroundings.hooks, client)
        refusal, annotation = await asking.may(shown)
        refusal = refusal or client.refusal_to_push(trio.current_time())  # it may have waited for long
        if refusal is not None:
            return refusal
        user = user_to_store(client.context) if self.surroundings.store_user else None
        answer = await self.handle.append(drafts, user, expected, self)
        if asking.tells_push_results:
            told = answer if isinstance(answer, Refusal) else Accepted(answer.state)
            numbers: Sequence[int] = [0] * len(drafts) if isinstance(answer, Refusal) else answer.seq_nums
            events = tuple(draft.numbered(number, number - 1) for draft, number in zip(drafts, numbers, strict=True))
            await asking.tell_push_result(attrs.evolve(shown, events=events), told, annotation)
        return answer
