"""The initial state of a client: all rows that it may see, as they were at one position, table by table."""

import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from livesync_trio.feed import messages
from livesync_trio.feed.access import View
from livesync_trio.feed.actor import Feed
from livesync_trio.feed.clients import Progress
from livesync_trio.feed.history.reading import Stored
from livesync_trio.feed.limits import FEED_PAGE_BYTES, FEED_PAGE_CHANGES
from livesync_trio.feed.position import Position
from livesync_trio.feed.standing import Standing
from livesync_trio.feed.talking import Talk

FEED_INIT_ACK_S: Final = 300.0
"""How long a client may take to acknowledge a chunk, as in the original."""


async def send_initial(feed: Feed, talk: Talk, standing: Standing, view: View) -> None:
    """Send it, or what is left of it. Raises TooOld when that is kept no more, NotAcknowledged, StorageUnavailable."""
    state = feed.state
    progress = standing.progress
    resumes = progress is not None and standing.epoch == state.epoch and progress.lsn >= state.oldest_state_lsn
    if progress is None or not resumes:
        progress = Progress(state.head_lsn)
    standing.takes_all(state, view.fingerprint, progress)
    at = Position(progress.lsn)
    if talk.speaker.first:
        talk.say("srv_state_change", state="initial", lsn=str(at))
    talk.say("srv_init_start", serverLSN=f"{at} (resuming)" if resumes else str(at), epoch=state.epoch)
    for table in state.tables:
        if table in view.sights and table not in progress.done:
            progress = await _send_table(feed, talk, standing, view, table, progress)
    await talk.say_and_wait(FEED_INIT_ACK_S, ("processed",), "srv_init_complete", serverLSN=str(at))
    standing.sent = at
    standing.moved_to(at)
    await standing.note()


async def _send_table(  # noqa: PLR0917 - who, to whom, and what
    feed: Feed, talk: Talk, standing: Standing, view: View, table: str, progress: Progress
) -> Progress:
    name = talk.speaker.table_in_sequence(table)
    after_key = progress.after_key if progress.table == table else ""
    is_new, total, now_us, epoch, lsn = True, 0, time.time_ns() // 1000, standing.epoch, progress.lsn
    while True:
        await talk.room()
        page = await _page(feed, epoch, table, lsn, after_key)
        changes = await _as_inserts(feed, epoch, view, page, now_us)
        if changes or (not page and is_new):  # also an empty table is told of
            is_new = False
            total += len(changes)
            chunk = talk.next_chunk(name)
            await talk.say_and_wait(
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
        standing.has_taken(progress)
        await standing.note()
    progress = msgspec.structs.replace(progress, done=(*progress.done, table), table="", after_key="")
    standing.has_taken(progress)
    await standing.note()
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
