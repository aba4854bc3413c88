"""The subscription of one client: initial state at one position, what came behind it, and then what comes.

```text
(comes) ──► INITIAL at P ──► CATCHING UP behind P ──► LIVE ──► … (its position is kept no more) ──► INITIAL
    ╰──────────────────────────────► CATCHING UP                   (it may see something else)  ──► INITIAL
```

Every step reads the history at its own pace, so that nobody waits for a slow client. Chunks of the first two wait for
their acknowledgement, and only the one for exactly this chunk counts.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import attrs
import msgspec
import trio

from livesync_trio.errors import Kind, StorageUnavailable
from livesync_trio.feed import messages
from livesync_trio.feed.access import View
from livesync_trio.feed.actor import Feed
from livesync_trio.feed.clients import ClientState, Progress
from livesync_trio.feed.conversation import Conversation
from livesync_trio.feed.echoes import OwnWrites
from livesync_trio.feed.following import Following
from livesync_trio.feed.history.reading import Stored, TooOld
from livesync_trio.feed.limits import FEED_PAGE_BYTES, FEED_PAGE_CHANGES
from livesync_trio.feed.messages import Dialect
from livesync_trio.feed.position import WHOLE, Position, Token
from livesync_trio.telemetry import get_logger

FEED_INIT_ACK_S: Final = 300.0
"""How long a client may take to acknowledge a chunk, as in the original."""


async def send_initial(feed: Feed, conversation: Conversation, client: ClientState, view: View) -> None:
    """Send it, or what is left of it. Raises TooOld when that is kept no more, NotAcknowledged, StorageUnavailable."""
    state = feed.state
    progress = client.progress
    resumes = progress is not None and client.epoch == state.epoch and progress.lsn >= state.oldest_state_lsn
    if progress is None or not resumes:
        progress = Progress(state.head_lsn)
    client.takes_all(state, view.fingerprint, progress)
    at = Position(progress.lsn)
    if conversation.speaker.first:
        conversation.say("srv_state_change", state="initial", lsn=str(at))
    conversation.say("srv_init_start", serverLSN=f"{at} (resuming)" if resumes else str(at), epoch=state.epoch)
    for table in state.tables:
        if table in view.sights and table not in progress.done:
            progress = await _send_table(feed, conversation, client, view, table, progress)
    await conversation.say_and_wait(FEED_INIT_ACK_S, ("processed",), "srv_init_complete", serverLSN=str(at))
    client.sent = at
    client.moved_to(at)
    await client.note()


async def _send_table(  # noqa: PLR0917 - who, to whom, and what
    feed: Feed, conversation: Conversation, client: ClientState, view: View, table: str, progress: Progress
) -> Progress:
    name = conversation.speaker.table_in_sequence(table)
    after_key = progress.after_key if progress.table == table else ""
    is_new, total, now_us, epoch, lsn = True, 0, time.time_ns() // 1000, client.epoch, progress.lsn
    while True:
        await conversation.room()
        page = await _page(feed, epoch, table, lsn, after_key)
        changes = await _as_inserts(feed, epoch, view, page, now_us)
        if changes or (not page and is_new):  # also an empty table is told of
            is_new = False
            total += len(changes)
            chunk = conversation.next_chunk(name)
            await conversation.say_and_wait(
                FEED_INIT_ACK_S,
                ("init", name, chunk),
                "srv_init_changes",
                changes=changes,
                sequence={"table": name, "chunk": chunk, "total": total},
            )
        if not page:
            break
        after_key = page[-1].key
        progress = msgspec.structs.replace(progress, table=table, after_key=after_key)
        client.has_taken(progress)
        await client.note()
    progress = msgspec.structs.replace(progress, done=(*progress.done, table), table="", after_key="")
    client.has_taken(progress)
    await client.note()
    return progress


async def _page(feed: Feed, epoch: str, table: str, lsn: int, after_key: str) -> list[Stored]:
    return await feed.ask(lambda reader: reader.page(epoch, table, lsn, after_key, FEED_PAGE_CHANGES, FEED_PAGE_BYTES))


async def _as_inserts(feed: Feed, epoch: str, view: View, page: list[Stored], now_us: int) -> list[Mapping[str, Any]]:
    changes = []
    for stored in page:
        relation = await feed.relation(epoch, stored.relation)
        if view.sees(relation, stored.row):
            data = messages.data_of(relation, stored.row, view.columns(relation.table))
            updated = messages.updated_at(relation, stored.row, now_us)
            changes.append(messages.change(relation.table, "i", data, updated, None))
    return changes


_log = get_logger("feed")

_AGAIN_S: Final = 5.0
"""Pause before the history is read again that could not be read."""

Step = Callable[[], Awaitable["Step"]]
"""What a client needs next, each told by the one before."""


@attrs.frozen
class FeedRequest:
    """What a client has asked for.

    Attributes:
        client_id: its name for itself.
        token: where it stands.
        dialect: which messages it knows.
    """

    client_id: str
    token: Token
    dialect: Dialect


class Subscription:
    """Leads one client from what it asked for to the head, and along with it."""

    def __init__(  # noqa: PLR0917 - who, to whom, and what
        self,
        feed: Feed,
        conversation: Conversation,
        client: ClientState,
        asked: FeedRequest,
        view: View,
        own: OwnWrites,
    ) -> None:
        """Nothing is read yet. `own`: what the client wrote itself, and is not sent to it."""
        self._feed = feed
        self._conversation = conversation
        self._client = client
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
        can_go_on = await self._client.arrive(state, self.view.fingerprint, wants_all=wants_all)
        if wants_all:
            return self._initial
        if can_go_on and token.epoch in (None, state.epoch) and await self._is_known(token.position):
            self._client.moved_to(token.position)
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
        if self._client.epoch == self._feed.state.epoch:
            message = "You may see other rows now, or your position is no longer kept. Fetch anew."
        self._conversation.say("srv_error", code=str(Kind.REFETCH), message=message, error=message)
        self._client.starts_over()
        return self._initial

    async def _initial(self) -> Step:
        await send_initial(self._feed, self._conversation, self._client, self.view)
        return self._catch_up

    async def _catch_up(self) -> Step:
        await self._following.catch_up()
        return self._live

    async def _live(self) -> Step:
        await self._following.live()
        return self._live

    @property
    def _following(self) -> Following:
        return Following(self._feed, self._conversation, self._client, self.view, self._own)
