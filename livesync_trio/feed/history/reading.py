"""Reading the history: changes after a position, and the rows of a table as they were at one.

The rows are kept as they are now only. How one was at an earlier position P is told by the first change of it after P,
which holds what it was before; so a page of the state at P can be read at any later time, with nothing held open.
"""

from typing import Final, NamedTuple

import msgspec

from livesync_trio.feed.history.databases import Database, Session
from livesync_trio.feed.history.state import State, read_state
from livesync_trio.feed.position import Position
from livesync_trio.feed.tables import Change, Column, Commit, Relation, Row, row_of

_AFTER: Final = """
    SELECT commit_lsn, seq, relation, operation, key, row, old, old_relation FROM (
        SELECT *, sum(coalesce(length(row), 0) + coalesce(length(old), 0)) OVER (ORDER BY commit_lsn, seq)
            - coalesce(length(row), 0) - coalesce(length(old), 0) AS before_it FROM (
            SELECT * FROM livesync_feed_changes
            WHERE (commit_lsn > %s OR (commit_lsn = %s AND seq > %s)) AND commit_lsn <= %s
            ORDER BY commit_lsn, seq LIMIT %s
        ) AS next_ones
    ) AS sized WHERE before_it < %s ORDER BY commit_lsn, seq
"""
_PAGE: Final = """
    SELECT key, relation, row FROM (
        SELECT *, sum(length(row)) OVER (ORDER BY {key}) - length(row) AS before_it FROM (
            SELECT key, relation, row FROM (
                SELECT key, relation, row FROM livesync_feed_rows WHERE name = %s AND key > %s AND changed_lsn <= %s
                UNION ALL
                SELECT key, old_relation, old FROM (
                    SELECT key, old_relation, old,
                        row_number() OVER (PARTITION BY key ORDER BY commit_lsn, seq) AS place
                    FROM livesync_feed_changes WHERE commit_lsn > %s AND {of_table} AND {key} > %s
                ) AS since WHERE place = 1 AND old IS NOT NULL
            ) AS then_there ORDER BY {key} LIMIT %s
        ) AS next_ones
    ) AS sized WHERE before_it < %s ORDER BY {key}
"""


class TooOld(Exception):
    """What is asked for is kept no more: who asks must fetch anew."""


class Stored(NamedTuple):
    """A row of a page: what names it, the version of its table, its values."""

    key: str
    relation: int
    row: Row


class ChangePage:
    """Changes in order, for all who follow.

    Attributes:
        changes: the changes.
        whole: whether the last one is the last of its commit.
        times: when each commit was, in microseconds since 1970.
        xids: numbers of the transactions in the source, by their commits.
        compacted_lsn: up to this commit only the last change of each row is there, and what a row was before is that of
            another moment than where the reading began; 0 when all changes are there.
        data: rows as they are sent, by whoever first sends them.
    """

    __slots__ = ("changes", "compacted_lsn", "data", "times", "whole", "xids")

    def __init__(
        self, changes: list[Change], commits: dict[int, Commit], *, whole: bool, compacted_lsn: int = 0
    ) -> None:
        self.changes = changes
        self.compacted_lsn = compacted_lsn
        self.whole = whole
        self.times = {lsn: commit.committed_us for lsn, commit in commits.items()}
        self.xids = {lsn: commit.xid for lsn, commit in commits.items()}
        self.data: dict[tuple[int, bool, frozenset[str] | None], msgspec.Raw] = {}


class Reader:
    """Reads; used by one thread at a time."""

    def __init__(self, database: Database) -> None:
        """Nothing is opened yet."""
        self._session = database.session()
        self._bytewise = database.bytewise
        self._relations: dict[int, Relation] = {}
        self._compacted_lsn = 0  # as it last was

    def state(self) -> State:
        """How far the history goes."""
        return read_state(self._session)

    def relation(self, version: int) -> Relation:
        """A version of a table, which the history holds."""
        if version not in self._relations:
            self._relations = relations_of(self._session)
        return self._relations[version]

    def commit(self, lsn: int) -> Commit | None:
        """A commit that is kept; None when there is none at this place."""
        rows = self._session.ask(
            "SELECT commit_lsn, committed_us, changes FROM livesync_feed_commits WHERE commit_lsn = %s", (lsn,)
        )
        return Commit(*rows[0]) if rows else None

    def commit_of(self, xid: int, after_lsn: int) -> int | None:
        """Place of the commit of a transaction, which came behind another commit; None when it is not stored."""
        rows = self._session.ask(
            "SELECT max(commit_lsn) FROM livesync_feed_commits WHERE commit_lsn > %s AND xid = %s", (after_lsn, xid)
        )
        return None if rows[0][0] is None else int(rows[0][0])

    def commit_before(self, lsn: int) -> int:
        """The last commit before a place that is kept; the floor when there is none."""
        [(found,)] = self._session.ask(
            "SELECT max(commit_lsn) FROM livesync_feed_commits WHERE commit_lsn < %s", (lsn,)
        )
        return max(found or 0, self.state().floor_lsn)

    def commits(self, after_lsn: int, up_to_lsn: int) -> dict[int, Commit]:
        """Commits in a range, by their places."""
        rows = self._session.ask(
            "SELECT commit_lsn, committed_us, changes, xid FROM livesync_feed_commits "
            "WHERE commit_lsn >= %s AND commit_lsn <= %s",
            (after_lsn, up_to_lsn),
        )
        return {row[0]: Commit(*row) for row in rows}

    def changes(self, epoch: str, after: Position, up_to_lsn: int, limit: int, limit_bytes: int = 2**62) -> ChangePage:
        """Changes in order.

        Args:
            epoch: of the history.
            after: behind this position.
            up_to_lsn: up to and including this commit.
            limit: at most so many.
            limit_bytes: none behind one with which their rows exceed this.

        Raises:
            TooOld: some of them are kept no more, or it is another history by now.
        """
        lsn, seq = after
        while True:
            rows = self._session.ask(_AFTER, (lsn, lsn, seq, up_to_lsn, limit, limit_bytes))
            commits = self.commits(rows[0][0], rows[-1][0]) if rows else {}
            known_lsn, self._compacted_lsn = self._compacted_lsn, self._check(epoch, after).compacted_lsn
            if after >= Position(self._compacted_lsn) or self._compacted_lsn == known_lsn:
                break  # else some of it may be gone, of which the last change came behind what was read
        compacted_lsn = self._compacted_lsn if after < Position(self._compacted_lsn) else 0
        changes = [
            Change(
                Position(row[0], row[1]),
                row[2],
                row[3],
                row[4],
                None if row[5] is None else row_of(row[5]),
                None if row[6] is None else row_of(row[6]),
                row[7],
            )
            for row in rows
        ]
        whole = True
        if changes:
            last = changes[-1].position
            whole = last.commit_lsn >= compacted_lsn and commits[last.commit_lsn].changes == last.seq + 1
        return ChangePage(changes, commits, whole=whole, compacted_lsn=compacted_lsn)

    def page(  # noqa: PLR0917 - where, and how much
        self, epoch: str, table: str, at_lsn: int, after_key: str, limit: int, limit_bytes: int = 2**62
    ) -> list[Stored]:
        """Rows of a table as they were behind one commit, in the order of their keys' bytes.

        Args:
            epoch: of the history.
            table: the table.
            at_lsn: the commit.
            after_key: keys that come behind this one only; empty for the first page.
            limit: at most so many.
            limit_bytes: none behind one with which they exceed this.

        Raises:
            TooOld: as `changes`.
        """
        versions = [version for version, known in relations_of(self._session).items() if known.table == table]
        of_table = "relation IN (" + ", ".join(map(str, versions or [0])) + ")"
        statement = _PAGE.format(of_table=of_table, key=f"key {self._bytewise}")
        rows = self._session.ask(statement, (table, after_key, at_lsn, at_lsn, after_key, limit, limit_bytes))
        if self._check(epoch, Position(at_lsn)).compacted_lsn > at_lsn:
            raise TooOld
        return [Stored(key, relation, row_of(row)) for key, relation, row in rows]

    def close(self) -> None:
        """Let go of the connection."""
        self._session.close()

    def _check(self, epoch: str, after: Position) -> State:
        """Looked at behind the reading: changes go only after the floor has risen, or with the horizon."""
        state = self.state()
        if state.epoch != epoch or after < Position(state.floor_lsn):
            raise TooOld
        return state


def relations_of(session: Session) -> dict[int, Relation]:
    """All versions of all tables."""
    rows = session.ask("SELECT version, name, columns, key FROM livesync_feed_relations")
    return {
        version: Relation(
            version,
            name,
            msgspec.json.decode(columns, type=tuple[Column, ...]),
            msgspec.json.decode(key, type=tuple[int, ...]),
        )
        for version, name, columns, key in rows
    }
