"""Appends as rows, and rows as few statements: the hot path of the SQLite engine.

Owns the INSERT in its two shapes and how appends are laid out for it. Pure; the writer owns connection and transaction.

* A single append binds once what its rows share, and its first row announces all of them to the trigger of the schema,
  which compares and moves the head once.
* A group binds everything for each row, and each row announces itself. To bind the announcements of so many runs costs
  as much as they save.

There are statements for a good many numbers of rows, each compiled once: that costs twice as much as to run it. Rows
without a number fill a statement up to its length; the trigger passes them over (decision 0003).
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final
from zlib import adler32

from livesync_trio.storage.base import Append
from livesync_trio.storage.chain import check_chain
from livesync_trio.storage.sqlite.checksum import BOUND, LOWER_HALF, MODULUS, beside_sum, byte_sum

SQLITE_INSERT_MAX_ROWS: Final = 1_024
"""Events in one statement; ten parameters each, below the 32,766 that SQLite allows. A power of two."""

SQLITE_ROWS_EXACT: Final = 32
"""Up to so many events there is an INSERT for each number of them, above it four for each power of two (decision 0003).
"""

SQLITE_INSERT_MAX_BYTES: Final = 1024 * 1024
"""Event bytes in one statement, which SQLite holds in memory twice; a single larger event has its own."""

Value = int | str | None
Statement = tuple[str, list[Value]]
"""SQL, and what is bound to it."""

_INSERT: Final = """
    INSERT INTO livesync_7_events (
        log_id, seq_num, parent_seq_num, ordinal, size_bytes, created_at, event, checksum, pushed_by,
        append_id, append_events, append_head, append_bytes
    ) VALUES
"""


def statements(appends: Sequence[Append]) -> list[Statement]:
    """What stores the appends, in order.

    Raises:
        ValueError: one of them is not a chain, or holds text that is not Unicode.
    """
    if len(appends) == 1:
        statement = _one_append(appends[0])
        if statement is not None:
            return [statement]
    values: list[Value] = []
    sizes_bytes: list[int] = []
    for append in appends:
        _add_rows(values, sizes_bytes, append)
    return [_any_rows(values, first, last) for first, last in chunks(sizes_bytes)]


# --- one append, small enough for one statement -----------------------------------------------------------------------

_SHARED: Final = 7
_ROW_OF_APPEND: Final = 5
"""Values that the rows of an append share, and that each has for itself."""


def _one_append(append: Append) -> Statement | None:
    """The statement for an append whose events share a user, have no ids and fit into one; None for others."""
    check_chain(append)
    created_at, user, expected = append.created_at, append.batches[0].user, append.expected
    beside = beside_sum(expected.log_id, created_at, user)
    values: list[Value] = [expected.log_id, expected.head, created_at, user, 0, 0, 0]
    ordinal, text_bytes = expected.event_count, 0
    for batch in append.batches:
        if batch.user != user:
            return None
        for event in batch.events:
            if event.append_id is not None:
                return None
            ordinal += 1
            text = event.json
            size_bytes = len(text)
            text_bytes += size_bytes
            number = event.seq_num
            checksum = adler32(text, (beside + number) % MODULUS) & LOWER_HALF | BOUND
            values += (number, ordinal, size_bytes, text.decode(), checksum)
        if ordinal - expected.event_count > SQLITE_INSERT_MAX_ROWS or text_bytes > SQLITE_INSERT_MAX_BYTES:
            return None
    events = ordinal - expected.event_count
    values[4:_SHARED] = events, append.batches[-1].last_seq_num, text_bytes
    if events <= SQLITE_ROWS_EXACT:
        return _insert_append(events), values
    length = _length(events)
    values += (None,) * (_ROW_OF_APPEND * (length - events))
    return _insert_append(length), values


@cache
def _insert_append(rows: int) -> str:
    """The INSERT for one append: `_one_append` says what is bound. The parent of a row is the number before it."""
    parent = 2
    parts: list[str] = []
    for first in range(_SHARED + 1, _SHARED + 1 + _ROW_OF_APPEND * rows, _ROW_OF_APPEND):
        announced = "NULL, NULL, NULL, NULL" if parts else "NULL, ?5, ?6, ?7"
        parts.append(
            f"(?1, ?{first}, ?{parent}, ?{first + 1}, ?{first + 2}, ?3, ?{first + 3}, ?{first + 4}, ?4, {announced})"
        )
        parent = first
    return _INSERT + ", ".join(parts)


# --- any rows ---------------------------------------------------------------------------------------------------------

_ROW: Final = 10
"""Values of a row of its own."""


def _add_rows(values: list[Value], sizes_bytes: list[int], append: Append) -> None:
    """Add the events of an append to `values`, row by row, and the sizes of their texts to `sizes_bytes`."""
    check_chain(append)
    created_at, log_id, ordinal = append.created_at, append.expected.log_id, append.expected.event_count
    for batch in append.batches:
        user = batch.user
        beside = beside_sum(log_id, created_at, user)
        for event in batch.events:
            ordinal += 1
            text = event.json
            size_bytes = len(text)
            sizes_bytes.append(size_bytes)
            values += (log_id, event.seq_num, event.parent_seq_num, ordinal, size_bytes, created_at, text.decode())
            checksum = adler32(text, (beside + event.seq_num) % MODULUS) & LOWER_HALF
            append_id = event.append_id
            if append_id is not None:
                checksum = byte_sum(append_id.encode(), checksum)
            values += (checksum | BOUND, user, append_id)


def _any_rows(values: list[Value], first: int, last: int) -> Statement:
    """The statement for some rows."""
    length = _length(last - first)
    given = values[first * _ROW : last * _ROW]
    given += (None,) * (_ROW * length - len(given))
    return _insert_rows(length), given


@cache
def _insert_rows(rows: int) -> str:
    """The INSERT for any rows."""
    row = f"({'?, ' * _ROW}1, NULL, NULL)"
    return _INSERT + ", ".join([row] * rows)


# --- lengths ----------------------------------------------------------------------------------------------------------


def _length(rows: int) -> int:
    """The next length for which there is a statement: any up to a bound, then four for each power of two."""
    if rows <= SQLITE_ROWS_EXACT:
        return rows
    step = 1 << ((rows - 1).bit_length() - 3)
    return -(-rows // step) * step


def chunks(sizes_bytes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cut rows into statements, each bounded in rows and bytes; a single larger event is one of its own.

    Args:
        sizes_bytes: of the texts of the rows.

    Yields:
        Where each begins, and the next one does.
    """
    start = total_bytes = 0
    for index, size_bytes in enumerate(sizes_bytes):
        total_bytes += size_bytes
        if index > start and (index - start == SQLITE_INSERT_MAX_ROWS or total_bytes > SQLITE_INSERT_MAX_BYTES):
            yield start, index
            start, total_bytes = index, size_bytes
    if start < len(sizes_bytes):
        yield start, len(sizes_bytes)
