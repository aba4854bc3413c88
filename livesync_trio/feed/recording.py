"""From the messages of the log to the history: rows are completed, numbered, and stored with the reader's position.

Small transactions are stored many at a time. One that is too large for memory is written in parts inside of one
transaction of ours, which is committed with its last part: nobody sees a part of it, and a crash leaves nothing of it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import attrs

from livesync_trio.feed.history.state import State, TableState
from livesync_trio.feed.history.writing import Image, Writer
from livesync_trio.feed.limits import FEED_BATCH_BYTES, FEED_BATCH_ROWS
from livesync_trio.feed.pgoutput import (
    UNCHANGED,
    Begin,
    Committed,
    Delete,
    Insert,
    Said,
    Seen,
    SeenColumn,
    Truncate,
    Unchanged,
    Update,
    Values,
    decode,
)
from livesync_trio.feed.position import Position
from livesync_trio.feed.source import MARK
from livesync_trio.feed.tables import Change, Column, Commit, Relation, Row

Explain = Callable[[int, Sequence[SeenColumn], Sequence[SeenColumn]], str | None]
"""Why the rows of a table (its OID) must be read again after it got other columns; None when they need not."""


class MustReadAgain(Exception):
    """What is known of the rows is not what the source has; the message says why."""


class _Operation(NamedTuple):
    """A change of one row, or of all rows of a table, before it was completed and numbered."""

    kind: str  # i, u, d, or t for all of them
    table: str
    seen: Seen
    old: Values | None
    new: Values | None


@attrs.define
class _Transaction:
    commit_lsn: int
    committed_us: int
    xid: int
    operations: list[_Operation] = attrs.field(factory=list)
    size_bytes: int = 0
    seq: int = 0  # of the next change
    end_lsn: int = 0
    marked: bool = False  # somebody waits for it, although it may have changed nothing


class Recorder:
    """Takes messages as they come, and stores them."""

    def __init__(self, writer: Writer, explain: Explain) -> None:
        """`writer` has taken over, and its state says how far the history goes."""
        self._writer = writer
        self._explain = explain
        self._tables: dict[str, TableState] = dict(writer.state.tables)
        self._by_oid = {state.oid: table for table, state in self._tables.items()}
        self._seen: dict[int, Seen] = {}
        self._relations: dict[int, Relation] = {}  # by the identity of a `Seen`, which is held by it or by operations
        self._kept: list[Seen] = []
        self._open: _Transaction | None = None
        self._spilling = False  # a part of the open one is written, in a transaction of ours that is not committed
        self._whole: list[_Transaction] = []
        self._whole_rows = self._whole_bytes = 0

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be stored."""
        return self._open is None and not self._whole

    @property
    def full(self) -> bool:
        """Whether what is whole should be stored without waiting for more."""
        return self._whole_rows >= FEED_BATCH_ROWS or self._whole_bytes >= FEED_BATCH_BYTES

    def take(self, data: bytes) -> State | None:
        """Take one message. Gives the state when it led to a commit of ours.

        Raises:
            BadMessage: it is none.
            MustReadAgain: a table has changed in a way that the log does not tell.
            Superseded, StorageUnavailable, StorageFull, StoreDamaged: nothing of it was stored.
        """
        message = decode(data)
        match message:
            case Begin(commit_lsn, committed_us, xid):
                self._open = _Transaction(commit_lsn, committed_us, xid)
            case Said(True, prefix) if prefix == MARK and self._open is not None:
                self._open.marked = True
            case Committed(_, end_lsn):
                return self._committed(end_lsn)
            case Seen():
                self._saw(message)
            case Insert(oid, new):
                self._add("i", oid, None, new, len(data))
            case Update(oid, _, old, new):
                self._add("u", oid, old, new, len(data))
            case Delete(oid, _, old):
                self._add("d", oid, old, None, len(data))
            case Truncate(oids):
                for oid in oids:
                    self._add("t", oid, None, None, len(data))
        transaction = self._open
        if transaction is not None and (
            len(transaction.operations) >= FEED_BATCH_ROWS or transaction.size_bytes >= FEED_BATCH_BYTES
        ):
            self._spill(transaction)
        return None

    def store(self) -> State | None:
        """Store what is whole, in one commit. Gives the state; None when there was nothing."""
        if not self._whole:
            return None
        self._writer.begin()
        for transaction in self._whole:
            self._write(transaction)
            self._end(transaction)
        head_lsn = max((each.commit_lsn for each in self._whole if each.seq), default=self._writer.state.head_lsn)
        end_lsn = self._whole[-1].end_lsn
        self._whole = []
        self._whole_rows = self._whole_bytes = 0
        return self._commit(head_lsn, end_lsn)

    def confirm(self, lsn: int) -> State | None:
        """Remember that there is nothing for us up to `lsn`, while idle. Gives the state; None when that is not new."""
        if not self.idle or lsn <= self._writer.state.confirmed_lsn:
            return None
        self._writer.begin()
        return self._commit(self._writer.state.head_lsn, lsn)

    def _commit(self, head_lsn: int, end_lsn: int) -> State:
        confirmed_lsn = max(end_lsn, self._writer.state.confirmed_lsn)
        return self._writer.commit(head_lsn, confirmed_lsn, dict(self._tables))

    # --- transactions ----------------------------------------------------------------------------------------------

    def _add(self, kind: str, oid: int, old: Values | None, new: Values | None, size_bytes: int) -> None:
        seen = self._seen.get(oid)
        table = self._by_oid.get(oid)
        if self._open is None or seen is None:
            raise MustReadAgain("a change came outside of a transaction, or of a table that was not described")
        if table is not None and self._open.commit_lsn > self._writer.state.head_lsn:
            self._open.operations.append(_Operation(kind, table, seen, old, new))
            self._open.size_bytes += size_bytes

    def _committed(self, end_lsn: int) -> State | None:
        transaction, self._open = self._open, None
        if transaction is None:
            raise MustReadAgain("a commit came outside of a transaction")
        transaction.end_lsn = end_lsn
        if self._spilling:
            self._spilling = False
            self._write(transaction)
            self._end(transaction)
            return self._commit(transaction.commit_lsn if transaction.seq else self._writer.state.head_lsn, end_lsn)
        if transaction.operations or transaction.marked:  # else it changed nothing of ours, or is stored already
            self._whole.append(transaction)
            self._whole_rows += len(transaction.operations)
            self._whole_bytes += transaction.size_bytes
        return None

    def _spill(self, transaction: _Transaction) -> None:
        if not self._spilling:
            self.store()  # what was whole before does not wait for it
            self._writer.begin()
            self._spilling = True
        self._write(transaction)

    def _end(self, transaction: _Transaction) -> None:
        if transaction.seq:
            self._writer.end_commit(
                Commit(transaction.commit_lsn, transaction.committed_us, transaction.seq, transaction.xid)
            )

    # --- tables ----------------------------------------------------------------------------------------------------

    def _saw(self, seen: Seen) -> None:
        if self._seen.get(seen.oid) == seen:
            return  # it is described again after every look of PostgreSQL's own at it: nothing is new
        self._seen[seen.oid] = seen
        table = self._by_oid.get(seen.oid)
        if table is None:
            return
        known = self._tables[table]
        if known.columns == seen.columns:
            return
        reason = self._explain(seen.oid, known.columns, seen.columns)
        names = {column.name for column in seen.columns}
        if reason is not None or not names.issuperset(known.key):
            raise MustReadAgain(f"{table}: {reason or 'its key has changed'}")
        self._tables[table] = TableState(known.oid, known.key, seen.columns)

    def _relation(self, operation: _Operation) -> Relation:
        seen = operation.seen
        found = self._relations.get(id(seen))
        if found is None:
            columns = [Column(column.name, column.type_oid) for column in seen.columns]
            names = [column.name for column in columns]
            key = [names.index(name) for name in self._tables[operation.table].key]
            found = self._relations[id(seen)] = self._writer.relation(operation.table, columns, key)
            self._kept.append(seen)
        return found

    # --- rows ------------------------------------------------------------------------------------------------------

    def _write(self, transaction: _Transaction) -> None:
        """Write what has come of a transaction, inside of one of ours."""
        operations, transaction.operations, transaction.size_bytes = transaction.operations, [], 0
        rows: list[_Operation] = []
        for operation in operations:
            if operation.kind != "t":
                rows.append(operation)
                continue
            self._write_rows(transaction, rows)
            rows = []
            transaction.seq += self._writer.empty(operation.table, transaction.commit_lsn, transaction.seq)
        self._write_rows(transaction, rows)

    def _write_rows(self, transaction: _Transaction, operations: list[_Operation]) -> None:
        by_table: dict[str, dict[str, Image | None]] = {}
        keyed = []
        for operation in operations:
            relation = self._relation(operation)
            old_key, new_key = _keys(operation, relation)
            keyed.append((operation, relation, old_key, new_key))
            keys = by_table.setdefault(operation.table, {})
            keys.update(dict.fromkeys(key for key in (old_key, new_key) if key is not None))
        for table, images in by_table.items():
            images.update(self._writer.images(table, list(images)))
        touched: dict[str, dict[str, Image | None]] = {table: {} for table in by_table}
        changes: list[Change] = []
        for operation, relation, old_key, new_key in keyed:
            images, now = by_table[operation.table], touched[operation.table]
            was = None
            if old_key is not None:
                was = images[old_key]
                if was is None:
                    raise MustReadAgain(f"{operation.table}: a row was changed that is not known")
            row = None if operation.new is None else self._completed(operation, relation, was)
            if row is None or old_key != new_key:
                if old_key is not None and was is not None:
                    changes.append(_change(transaction, relation, "d", old_key, row=None, was=was))
                    images[old_key] = now[old_key] = None
                was = None
            if row is not None and new_key is not None:
                if was is None and images[new_key] is not None:
                    raise MustReadAgain(f"{operation.table}: a row came that is there already")
                changes.append(_change(transaction, relation, "u" if was else "i", new_key, row=row, was=was))
                images[new_key] = now[new_key] = Image(relation.version, row)
        self._writer.add(changes)
        for table, images in touched.items():
            self._writer.set_images(table, images, transaction.commit_lsn)

    def _completed(self, operation: _Operation, relation: Relation, was: Image | None) -> Row:
        """A new row, with what its UPDATE did not touch."""
        new = operation.new or ()
        if UNCHANGED not in new:
            return cast("Row", new)
        if was is None:
            raise MustReadAgain(f"{operation.table}: a value was left unsaid of a row that is not known")
        before = relation.from_other(self._writer.known_relation(was.relation), was.row)
        return tuple(old if isinstance(value, Unchanged) else value for value, old in zip(new, before, strict=True))


def _keys(operation: _Operation, relation: Relation) -> tuple[str | None, str | None]:
    """What named a row before, and what names it now; a key that is left unsaid did not change."""
    old, new = operation.old, operation.new
    if new is None:
        return _key(relation, old or ()), None
    if old is not None:
        new = tuple(
            was if isinstance(value, Unchanged) and place in relation.key else value
            for place, (value, was) in enumerate(zip(new, old, strict=True))
        )
    now = _key(relation, new)
    if operation.kind == "i":
        return None, now
    return (now if old is None else _key(relation, old)), now


def _key(relation: Relation, values: Values) -> str:
    if UNCHANGED in values and any(isinstance(values[place], Unchanged) for place in relation.key):
        raise MustReadAgain(f"{relation.table}: a key was left unsaid")
    return relation.key_of(cast("Sequence[str | None]", values))  # which looks at the key alone


def _change(
    transaction: _Transaction, relation: Relation, operation: str, key: str, *, row: Row | None, was: Image | None
) -> Change:
    position = Position(transaction.commit_lsn, transaction.seq)
    transaction.seq += 1
    old, old_relation = (None, None) if was is None else (was.row, was.relation)
    return Change(position, relation.version, operation, key, row, old, old_relation)
