"""A page of history as SQLite gives it: the statements that ask for it, and how their one row becomes events.

Owns both, and every check of what came: that nothing is missing, that what stands beside the events fits them, and that
their bytes are those that were written. Pure; the connection is the reader's.
"""

from collections.abc import Sequence
from itertools import accumulate, count, pairwise, starmap
from operator import lt
from typing import Final, NamedTuple

from livesync_trio.errors import StoreDamaged
from livesync_trio.model import LogState, StoredEvent
from livesync_trio.storage.chain import check_continues, check_no_hole
from livesync_trio.storage.sqlite.checksum import BOUND, is_sum_of, page_sum

# All events of the range up to the limit in number, if all their texts are within the limit in bytes; else none. Their
# sizes are asked first, so that long texts beyond the limit are never fetched. Checksums are added up as total(), which
# a damaged one cannot overflow. Users and ids, few or none, come in hexadecimal digits: one may hold the separator.
WHOLE_PAGE: Final = """
    SELECT
        EXISTS (SELECT 1 FROM livesync_7_stores WHERE log_id = :log_id),
        count(*), min(parent_seq_num), min(ordinal), max(ordinal),
        group_concat(seq_num), group_concat(size_bytes), group_concat(created_at),
        CAST(group_concat(event, '') AS BLOB),
        count(checksum), total(checksum), total(checksum >> 16),
        group_concat(ordinal) FILTER (WHERE pushed_by IS NOT NULL),
        group_concat(hex(pushed_by)) FILTER (WHERE pushed_by IS NOT NULL),
        group_concat(ordinal) FILTER (WHERE append_id IS NOT NULL),
        group_concat(hex(append_id)) FILTER (WHERE append_id IS NOT NULL)
    FROM (
        SELECT seq_num, parent_seq_num, ordinal, size_bytes, created_at, event, checksum, pushed_by, append_id
        FROM livesync_7_events
        WHERE log_id = :log_id AND seq_num > :after AND seq_num <= :up_to AND :limit_bytes >= (
            SELECT sum(size_bytes) FROM (
                SELECT size_bytes FROM livesync_7_events
                WHERE log_id = :log_id AND seq_num > :after AND seq_num <= :up_to
                ORDER BY seq_num LIMIT :limit_events
            )
        )
        ORDER BY seq_num LIMIT :limit_events
    )
"""

# The same for a range that exceeds the limit in bytes: cut at it by a running total, which costs twice as much. Rows
# come in the order of the index, and CROSS JOIN keeps SQLite from turning the join round: the texts do, too.
CUT_PAGE: Final = """
    WITH span AS (
        SELECT rowid AS id, seq_num, parent_seq_num, ordinal, size_bytes, created_at,
            sum(size_bytes) OVER (ORDER BY seq_num ROWS UNBOUNDED PRECEDING) AS total_bytes
        FROM livesync_7_events
        WHERE log_id = :log_id AND seq_num > :after AND seq_num <= :up_to
        ORDER BY seq_num LIMIT :limit_events
    )
    SELECT
        EXISTS (SELECT 1 FROM livesync_7_stores WHERE log_id = :log_id),
        count(*), min(span.parent_seq_num), min(span.ordinal), max(span.ordinal),
        group_concat(span.seq_num), group_concat(span.size_bytes), group_concat(span.created_at),
        CAST(group_concat(event, '') AS BLOB),
        count(checksum), total(checksum), total(checksum >> 16),
        group_concat(span.ordinal) FILTER (WHERE pushed_by IS NOT NULL),
        group_concat(hex(pushed_by)) FILTER (WHERE pushed_by IS NOT NULL),
        group_concat(span.ordinal) FILTER (WHERE append_id IS NOT NULL),
        group_concat(hex(append_id)) FILTER (WHERE append_id IS NOT NULL)
    FROM span CROSS JOIN livesync_7_events AS events ON events.rowid = span.id
    WHERE span.total_bytes <= :limit_bytes OR span.total_bytes = span.size_bytes
"""

# Which of them it is, when the sum of a page does not fit.
CHECKSUMS: Final = """
    SELECT group_concat(coalesce(checksum, '')) FROM (
        SELECT checksum FROM livesync_7_events
        WHERE log_id = :log_id AND seq_num >= :first AND seq_num <= :last ORDER BY seq_num
    )
"""

# What stands behind an event, and where the log should end; no row where the log is not the current one any more.
BEHIND: Final = """
    SELECT CAST(stores.head AS INTEGER), (
        SELECT CAST(parent_seq_num AS INTEGER) FROM livesync_7_events AS events
        WHERE events.log_id = stores.log_id AND events.seq_num > :last ORDER BY seq_num LIMIT 1
    )
    FROM livesync_7_stores AS stores WHERE stores.log_id = :log_id
"""

_SEPARATOR: Final = ","
"""What `group_concat` puts between two values."""


class Page(NamedTuple):
    """The row that answers `WHOLE_PAGE` and `CUT_PAGE`. All but the first two are None when there are no events.

    Attributes:
        is_current: 1 when the log is still that of a store.
        events: how many there are.
        first_parent: least parent of them.
        first_ordinal: least ordinal.
        last_ordinal: greatest ordinal.
        seq_nums: their numbers, separated.
        sizes: bytes of their texts, separated.
        created_ats: their times, separated.
        texts: their texts, one behind the other.
        checked: how many of them have a checksum; those without are the older ones, hence the first.
        checksum: the sum of these.
        bound: how many of these have the numbers of their event and log in them.
        user_ordinals: ordinals of those that have a user, separated.
        users: these users, in hexadecimal digits, separated.
        id_ordinals: ordinals of those that have an id, separated.
        append_ids: these ids, in hexadecimal digits, separated.
    """

    is_current: int
    events: int
    first_parent: int
    first_ordinal: int
    last_ordinal: int
    seq_nums: str
    sizes: str
    created_ats: str
    texts: bytes
    checked: int
    checksum: float
    bound: float
    user_ordinals: str | None
    users: str | None
    id_ordinals: str | None
    append_ids: str | None


def events_of(page: Page, log: LogState, after: int, up_to: int) -> list[StoredEvent]:
    """The events of a page that has any, asked for as in `Reader.read`.

    Raises:
        StoreDamaged: they have a hole, or do not fit what is stored beside them.
    """
    check_no_hole(log, page.events, page.first_ordinal, page.last_ordinal)
    check_continues(log, after, page.first_parent)
    try:
        bounds = list(accumulate(map(int, page.sizes.split(_SEPARATOR)), initial=0))
        numbers = list(map(int, page.seq_nums.split(_SEPARATOR)))
        users = _by_ordinal(page.user_ordinals, page.users)
        append_ids = _by_ordinal(page.id_ordinals, page.append_ids)
    except ValueError:
        raise _misfit(log) from None
    moments = page.created_ats.split(_SEPARATOR)
    if bounds[-1] != len(page.texts) or not len(bounds) - 1 == len(numbers) == len(moments) == page.events:
        raise _misfit(log)
    if not (after < numbers[0] and numbers[-1] <= up_to and all(map(lt, numbers, numbers[1:]))):
        raise _misfit(log)
    texts = map(page.texts.__getitem__, starmap(slice, pairwise(bounds)))
    if users or append_ids:
        ordinals = range(page.first_ordinal, page.last_ordinal + 1)
        beside = map(users.get, ordinals), map(append_ids.get, ordinals)
        return list(map(StoredEvent, numbers, ordinals, texts, moments, *beside))
    return list(map(StoredEvent, numbers, count(page.first_ordinal), texts, moments))


def is_as_written(page: Page, log: LogState, events: Sequence[StoredEvent]) -> bool:
    """Whether a page's checksum is that of its events, in this log. Events of before there were any are let pass."""
    if not page.checked:
        return True
    unchecked = events[: page.events - page.checked]
    checked = events[len(unchecked) :]
    texts = page.texts[sum(len(event.json) for event in unchecked) :] if unchecked else page.texts
    users = [event.user for event in checked] if page.users is not None else ()
    append_ids = [event.append_id for event in checked] if page.append_ids is not None else ()
    moments = (event.created_at for event in checked)
    numbers = [event.seq_num for event in checked]
    return is_sum_of(page.checksum, page.bound, page_sum(texts, moments, users, append_ids), log.log_id, numbers)


def changed(log: LogState, events: Sequence[StoredEvent], checksums: str | None) -> StoreDamaged:
    """What is said of a page that is not as it was written.

    Args:
        log: whose it is.
        events: as they were read.
        checksums: the answer to `CHECKSUMS` for them.
    """
    found = (checksums or "").split(_SEPARATOR)
    which = [
        f"e{event.seq_num}"
        for event, checksum in zip(events, found, strict=False)
        if checksum and not _is_checksum(checksum, log, event)
    ]
    what = which[0] if which else "one of them"
    return StoreDamaged(
        f"Log {log.log_id} is damaged between e{events[0].seq_num} and e{events[-1].seq_num}: {what} is not what was "
        "written. Restore a backup, or reset the store."
    )


def _is_checksum(written: str, log: LogState, event: StoredEvent) -> bool:
    """Whether it is that of one event."""
    if not written.isdecimal():
        return False
    checksum, beside = int(written), [event.user, event.append_id]
    page = page_sum(event.json, [event.created_at], beside)
    return is_sum_of(checksum, checksum // BOUND, page, log.log_id, [event.seq_num])


def _by_ordinal(ordinals: str | None, texts: str | None) -> dict[int, str]:
    """Users or ids by ordinal. Raises ValueError when they are none."""
    if texts is None or ordinals is None:
        return {}
    decoded = (bytes.fromhex(text).decode() for text in texts.split(_SEPARATOR))
    return dict(zip(map(int, ordinals.split(_SEPARATOR)), decoded, strict=True))


def _misfit(log: LogState) -> StoreDamaged:
    return StoreDamaged(
        f"Log {log.log_id} is damaged: what is stored beside its events does not fit them. "
        "Restore a backup, or reset the store."
    )
