"""A second reader of the same log, by SQL, that says in which order what was committed: what ours is compared with."""

from __future__ import annotations

import json
from typing import Any

import attrs

from livesync_trio.feed.history.reading import Reader
from livesync_trio.feed.history.state import State, TableState
from livesync_trio.feed.pgoutput import Begin, Delete, Insert, Truncate, Update, Values, decode
from livesync_trio.feed.position import Position
from tests.feed.conftest import SourceDatabase

Told = tuple[str, str, str]
"""Table, operation, key."""


@attrs.define
class Witness:
    """Begins where it is made; no transaction may be open then."""

    source: SourceDatabase
    tables: dict[str, TableState]
    keys: dict[str, set[str]]
    """Of the rows that there were."""

    def __attrs_post_init__(self) -> None:
        self.source.run(f"SELECT pg_create_logical_replication_slot('{self.slot}', 'pgoutput')")

    @property
    def slot(self) -> str:
        return f"witness_{self.source.name}"

    def messages(self) -> list[bytes]:
        """All of the log since it began."""
        rows = self.source.run(
            f"SELECT data FROM pg_logical_slot_peek_binary_changes('{self.slot}', NULL, NULL, "
            "'proto_version', '1', 'publication_names', 'livesync_feed')"
        )
        return [bytes(data) for (data,) in rows]

    def commits(self) -> dict[int, list[Told]]:
        """Every commit that changed a row, in order, and what it changed."""
        by_oid = {state.oid: table for table, state in self.tables.items()}
        keys = {table: set(known) for table, known in self.keys.items()}
        commits: dict[int, list[Told]] = {}
        told: list[Told] = []

        def tell(table: str, operation: str, key: str) -> None:
            told.append((table, operation, key))
            (keys[table].discard if operation == "d" else keys[table].add)(key)

        for message in map(decode, self.messages()):
            match message:
                case Begin(lsn):
                    told = commits[lsn] = []
                case Insert(oid, new):
                    tell(by_oid[oid], "i", self._key(by_oid[oid], new))
                case Update(oid, _, old, new):
                    before = self._key(by_oid[oid], new if old is None else old)
                    after = self._key(by_oid[oid], new)
                    if before == after:
                        tell(by_oid[oid], "u", after)
                    else:
                        tell(by_oid[oid], "d", before)
                        tell(by_oid[oid], "i", after)
                case Delete(oid, _, old):
                    tell(by_oid[oid], "d", self._key(by_oid[oid], old))
                case Truncate(oids):
                    for table in (by_oid[oid] for oid in oids):
                        for key in sorted(keys[table], key=str.encode):
                            tell(table, "d", key)
        return {lsn: told for lsn, told in commits.items() if told}

    def _key(self, table: str, values: Values) -> str:
        state = self.tables[table]
        names = [column.name for column in state.columns]
        key: list[Any] = [values[names.index(name)] for name in state.key]
        return json.dumps(key, separators=(",", ":"), ensure_ascii=False)


def stored(history: Reader, after: Position) -> dict[int, list[Told]]:
    """What a history holds behind a position; each change is numbered, and found what it says was there."""
    state: State = history.state()
    commits: dict[int, list[Told]] = {}
    while changes := history.changes(state.epoch, after, state.head_lsn, 500).changes:
        for change in changes:
            assert change.position > after
            after = change.position
            told = commits.setdefault(after.commit_lsn, [])
            assert after.seq == len(told)
            told.append((history.relation(change.relation).table, change.operation, change.key))
    counts = {lsn: commit.changes for lsn, commit in history.commits(min(commits, default=0), state.head_lsn).items()}
    assert counts.items() >= {lsn: len(told) for lsn, told in commits.items()}.items()
    return commits
