"""Where one client hands in what it wants to write: message after message, each answered.

The client is told that its message came (`srv_changes_received`), and when all is done what became of it
(`srv_changes_applied`): at which place in the order of commits its changes are, and which of them lost. The answer goes
out before anything that was committed behind.
"""

from collections import deque
from datetime import UTC, datetime
from typing import Any, Final

import attrs
import trio

from livesync_trio.access.client import EXPIRED
from livesync_trio.connection.peer import Peer
from livesync_trio.errors import Kind, Refusal, StorageUnavailable
from livesync_trio.feed.actor import Feed
from livesync_trio.feed.conversation import Conversation
from livesync_trio.feed.echoes import OwnWrites
from livesync_trio.feed.messages import Incoming, wire_name
from livesync_trio.feed.position import lsn_text
from livesync_trio.feed.subscription import Subscription
from livesync_trio.feed.writes.applying import Outcome
from livesync_trio.feed.writes.parsing import Write, WriteRefused, ids_of, read
from livesync_trio.feed.writes.source import SourceWriter
from livesync_trio.limits import PUSH_PATIENCE_S
from livesync_trio.telemetry import get_logger

FEED_WRITES_WAITING: Final = 16
"""Messages of one client that wait for the one that is carried out."""

FEED_WRITE_SEEN_S: Final = 10.0
"""How long is waited for a commit to be stored by the feed before the client is answered without its place."""

_log = get_logger("feed")


@attrs.frozen
class _Message:
    id: str | None
    writes: list[Write]
    size_bytes: int


class WriteSession:
    """Takes the messages of one client."""

    def __init__(  # noqa: PLR0917 - whose it is, and where it leads
        self,
        peer: Peer,
        conversation: Conversation,
        subscription: Subscription,
        own: OwnWrites,
        feed: Feed,
        writer: SourceWriter,
    ) -> None:
        """Nothing is taken yet. `own` is told what is written, `subscription` knows what the client may do."""
        self._peer = peer
        self._conversation = conversation
        self._subscription = subscription
        self._own = own
        self._feed = feed
        self._writer = writer
        self._waiting: deque[_Message] = deque()
        self._busy = False

    def take(self, incoming: Incoming) -> None:
        """Take a message; never waits. Whatever it is, it is answered."""
        message_id, given = incoming.messageId, bytes(incoming.changes)
        refusal = EXPIRED if self._peer.client.expired(trio.current_time()) else None
        if refusal is None and len(self._waiting) >= FEED_WRITES_WAITING:
            refusal = Refusal(Kind.TOO_FAST, f"{FEED_WRITES_WAITING} messages wait already: wait for their answers.")
        if refusal is not None:
            self._refuse(message_id, refusal.kind, refusal.message)
            return
        try:
            writes = read(given, self._subscription.view, self._feed.state.tables, datetime.now(UTC))
        except WriteRefused as refused:
            self._refuse(message_id, refused.kind, str(refused), refused.change)
            return
        self._conversation.say("srv_changes_received", changeIds=ids_of(writes), inReplyTo=message_id)
        self._peer.unanswered.take(len(given))
        self._waiting.append(_Message(message_id, writes, len(given)))
        if not self._busy:
            self._busy = True
            self._peer.start_task(self._work)

    def close(self) -> None:
        """The connection has ended: what waits is forgotten, unanswered."""
        while self._waiting:
            self._peer.unanswered.give_back(self._waiting.popleft().size_bytes)

    async def _work(self) -> None:
        while self._waiting:
            message = self._waiting.popleft()
            try:
                await self._apply(message)
            finally:
                self._own.forget_unanswered()
                self._peer.unanswered.give_back(message.size_bytes)
        self._busy = False

    async def _apply(self, message: _Message) -> None:
        try:
            await self._charge(message)
            before_lsn = self._feed.state.head_lsn
            outcome = await self._writer.write(message.writes, self._subscription.view, self._expect)
        except WriteRefused as refused:
            if refused.__cause__ is not None and self._peer.worth_a_line("write refused"):
                _log.warning("what a client may write cannot be determined", reason=str(refused.__cause__))
            self._refuse(message.id, refused.kind, str(refused), refused.change)
            return
        except StorageUnavailable as error:
            if self._peer.worth_a_line("source not written"):
                _log.warning("the source cannot be written to", reason=str(error.__cause__ or error))
            self._refuse(message.id, Kind.STORAGE_UNAVAILABLE, str(error))
            return
        lsn = None if outcome.xid is None else await self._place_of(outcome.xid & 0xFFFFFFFF, before_lsn)
        self._answer(message, outcome, lsn)

    async def _charge(self, message: _Message) -> None:
        meter = self._peer.client.meter
        if meter is not None:
            charged = meter.charge(len(message.writes), message.size_bytes, PUSH_PATIENCE_S, trio.current_time())
            if isinstance(charged, Refusal):
                raise WriteRefused(charged.message, kind=charged.kind)
            await trio.sleep(charged)

    def _expect(self, outcome: Outcome) -> None:
        assert outcome.xid is not None
        self._own.expect(outcome.xid & 0xFFFFFFFF, outcome.rows)

    async def _place_of(self, xid: int, after_lsn: int) -> int | None:
        """Where a transaction was committed; None when the feed has not stored it in time."""
        with trio.move_on_after(FEED_WRITE_SEEN_S):
            while True:
                head_lsn = self._feed.state.head_lsn
                try:
                    lsn = await self._feed.ask(lambda reader: reader.commit_of(xid, after_lsn))
                except StorageUnavailable:
                    return None
                if lsn is not None:
                    return lsn
                await self._feed.until(lambda state, seen=head_lsn: state.head_lsn != seen)  # type: ignore[misc]
        return None

    # --- answers ---------------------------------------------------------------------------------------------------

    def _answer(self, message: _Message, outcome: Outcome, lsn: int | None) -> None:
        conflicts = [
            {
                "change": conflict.write.number,
                "table": wire_name(conflict.write.relation.table),
                "id": conflict.write.id,
                "reason": conflict.reason,
            }
            for conflict in outcome.conflicts
        ]
        self._conversation.say(
            "srv_changes_applied",
            appliedChanges=ids_of(outcome.applied),
            success=True,
            conflicts=conflicts,
            txid=None if outcome.xid is None else str(outcome.xid),
            lsn=None if lsn is None else lsn_text(lsn),
            inReplyTo=message.id,
        )
        if outcome.xid is not None:
            self._own.answer(outcome.xid & 0xFFFFFFFF)

    def _refuse(self, message_id: str | None, kind: Kind, words: str, change: int | None = None) -> None:
        told: dict[str, Any] = {"code": str(kind), "error": words, "message": words, "inReplyTo": message_id}
        if change is not None:
            told["change"] = change
        self._conversation.say("srv_changes_applied", appliedChanges=[], success=False, conflicts=[], **told)
