"""Reading all rows of the source at one moment, and what of them the history did not know.

That is how a history begins, and how it goes on when the log cannot be followed any more: a slot that was lost, a
source that was restored, a table that was made anew. What is different is stored as one commit, so that clients who
follow need not fetch anew; only where positions would have to go back a new epoch begins.
"""

from collections.abc import Callable, Mapping

from livesync_trio.feed.history.state import Source, State, TableState
from livesync_trio.feed.history.writing import Image, Writer, Written
from livesync_trio.feed.snapshot import FEED_COPY_CONNECTIONS, Batch, reading
from livesync_trio.feed.source import Names
from livesync_trio.feed.tables import Column, Commit, Relation, Row, text_of

Progress = Callable[[Mapping[str, int]], None]
"""Told how many rows of each table were read, every half second at least. Raises `Stopped` to give up."""


def copy_all(
    writer: Writer,
    names: Names,
    tables: dict[str, TableState],
    *,
    source: Source,
    slot_lsn: int,
    snapshot: str,
    committed_us: int,
    progress: Progress,
) -> State:
    """Let the history be what the source was at the moment of a snapshot.

    Args:
        writer: has taken over.
        names: of the source.
        tables: what they are.
        source: the log that follows.
        slot_lsn: where it begins.
        snapshot: of everything before.
        committed_us: what is told as the time of the changes, in microseconds since 1970.
        progress: told what was done.

    Returns:
        The state; positions of an epoch before are worthless when it has another one.

    Raises:
        psycopg.Error, Stopped, and what the writer raises; nothing was stored then.
    """
    lsn = slot_lsn - 1  # records begin at multiples of eight: no commit is ever there
    writer.begin()
    try:
        goes_on = writer.state.filled and lsn > writer.state.head_lsn
        epoch = None if goes_on else writer.begin_epoch()
        copy = _Copy(writer, lsn, tables, as_changes=goes_on)
        # What is told as changes comes in the tables' order, so that no row comes before one that it refers to.
        connections = 1 if goes_on else FEED_COPY_CONNECTIONS
        with reading(names, snapshot, tables, connections) as batches:
            for batch in batches:
                if batch is not None:
                    copy.take(batch)
                progress(copy.counts)
        for table in writer.state.tables.keys() - tables.keys() if goes_on else ():
            copy.seq += writer.empty(table, lsn, copy.seq)
        if copy.seq:
            writer.end_commits([Commit(lsn, committed_us, copy.seq)])
        head_lsn = lsn if copy.seq or epoch is not None else writer.state.head_lsn
        return writer.settle(source, tables, head_lsn, slot_lsn, epoch)
    except BaseException:
        writer.rollback()
        raise


class _Copy:
    def __init__(self, writer: Writer, lsn: int, tables: Mapping[str, TableState], *, as_changes: bool) -> None:
        self._writer = writer
        self._lsn = lsn
        self._as_changes = as_changes
        self._relations: dict[str, Relation] = {}
        for table, state in tables.items():
            columns = [Column(column.name, column.type_oid) for column in state.columns]
            key = [state.column_names.index(name) for name in state.key]
            self._relations[table] = writer.relation(table, columns, key)
        self.seq = 0
        self.counts: dict[str, int] = {}
        """Rows that were read, by table."""

    def take(self, batch: Batch) -> None:
        """Rows of a table, some of which may have come before; or its end."""
        relation = self._relations[batch.table]
        if batch.rows:
            self._rows(relation, {relation.key_of(row): row for row in batch.rows})
        self.counts[batch.table] = batch.count
        if batch.is_last and self._as_changes:
            self.seq += self._writer.empty(batch.table, self._lsn, self.seq, unseen_only=True)

    def _rows(self, relation: Relation, rows: dict[str, Row]) -> None:
        known = self._writer.images(relation.table, list(rows)) if self._as_changes else {}
        changes: list[Written] = []
        images: dict[str, Image | None] = {}
        for key, row in rows.items():
            was, text = known.get(key), text_of(row)
            if was is not None:
                before = self._writer.known_relation(was.relation)
                if before.columns == relation.columns and was.text == text:
                    continue
            old_text, old_relation = (None, None) if was is None else (was.text, was.relation)
            operation, seq = "i" if was is None else "u", self.seq + len(changes)
            changes.append((self._lsn, seq, relation.version, operation, key, text, old_text, old_relation))
            images[key] = Image(relation.version, text)
        self._writer.set_images(relation.table, images, dict.fromkeys(images, self._lsn))
        if self._as_changes:
            self._writer.add(changes)
            self._writer.saw(relation.table, rows)
            self.seq += len(changes)
