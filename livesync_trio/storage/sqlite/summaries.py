"""What an SQLite file keeps about its stores, for whoever lists them: one statement, one row, like every question.

Owns these questions and how their answer is taken apart; the connection is the reader's.
"""

from collections.abc import Mapping
from typing import Final

from livesync_trio.errors import StoreDamaged
from livesync_trio.model import BackendId, LogState, StoreId
from livesync_trio.storage.base import StoreOrder, StoreSummary

# All stores in one value, since every row costs a fight for the interpreter lock (`reader`). Texts are sent in
# hexadecimal digits: a name may hold any character, the separators too.
SUMMARY: Final = """
    SELECT hex(store_id) || ' ' || log_id || ' ' || hex(backend_id) || ' ' || head || ' ' || event_count || ' ' ||
        text_bytes || ' ' || hex(created_at) || ' ' || hex(coalesce(last_push_at, '')) || ' ' || frozen
    FROM livesync_7_stores WHERE store_id = :store_id
"""
_ALL: Final = """
    SELECT group_concat(
        hex(store_id) || ' ' || log_id || ' ' || hex(backend_id) || ' ' || head || ' ' || event_count || ' ' ||
        text_bytes || ' ' || hex(created_at) || ' ' || hex(coalesce(last_push_at, '')) || ' ' || frozen
    )
    FROM (
        SELECT * FROM livesync_7_stores
        WHERE {behind} AND (:containing = '' OR instr(store_id, :containing))
        ORDER BY {order} LIMIT :limit
    )
"""
SUMMARIES: Final = _ALL.format(behind="store_id >= :first", order="store_id")


def _ranking(value: str) -> str:
    behind = f"(:last IS NULL OR {value} < :last OR ({value} = :last AND store_id >= :first))"
    return _ALL.format(behind=behind, order=f"{value} DESC, store_id")


RANKED: Final[Mapping[StoreOrder, str]] = {
    "size": _ranking("text_bytes"),
    "head": _ranking("head"),
    "last push": _ranking("coalesce(last_push_at, '')"),
}
"""The same by rank; `last` is the value behind which they begin."""


def next_name(after: str | None) -> str:
    """The first name that can come after another one: the same with a U+0000 behind it."""
    return "" if after is None else f"{after}\0"


def summaries(answer: tuple[str | None] | None) -> list[StoreSummary]:
    """The stores in the row that answers `SUMMARY` or `SUMMARIES`.

    Raises:
        StoreDamaged: what is stored is no summary.
    """
    if answer is None or answer[0] is None:
        return []
    try:
        return [_summary(store.split(" ")) for store in answer[0].split(",")]
    except ValueError as error:
        raise StoreDamaged(f"The list of stores is damaged ({error}): restore a backup.") from error


def _summary(fields: list[str]) -> StoreSummary:
    store_id, log_id, backend_id, head, event_count, text_bytes, created_at, last_push_at, frozen = fields
    state = LogState(int(log_id), BackendId(_text(backend_id)), int(head), int(event_count), frozen == "1")
    return StoreSummary(
        StoreId(_text(store_id)), state, int(text_bytes), _text(created_at), _text(last_push_at) or None
    )


def _text(digits: str) -> str:
    return bytes.fromhex(digits).decode()
