"""What a client of the feed gets behind its position: chunks that it acknowledges, then changes as they come."""

from collections.abc import Mapping
from typing import Any, Final

import trio

from livesync_trio.feed import messages
from livesync_trio.feed.access import View
from livesync_trio.feed.actor import Feed
from livesync_trio.feed.clients import ClientState
from livesync_trio.feed.conversation import Conversation
from livesync_trio.feed.echoes import OwnWrites
from livesync_trio.feed.history.reading import ChangePage, TooOld
from livesync_trio.feed.position import WHOLE, Position, lsn_text
from livesync_trio.feed.tables import Change, Relation

FEED_ADVANCE_S: Final = 60.0
"""How often a client that follows is told a newer position although nothing it may see has changed."""

FEED_CATCHUP_ACK_S: Final = 30.0
"""How long a client may take to acknowledge a chunk, as in the original."""


class Following:
    """Sends one client the changes that it may see, and says how far that is."""

    def __init__(self, feed: Feed, conversation: Conversation, client: ClientState, view: View, own: OwnWrites) -> None:
        """See `subscription.Subscription`."""
        self._feed = feed
        self._conversation = conversation
        self._client = client
        self._view = view
        self._own = own

    async def catch_up(self) -> None:
        """Send what was committed until now, each chunk when the one before was acknowledged.

        Raises:
            TooOld: it must fetch anew.
            NotAcknowledged, StorageUnavailable: it can go on later.
        """
        conversation, client = self._conversation, self._client
        position, head, epoch = client.position, self._feed.state.head, self._epoch_now()
        if position.seq == WHOLE:
            client.sent = position
        else:
            client.sent = Position(await self._feed.ask(lambda reader: reader.commit_before(position.commit_lsn)))
        beginning, count = client.sent, 0
        if conversation.speaker.first:
            conversation.say("srv_state_change", state="catchup" if position < head else "live", lsn=str(beginning))
        while position < head:
            await conversation.room()
            page = await self._feed.changes(epoch, position, head.commit_lsn)
            position = _behind(page) if page.changes else head
            changes = await self._seen_changes(epoch, page)
            client.sent = self._whole_before(page)
            if changes:
                chunk = conversation.next_chunk("catchup")
                count += len(changes)
                await conversation.say_and_wait(
                    FEED_CATCHUP_ACK_S,
                    ("catchup", chunk),
                    conversation.speaker.catchup_kind,
                    **self._described(page, changes, position),
                    sequence={"chunk": chunk, "total": count},
                )
            client.moved_to(position)
            if changes:
                await client.note()
        client.told = client.sent
        lsns = {"startLSN": str(beginning), "finalLSN": str(client.sent)}
        kind = conversation.speaker.completed_kind if count or conversation.speaker.first else "srv_live_start"
        conversation.say(kind, **lsns, changeCount=count, success=True, lastLSN=str(client.sent))
        await client.note()

    async def live(self) -> None:
        """Send what is committed next, without waiting for an acknowledgement. Raises TooOld, StorageUnavailable."""
        client = self._client
        position, epoch = client.position, self._epoch_now()
        if self._feed.state.head <= position:
            await self._wait_for_more(position)
            return
        await self._conversation.room()
        page = await self._feed.changes(epoch, position, self._feed.state.head_lsn)
        changes = await self._seen_changes(epoch, page)
        client.sent = max(client.sent, self._whole_before(page))
        client.position = _behind(page) if page.changes else self._feed.state.head
        if changes:
            client.told = client.sent
            sequence = {"chunk": 1, "total": len(changes)}
            told = self._described(page, changes, client.position)
            self._conversation.say(self._conversation.speaker.live_kind, **told, sequence=sequence)

    def _described(self, page: ChangePage, changes: list[Mapping[str, Any]], position: Position) -> dict[str, Any]:
        """`lastLSN` is behind a whole commit always; `position` may be inside of one, then `whole` is false."""
        last = str(self._client.sent)
        return {"changes": changes, "lastLSN": last, "position": str(position), "whole": page.whole}

    async def _wait_for_more(self, position: Position) -> None:
        """Wait for the next commit; a client that may see nothing of many is told how far it has come."""
        client, epoch = self._client, self._feed.state.epoch
        with trio.move_on_after(FEED_ADVANCE_S):
            await self._feed.until(lambda state: state.head > position or state.epoch != epoch)
            return
        if client.sent > client.told:
            client.told = client.sent
            if self._conversation.speaker.first:
                self._conversation.say("srv_lsn_update", lsn=str(client.sent))
            else:
                nothing = {"chunk": 1, "total": 0}
                self._conversation.say("srv_live_changes", changes=[], lastLSN=str(client.sent), sequence=nothing)

    # --- what it sees ----------------------------------------------------------------------------------------------

    async def _seen_changes(self, epoch: str, page: ChangePage) -> list[Mapping[str, Any]]:
        """What the changes are for this client. Raises TooOld."""
        if page.compacted_lsn and not self._view.sees_all_rows:
            raise TooOld  # whether it saw a row at its position is no longer known
        seen = []
        for number, change in enumerate(page.changes):
            lsn = change.position.commit_lsn
            if self._own.expects(page.xids[lsn]):
                await self._own.answered(page.xids[lsn])
            relation = await self._feed.relation(epoch, change.relation)
            if relation.table not in self._view.sights:
                continue
            old_relation = relation
            if change.old_relation is not None and change.old_relation != change.relation:
                old_relation = await self._feed.relation(epoch, change.old_relation)
            told = self._as_told(page, number, change, relation, old_relation)
            if told is not None and not self._own.knows(page.xids[lsn], relation, change):
                seen.append(told)
        return seen

    def _as_told(
        self, page: ChangePage, number: int, change: Change, relation: Relation, old_relation: Relation
    ) -> Mapping[str, Any] | None:
        """A change as this client sees it; None when it may not."""
        was = self._view.sees(old_relation, change.old)
        now = self._view.sees(relation, change.row)
        if not (was or now):
            return None
        operation = "u" if was and now else "i" if now else "d"
        row, shape = (change.row, relation) if now else (change.old, old_relation)
        assert row is not None
        columns = self._view.columns(relation.table)
        data = page.data.get((number, now, columns))
        if data is None:
            data = page.data[number, now, columns] = messages.data_of(shape, row, columns, key_only=not now)
        lsn = change.position.commit_lsn
        updated = messages.updated_at(shape, row, page.times[lsn])
        return messages.change(relation.table, operation, data, updated, lsn_text(lsn))

    # --- positions -------------------------------------------------------------------------------------------------

    def _epoch_now(self) -> str:
        """The epoch of its position. Raises TooOld when there is another one by now."""
        if self._feed.state.epoch != self._client.epoch:
            raise TooOld
        return self._client.epoch

    def _whole_before(self, page: ChangePage) -> Position:
        """Behind the last commit of which the client will have everything with this page."""
        if not page.changes:
            return self._client.sent
        last = page.changes[-1].position.commit_lsn
        if page.whole:
            return Position(last)
        lsns = {change.position.commit_lsn for change in page.changes} - {last}
        earlier = sorted(lsn for lsn in lsns if lsn >= page.compacted_lsn)
        return Position(earlier[-1]) if earlier else self._client.sent


def _behind(page: ChangePage) -> Position:
    """The position behind a page."""
    last = page.changes[-1].position
    return Position(last.commit_lsn) if page.whole else last
