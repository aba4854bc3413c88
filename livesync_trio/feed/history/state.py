"""The one row that says how far a history goes, and what it is a history of."""

from typing import Final

import attrs
import msgspec

from livesync_trio.errors import StorageUnavailable
from livesync_trio.feed.history.databases import FORMAT, FORMATS, Session
from livesync_trio.feed.pgoutput import SeenColumn
from livesync_trio.feed.position import Position


class Source(msgspec.Struct, frozen=True):
    """Which log of which cluster a history was read from, and a mark of the publication. Another one is another log."""

    system: str
    timeline: int
    slot: str
    publication: str = ""


class TableState(msgspec.Struct, frozen=True):
    """What a table is, as its rows are kept: its OID, the columns that name a row, and all of them."""

    oid: int
    key: tuple[str, ...]
    columns: tuple[SeenColumn, ...]


@attrs.frozen
class State:
    """How far a history goes.

    Attributes:
        generation: number of the reader that may write; a newer one has taken over with a greater one.
        epoch: identity of the history. Positions of another epoch mean nothing here; empty before the first one.
        source: what it is read from; None before it was ever read.
        tables: the tables of which every row is known.
        head_lsn: the last commit that is stored whole.
        confirmed_lsn: up to here the source may forget its log.
        floor_lsn: changes up to and including this commit are kept no more.
        compacted_lsn: of the changes up to and including this commit only the last of each row may be there.
    """

    generation: int
    epoch: str
    source: Source | None
    tables: dict[str, TableState]
    head_lsn: int
    confirmed_lsn: int
    floor_lsn: int
    compacted_lsn: int = 0

    @property
    def filled(self) -> bool:
        """Whether there is a history to be served."""
        return bool(self.epoch)

    @property
    def head(self) -> Position:
        """Behind everything that is stored."""
        return Position(self.head_lsn)

    @property
    def oldest_state_lsn(self) -> int:
        """The first commit behind which rows can still be read as they were."""
        return max(self.floor_lsn, self.compacted_lsn)


NOTHING: Final = State(0, "", None, {}, 0, 0, 0)

_SELECT: Final = """
    SELECT format, generation, epoch, source, tables, head_lsn, confirmed_lsn, floor_lsn,
        coalesce((SELECT lsn FROM livesync_feed_horizon WHERE id = 1), 0)
    FROM livesync_feed_state WHERE id = 1
"""
_INSERT: Final = """
    INSERT INTO livesync_feed_state
        (id, format, generation, epoch, source, tables, head_lsn, confirmed_lsn, floor_lsn)
    VALUES (1, %s, 0, '', 'null', '{}', 0, 0, 0) ON CONFLICT (id) DO NOTHING
"""
_UPDATE: Final = """
    UPDATE livesync_feed_state SET generation = %s, epoch = %s, source = %s, tables = %s, head_lsn = %s,
        confirmed_lsn = %s, floor_lsn = %s
    WHERE id = 1
"""


def read_state(session: Session) -> State:
    """The state as it is; `NOTHING` in a new history. Raises StorageUnavailable, also for another format."""
    rows = session.ask(_SELECT)
    if not rows:
        return NOTHING
    form, generation, epoch, source, tables, *lsns = rows[0]
    if form not in FORMATS:
        raise StorageUnavailable(
            f"The history of the feed has format {form}; this version knows {' and '.join(map(str, FORMATS))}."
        )
    known = msgspec.json.decode(source, type=Source | None)
    return State(generation, epoch, known, msgspec.json.decode(tables, type=dict[str, TableState]), *lsns)


def make_state(session: Session) -> None:
    """See that there is one, inside of a transaction."""
    session.ask(_INSERT, (FORMAT,))


def write_state(session: Session, state: State) -> None:
    """Put another state in its place, inside of a transaction."""
    source, tables = (msgspec.json.encode(each).decode() for each in (state.source, state.tables))
    lsns = (state.head_lsn, state.confirmed_lsn, state.floor_lsn)
    session.ask(_UPDATE, (state.generation, state.epoch, source, tables, *lsns))
