"""From the messages of the log to the history: rows are completed, numbered, and stored with the reader's position.

Small transactions are stored many at a time. One that is too large for memory is written in parts inside of one
transaction of ours, which is committed with its last part: nobody sees a part of it, and a crash leaves nothing of it.
"""

from collections.abc import Callable, Sequence
from typing import cast

import attrs

from livesync_trio.feed.history.state import State, TableState
from livesync_trio.feed.history.writing import Image, Writer, Written
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
from livesync_trio.feed.source import MARK
from livesync_trio.feed.tables import Column, Commit, Relation, Row, text_of

Explain = Callable[[int, Sequence[SeenColumn], Sequence[SeenColumn]], str | None]
"""Why the rows of a table (its OID) must be read again after it got other columns; None when they need not."""


class MustReadAgain(Exception):
    """What is known of the rows is not what the source has; the message says why."""


@attrs.define(eq=False)
class _Described:
    """A table that is followed, as the log last described it. `relation`: the same in the history, once it is there."""

    table: str
    seen: Seen
    relation: Relation | None = None


_RowMessage = Insert | Update | Delete
_Operation = tuple[_Described, _RowMessage | Truncate]
"""What was done to a table, before it was completed and numbered."""


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


class _Rows:
    """Rows of one table that are being changed: as they are by now, and what became of those that were touched."""

    __slots__ = ("keys", "lsns", "now", "table", "touched")

    def __init__(self, table: str) -> None:
        self.table = table
        self.keys: set[str] = set()
        self.now: dict[str, Image | None] = {}
        self.touched: dict[str, Image | None] = {}
        self.lsns: dict[str, int] = {}

    def set(self, key: str, image: Image | None, lsn: int) -> None:
        self.now[key] = self.touched[key] = image
        self.lsns[key] = lsn


_RowOperation = tuple[_Transaction, _Described, _RowMessage]
_Keyed = tuple[_Transaction, _Rows, Relation, str | None, str | None, _RowMessage]


class Recorder:
    """Takes messages as they come, and stores them."""

    def __init__(self, writer: Writer, explain: Explain) -> None:
        """`writer` has taken over, and its state says how far the history goes."""
        self._writer = writer
        self._explain = explain
        self._tables: dict[str, TableState] = dict(writer.state.tables)
        self._by_oid = {state.oid: table for table, state in self._tables.items()}
        self._described: dict[int, _Described | None] = {}  # by OID; None: it is none of ours
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
            case Insert() | Update() | Delete():
                self._add(message.oid, message, len(data))
            case Begin(commit_lsn, committed_us, xid):
                self._open = _Transaction(commit_lsn, committed_us, xid)
            case Committed(_, end_lsn):
                return self._committed(end_lsn)
            case Seen():
                self._saw(message)
            case Truncate(oids):
                for oid in oids:
                    self._add(oid, message, len(data))
            case Said(True, prefix) if prefix == MARK and self._open is not None:
                self._open.marked = True
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
        self._write(self._whole)
        self._end(self._whole)
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

    def _add(self, oid: int, message: _RowMessage | Truncate, size_bytes: int) -> None:
        transaction = self._open
        if transaction is None or oid not in self._described:
            raise MustReadAgain("a change came outside of a transaction, or of a table that was not described")
        described = self._described[oid]
        if described is not None and transaction.commit_lsn > self._writer.state.head_lsn:
            transaction.operations.append((described, message))
            transaction.size_bytes += size_bytes

    def _committed(self, end_lsn: int) -> State | None:
        transaction, self._open = self._open, None
        if transaction is None:
            raise MustReadAgain("a commit came outside of a transaction")
        transaction.end_lsn = end_lsn
        if self._spilling:
            self._spilling = False
            self._write([transaction])
            self._end([transaction])
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
        self._write([transaction])

    def _end(self, transactions: Sequence[_Transaction]) -> None:
        self._writer.end_commits(
            [Commit(each.commit_lsn, each.committed_us, each.seq, each.xid) for each in transactions if each.seq]
        )

    # --- tables ----------------------------------------------------------------------------------------------------

    def _saw(self, seen: Seen) -> None:
        before = self._described.get(seen.oid)
        if before is not None and before.seen == seen:
            return  # it is described again after every look of PostgreSQL's own at it: nothing is new
        table = self._by_oid.get(seen.oid)
        self._described[seen.oid] = None if table is None else _Described(table, seen)
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

    def _relation(self, described: _Described) -> Relation:
        if described.relation is None:
            columns = [Column(column.name, column.type_oid) for column in described.seen.columns]
            names = [column.name for column in columns]
            key = [names.index(name) for name in self._tables[described.table].key]
            described.relation = self._writer.relation(described.table, columns, key)
        return described.relation

    # --- rows ------------------------------------------------------------------------------------------------------

    def _write(self, transactions: Sequence[_Transaction]) -> None:
        """Write what has come of transactions, inside of one of ours: many small ones cost what a large one does."""
        rows: list[_RowOperation] = []
        for transaction in transactions:
            operations, transaction.operations, transaction.size_bytes = transaction.operations, [], 0
            for described, message in operations:
                if not isinstance(message, Truncate):
                    rows.append((transaction, described, message))
                    continue
                self._write_rows(rows)
                rows = []
                transaction.seq += self._writer.empty(described.table, transaction.commit_lsn, transaction.seq)
        self._write_rows(rows)

    def _write_rows(self, operations: list[_RowOperation]) -> None:
        keyed = self._keyed(operations)
        by_table = {rows.table: rows for _, rows, _, _, _, _ in keyed}
        for rows in by_table.values():
            rows.now = self._writer.images(rows.table, rows.keys)
        changes: list[Written] = []
        for transaction, rows, relation, old_key, new_key, message in keyed:
            lsn, seq = transaction.commit_lsn, transaction.seq
            was = None
            if old_key is not None:
                was = rows.now.get(old_key)
                if was is None:
                    raise MustReadAgain(f"{rows.table}: a row was changed that is not known")
                if old_key != new_key:
                    changes.append((lsn, seq, relation.version, "d", old_key, None, was.text, was.relation))
                    seq += 1
                    rows.set(old_key, None, lsn)
            if new_key is not None and not isinstance(message, Delete):
                text = text_of(self._completed(rows.table, message.new, relation, was))
                if old_key == new_key and was is not None:
                    change: Written = (lsn, seq, relation.version, "u", new_key, text, was.text, was.relation)
                elif rows.now.get(new_key) is None:
                    change = (lsn, seq, relation.version, "i", new_key, text, None, None)
                else:
                    raise MustReadAgain(f"{rows.table}: a row came that is there already")
                changes.append(change)
                seq += 1
                rows.set(new_key, Image(relation.version, text), lsn)
            transaction.seq = seq
        self._writer.add(changes)
        for rows in by_table.values():
            self._writer.set_images(rows.table, rows.touched, rows.lsns)

    def _keyed(self, operations: list[_RowOperation]) -> list[_Keyed]:
        """The same with what named each row before and names it now, and the rows of its table."""
        by_table: dict[str, _Rows] = {}
        keyed: list[_Keyed] = []
        for transaction, described, message in operations:
            relation = described.relation or self._relation(described)
            rows = by_table.get(described.table)
            if rows is None:
                rows = by_table[described.table] = _Rows(described.table)
            old_key, new_key = _keys(message, relation)
            if new_key is not None:
                rows.keys.add(new_key)
            if old_key is not None and old_key != new_key:
                rows.keys.add(old_key)
            keyed.append((transaction, rows, relation, old_key, new_key, message))
        return keyed

    def _completed(self, table: str, new: Values, relation: Relation, was: Image | None) -> Row:
        """A new row, with what its UPDATE did not touch."""
        if UNCHANGED not in new:
            return cast("Row", new)
        if was is None:
            raise MustReadAgain(f"{table}: a value was left unsaid of a row that is not known")
        before = relation.from_other(self._writer.known_relation(was.relation), was.row)
        return tuple(old if isinstance(value, Unchanged) else value for value, old in zip(new, before, strict=True))


def _keys(message: _RowMessage, relation: Relation) -> tuple[str | None, str | None]:
    """What named a row before, and what names it now; a key that is left unsaid did not change."""
    if isinstance(message, Insert):
        return None, _key(relation, message.new)
    if isinstance(message, Delete):
        return _key(relation, message.old), None
    old, new = message.old, message.new
    if old is None:
        key = _key(relation, new)
        return key, key
    if UNCHANGED in new:
        new = tuple(
            was if isinstance(value, Unchanged) and place in relation.key else value
            for place, (value, was) in enumerate(zip(new, old, strict=True))
        )
    return _key(relation, old), _key(relation, new)


def _key(relation: Relation, values: Values) -> str:
    if UNCHANGED in values and any(isinstance(values[place], Unchanged) for place in relation.key):
        raise MustReadAgain(f"{relation.table}: a key was left unsaid")
    return relation.key_of(cast("Sequence[str | None]", values))  # which looks at the key alone
