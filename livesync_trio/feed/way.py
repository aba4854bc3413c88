"""The way of one client of the feed: initial state at one position, what came behind it, and then what comes.

```text
(comes) ──► INITIAL at P ──► CATCHING UP behind P ──► LIVE ──► … (its position is kept no more) ──► INITIAL
    ╰──────────────────────────────► CATCHING UP                   (it may see something else)  ──► INITIAL
```

Every step reads the history at its own pace, so that nobody waits for a slow client. Chunks of the first two wait for
their acknowledgement, and only the one for exactly this chunk counts.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from livesync_trio.errors import Kind, StorageUnavailable
from livesync_trio.feed.access import View
from livesync_trio.feed.actor import Feed
from livesync_trio.feed.following import Following
from livesync_trio.feed.history.reading import TooOld
from livesync_trio.feed.initial import send_initial
from livesync_trio.feed.messages import Dialect
from livesync_trio.feed.own import OwnWrites
from livesync_trio.feed.position import WHOLE, Position, Token
from livesync_trio.feed.standing import Standing
from livesync_trio.feed.talking import Talk
from livesync_trio.telemetry import get_logger

_log = get_logger("feed")

_AGAIN_S: Final = 5.0
"""Pause before the history is read again that could not be read."""

Step = Callable[[], Awaitable["Step"]]
"""What a client needs next, each told by the one before."""


@attrs.frozen
class Asked:
    """What a client has asked for.

    Attributes:
        client_id: its name for itself.
        token: where it stands.
        dialect: which messages it knows.
    """

    client_id: str
    token: Token
    dialect: Dialect


class Way:
    """Leads one client from what it asked for to the head, and along with it."""

    def __init__(  # noqa: PLR0917 - who, to whom, and what
        self, feed: Feed, talk: Talk, standing: Standing, asked: Asked, view: View, own: OwnWrites
    ) -> None:
        """Nothing is read yet. `own`: what the client wrote itself, and is not sent to it."""
        self._feed = feed
        self._talk = talk
        self._standing = standing
        self._asked = asked
        self._own = own
        self.view = view
        """What it may see."""
        self._scope = trio.CancelScope()
        self._sees_something_else = False

    def look_with(self, view: View) -> None:
        """From now on it may see what `view` says; if that is something else, it fetches anew."""
        other = view.fingerprint != self.view.fingerprint
        self.view = view
        if other:
            self._sees_something_else = True
            self._scope.cancel()

    async def go(self, worth_a_line: Callable[[str], bool]) -> None:
        """Go on until cancelled.

        Args:
            worth_a_line: whether the log shall have another line of some kind.

        Raises:
            NotAcknowledged, Taken, Full, BadFilter, StoreDamaged: it cannot go on.
        """
        await self._feed.until(lambda state: state.filled)
        step: Step = self._begin
        while True:
            with trio.CancelScope() as self._scope:
                try:
                    step = await step()
                except TooOld:
                    step = self._fetch_anew
                except StorageUnavailable as error:
                    if worth_a_line("history cannot be read"):
                        _log.warning("the history of the feed cannot be read", reason=str(error))
                    await trio.sleep(_AGAIN_S)
            if self._sees_something_else:
                self._sees_something_else = False
                step = self._fetch_anew

    async def _begin(self) -> Step:
        """Find out where it goes on."""
        state = await self._feed.look()
        token = self._asked.token
        wants_all = token.position.commit_lsn == 0
        can_go_on = await self._standing.arrive(state, self.view.fingerprint, wants_all=wants_all)
        if wants_all:
            return self._initial
        if can_go_on and token.epoch in (None, state.epoch) and await self._is_known(token.position):
            self._standing.moved_to(token.position)
            return self._catch_up
        return self._fetch_anew

    async def _is_known(self, position: Position) -> bool:
        """Whether a position is one that this history has given, and can go on from."""
        state = self._feed.state
        if position in (Position(state.floor_lsn), state.head):
            return True
        if not Position(state.floor_lsn) < position < state.head:
            return False
        commit = await self._feed.ask(lambda reader: reader.commit(position.commit_lsn))
        return commit is not None and (position.seq == WHOLE or position.seq < commit.changes)

    async def _fetch_anew(self) -> Step:
        message = "Your position is not part of this history, or the changes after it are no longer kept. Fetch anew."
        if self._standing.epoch == self._feed.state.epoch:
            message = "You may see other rows now, or your position is no longer kept. Fetch anew."
        self._talk.say("srv_error", code=str(Kind.REFETCH), message=message, error=message)
        self._standing.starts_over()
        return self._initial

    async def _initial(self) -> Step:
        await send_initial(self._feed, self._talk, self._standing, self.view)
        return self._catch_up

    async def _catch_up(self) -> Step:
        await self._following.catch_up()
        return self._live

    async def _live(self) -> Step:
        await self._following.live()
        return self._live

    @property
    def _following(self) -> Following:
        return Following(self._feed, self._talk, self._standing, self.view, self._own)
