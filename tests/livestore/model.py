"""What a store is, in few lines: the fold of a log, which is the server's log and then one's own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from livesync_trio.livestore.events import Bindings, LogEvent
from livesync_trio.livestore.schema import Schema

Rows = dict[str, list[tuple[Any, ...]]]


class Folder:
    """Applies events to an empty database of the standard library, and asks it as a materializer would."""

    def __init__(self, schema: Schema) -> None:
        self._schema, self.client_id = schema, ""
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        self._database.execute("PRAGMA foreign_keys = ON")
        self._database.executescript(schema.tables)

    def query(self, sql: str, bindings: Bindings = ()) -> list[dict[str, Any]]:
        cursor = self._database.execute(sql, bindings)
        return [dict(zip([column[0] for column in cursor.description], row, strict=True)) for row in cursor]

    def fold(self, events: Iterable[LogEvent], reading: dict[str, str]) -> Rows:
        for event in events:
            decoded = self._schema.decode(event.name, event.args)
            self.client_id = event.client_id
            if decoded is not None:
                for sql, bindings in self._schema.statements(decoded, self):
                    self._database.execute(sql, bindings)
        rows = {table: self._database.execute(sql).fetchall() for table, sql in reading.items()}
        self._database.close()
        return rows


class ModelServer:
    """A log that takes a batch which continues it, and nothing else."""

    def __init__(self) -> None:
        self.log: list[LogEvent] = []

    @property
    def head(self) -> int:
        return self.log[-1].seq_num if self.log else 0

    def push(self, batch: Sequence[LogEvent]) -> bool:
        if not batch or batch[0].parent_seq_num != self.head:
            return False
        self.log.extend(batch)
        return True

    def write(self, name: str, args: str) -> None:
        """Somebody else commits."""
        self.log.append(LogEvent(self.head + 1, self.head, name, args, "other", "static"))
