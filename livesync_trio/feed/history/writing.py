"""Writing the history: changes, rows and the reader's position become durable together, or none of them does.

One at a time may write: who takes over gets a greater number (*generation*), and each transaction begins with a look
whether the writer's is still the greatest. So a reader that lost its slot without noticing can store nothing twice.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import attrs
import msgspec

from livesync_trio.feed.history.compacting import compact
from livesync_trio.feed.history.databases import NAMES, Database, Session
from livesync_trio.feed.history.reading import relations_of
from livesync_trio.feed.history.state import NOTHING, Source, State, TableState, make_state, read_state, write_state
from livesync_trio.feed.tables import Column, Commit, Relation, Row, row_of

FEED_FORGET_STEP: Final = 10_000
"""Changes that one transaction lets go of when they are kept no more."""

_CHANGES: Final = ("commit_lsn", "seq", "relation", "operation", "key", "row", "old", "old_relation")
_ROWS: Final = ("name", "key", "relation", "row", "changed_lsn")
_COMMITS: Final = ("commit_lsn", "committed_us", "changes", "xid", "size_bytes")
_REPLACE: Final = (
    "ON CONFLICT (name, key) DO UPDATE SET relation = excluded.relation, row = excluded.row, "
    "changed_lsn = excluded.changed_lsn"
)
_GONE: Final = """
    INSERT INTO livesync_feed_changes (commit_lsn, seq, relation, operation, key, row, old, old_relation)
    SELECT %s, %s + row_number() OVER (ORDER BY key), relation, 'd', key, NULL, row, relation
    FROM livesync_feed_rows AS was WHERE name = %s
"""
_UNSEEN: Final = """
    AND NOT EXISTS (SELECT 1 FROM livesync_feed_seen AS seen WHERE seen.name = was.name AND seen.key = was.key)
"""


class Superseded(Exception):
    """Another reader has taken over: this one has no business here any more."""


class Image(NamedTuple):
    """A row as it is now: the version of its table that it is written in, and its values as they are stored."""

    relation: int
    text: str

    @property
    def row(self) -> Row:
        """Its values."""
        return row_of(self.text)


Written = tuple[int, int, int, str, str, str | None, str | None, int | None]
"""A change as it is stored, in the order of `_CHANGES`. Rows are texts: most are only moved from here to there."""


class Writer:
    """The hand that writes. Used by one thread; a method that raises leaves nothing behind but `rollback`."""

    def __init__(self, database: Database) -> None:
        """Nothing is opened yet."""
        self._session: Session = database.session()
        self.state = NOTHING
        """As of the last commit of this writer."""
        self._relations: dict[int, Relation] = {}
        self._size_bytes = 0  # of the changes of the commit that is being written

    # --- transactions ----------------------------------------------------------------------------------------------

    def take_over(self) -> State:
        """Become the one who writes. Waits for the transaction of whoever was it before."""
        self._session.begin()
        make_state(self._session)
        self._session.ask("UPDATE livesync_feed_state SET generation = generation + 1 WHERE id = 1")
        state = read_state(self._session)
        self._relations = relations_of(self._session)
        self._session.commit()
        self.state = state
        return state

    def begin(self) -> None:
        """Begin a transaction. Raises Superseded."""
        self._session.begin()
        self._session.ask("UPDATE livesync_feed_state SET format = format WHERE id = 1")  # nobody else, from here on
        if read_state(self._session).generation != self.state.generation:
            self._session.rollback()
            raise Superseded

    def commit(self, head_lsn: int, confirmed_lsn: int, tables: dict[str, TableState] | None = None) -> State:
        """Make everything since `begin` durable, and with it how far the source was read.

        Args:
            head_lsn: the last commit.
            confirmed_lsn: up to here the source may forget its log.
            tables: what the tables are by now; None when none has changed.
        """
        tables = self.state.tables if tables is None else tables
        return self._become(attrs.evolve(self.state, head_lsn=head_lsn, confirmed_lsn=confirmed_lsn, tables=tables))

    def rollback(self) -> None:
        """Give up what was begun. Never raises."""
        self._session.rollback()
        self._relations = {}
        self._size_bytes = 0

    def close(self) -> None:
        """Let go of the connection."""
        self._session.close()

    def _become(self, state: State) -> State:
        write_state(self._session, state)
        self._session.commit()
        self.state = state
        return state

    # --- inside of one ---------------------------------------------------------------------------------------------

    def relation(self, table: str, columns: Sequence[Column], key: Sequence[int]) -> Relation:
        """The version of a table that looks like this; a new one if it never did."""
        if not self._relations:
            self._relations = relations_of(self._session)
        wanted = Relation(0, table, tuple(columns), tuple(key))
        for known in self._relations.values():
            if attrs.evolve(known, version=0) == wanted:
                return known
        made = attrs.evolve(wanted, version=max(self._relations, default=0) + 1)
        self._session.ask(
            "INSERT INTO livesync_feed_relations (version, name, columns, key) VALUES (%s, %s, %s, %s)",
            (made.version, table, msgspec.json.encode(made.columns).decode(), msgspec.json.encode(made.key).decode()),
        )
        self._relations[made.version] = made
        return made

    def known_relation(self, version: int) -> Relation:
        """A version by its number."""
        if version not in self._relations:
            self._relations = relations_of(self._session)
        return self._relations[version]

    def images(self, table: str, keys: Collection[str]) -> dict[str, Image | None]:
        """Rows as they are now, of those of the keys that there are."""
        condition, parameter = self._session.among("key", keys)
        statement = f"SELECT key, relation, row FROM livesync_feed_rows WHERE name = %s AND {condition}"  # noqa: S608
        rows = self._session.ask(statement, (table, parameter))
        return {key: Image(relation, text) for key, relation, text in rows}

    def add(self, changes: Sequence[Written]) -> None:
        """Store changes of the commit that is being written."""
        self._session.insert("livesync_feed_changes", _CHANGES, changes)
        self._size_bytes += sum(
            len(key) + len(text or "") + len(old_text or "") for _, _, _, _, key, text, old_text, _ in changes
        )

    def set_images(self, table: str, images: Mapping[str, Image | None], commit_lsn: int) -> None:
        """Let rows be as they are now; None: gone."""
        gone = [key for key, image in images.items() if image is None]
        if gone:
            condition, parameter = self._session.among("key", gone)
            self._session.ask(f"DELETE FROM livesync_feed_rows WHERE name = %s AND {condition}", (table, parameter))  # noqa: S608
        rows = [
            (table, key, image.relation, image.text, commit_lsn) for key, image in images.items() if image is not None
        ]
        self._session.insert("livesync_feed_rows", _ROWS, rows, _REPLACE)

    def end_commit(self, commit: Commit) -> None:
        """The changes of one transaction of the source are all there."""
        self._session.insert("livesync_feed_commits", _COMMITS, [(*commit, self._size_bytes)])
        self._size_bytes = 0

    def empty(self, table: str, commit_lsn: int, seq: int, *, unseen_only: bool = False) -> int:
        """Let all rows of a table be gone, each with a change from number `seq` on. Gives how many.

        Args:
            table: the table.
            commit_lsn: the commit.
            seq: number of the first change.
            unseen_only: only rows that were not among those of `saw`.
        """
        where = _UNSEEN if unseen_only else ""
        self._session.ask(_GONE + where, (commit_lsn, seq - 1, table))
        [(count, size_bytes)] = self._session.ask(
            "SELECT count(*), coalesce(sum(length(old)), 0) FROM livesync_feed_changes "
            "WHERE commit_lsn = %s AND seq >= %s",
            (commit_lsn, seq),
        )
        self._session.ask(f"DELETE FROM livesync_feed_rows AS was WHERE name = %s {where}", (table,))  # noqa: S608
        self._size_bytes += size_bytes
        return int(count)

    def saw(self, table: str, keys: Iterable[str]) -> None:
        """These rows are in the source; for `empty` with `unseen_only`."""
        self._session.insert("livesync_feed_seen", ("name", "key"), [(table, key) for key in keys])

    # --- beginnings and ends ---------------------------------------------------------------------------------------

    def begin_epoch(self) -> str:
        """Forget everything, and begin another history, inside of a transaction. Gives its identity."""
        for name in NAMES:
            if name != "state":
                self._session.ask(f"DELETE FROM livesync_feed_{name}")  # noqa: S608 - our names
        self._relations = {}
        return secrets.token_hex(4)

    def distrust(self) -> None:
        """Let whoever reads the source compare all rows with it: a reader that runs notices with its next commit."""
        self.begin()
        self._become(attrs.evolve(self.state, source=None))

    def settle(
        self, source: Source, tables: dict[str, TableState], lsn: int, confirmed_lsn: int, epoch: str | None = None
    ) -> State:
        """Commit: the rows are now those of `source` as of `lsn`, where the next changes follow.

        Args:
            source: what is read from now on.
            tables: the tables whose rows are known.
            lsn: place of what was found to be different, or of the beginning.
            confirmed_lsn: up to here the source may forget its log.
            epoch: of a new history; None when the old one goes on.
        """
        self._session.ask("DELETE FROM livesync_feed_seen")
        if epoch is not None:
            state = State(self.state.generation, epoch, source, tables, lsn, confirmed_lsn, lsn)
        else:
            state = attrs.evolve(self.state, source=source, tables=tables, head_lsn=lsn, confirmed_lsn=confirmed_lsn)
        return self._become(state)

    def forget(self, before_us: int, max_bytes: int) -> bool:
        """Let go of old changes, a step at a time. Rows stay.

        Args:
            before_us: commits before this moment, in microseconds since 1970, are kept no longer.
            max_bytes: the newest changes up to this size are kept at most.

        Returns:
            Whether there is more to be let go of.
        """
        self.begin()
        [(floor,)] = self._session.ask(
            """
            SELECT max(commit_lsn) FROM (
                SELECT commit_lsn, committed_us, sum(size_bytes) OVER (ORDER BY commit_lsn DESC) AS newer_bytes
                FROM livesync_feed_commits
            ) AS sizes WHERE committed_us < %s OR newer_bytes > %s
            """,
            (before_us, max_bytes),
        )
        floor_lsn = max(self.state.floor_lsn, floor or 0)
        self._become(attrs.evolve(self.state, floor_lsn=floor_lsn))  # readers know before anything goes
        self.begin()
        rows = self._session.ask(
            "SELECT commit_lsn, seq FROM livesync_feed_changes WHERE commit_lsn <= %s ORDER BY commit_lsn, seq "
            "LIMIT 1 OFFSET %s",
            (floor_lsn, FEED_FORGET_STEP),
        )
        lsn, seq = rows[0] if rows else (floor_lsn + 1, 0)
        gone = (lsn, lsn, seq)
        self._session.ask(
            "DELETE FROM livesync_feed_changes WHERE commit_lsn < %s OR (commit_lsn = %s AND seq < %s)", gone
        )
        self._session.ask("DELETE FROM livesync_feed_commits WHERE commit_lsn < %s", (lsn,))
        self._session.ask("DELETE FROM livesync_feed_last WHERE commit_lsn < %s", (lsn,))
        self._session.commit()
        return bool(rows)

    def compact(self, before_us: int) -> bool:
        """Of old changes keep the last of each row, a step at a time.

        Args:
            before_us: of commits before this moment, in microseconds since 1970.

        Returns:
            Whether there is more to be left out.
        """
        self.begin()
        compacted_lsn = compact(self._session, self.state, before_us)
        if compacted_lsn is None:
            self._session.rollback()
            return False
        self._become(attrs.evolve(self.state, compacted_lsn=compacted_lsn))
        return True
