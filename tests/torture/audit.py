"""The auditor: compares what clients were told with what the database holds.

Stands outside: it reads a copy of the SQLite files with statements of its own and knows nothing of the server's code.
It copies before it looks, so that a file left by `kill -9` is recovered in the copy only, and the server meets the
original.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import attrs
import psycopg

from tests.simulation.leader import Leader, Received, Violation

_STORES = "SELECT store_id, log_id, backend_id, head, event_count FROM livesync_7_stores"
_EVENTS = (
    "SELECT log_id, seq_num, parent_seq_num, ordinal, json_extract(event, '$.args') FROM livesync_7_events"
    " ORDER BY log_id, seq_num"
)

_POSTGRES_STORES = "SELECT convert_from(store_id, 'UTF8'), log_id, backend_id, head, event_count FROM livesync_7_stores"
_POSTGRES_EVENTS = (
    "SELECT log_id, seq_num, parent_seq_num, ordinal, event::json ->> 'args' FROM livesync_7_events"
    " ORDER BY log_id, seq_num"
)


@attrs.define
class StoredLog:
    """One store's log as it lies in the file."""

    store: str
    backend_id: str
    head: int
    event_count: int
    numbers: list[int] = attrs.Factory(list)
    contents: list[str] = attrs.Factory(list)

    def place(self, event: tuple[int, int, int, str]) -> None:
        """Take the next event, which must continue those before."""
        number, parent, ordinal, content = event
        before = self.numbers[-1] if self.numbers else 0
        if parent != before or number <= before or ordinal != len(self.numbers) + 1:
            raise Violation(f"store {self.store}: e{number} with parent e{parent}, ordinal {ordinal} follows e{before}")
        self.numbers.append(number)
        self.contents.append(content)

    def check_whole(self) -> None:
        """Head, count and events belong together, and nothing is there twice."""
        last = self.numbers[-1] if self.numbers else 0
        if (self.head, self.event_count) != (last, len(self.numbers)):
            raise Violation(f"store {self.store}: head e{self.head} of {self.event_count}, stored e{last}")
        if len(set(self.contents)) != len(self.contents):
            raise Violation(f"store {self.store}: an event is stored twice")


def read_logs(database: Path, *, live: bool = False) -> dict[str, StoredLog]:
    """Every store in a copy of the file and its WAL; empty when there is no table yet.

    `live`: a server works on the file. Then SQLite makes the copy: between two plain copies a checkpoint may move
    what is committed from the file that is copied last to the one that was copied first.
    """
    with tempfile.TemporaryDirectory(prefix="audit-", dir=database.parent) as directory:
        copy = Path(directory) / "copy.db"
        if live:
            url = f"{database.as_uri()}?mode=ro"
            with closing(sqlite3.connect(url, uri=True)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
        else:
            for suffix in ("", "-wal"):
                source_path = database.with_name(database.name + suffix)
                if source_path.exists():
                    shutil.copyfile(source_path, copy.with_name(copy.name + suffix))
        if not copy.exists():
            return {}
        with closing(sqlite3.connect(copy)) as connection:
            return _read(connection)


def _read(connection: sqlite3.Connection) -> dict[str, StoredLog]:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if "livesync_7_events" not in tables:
        return {}
    (verdict,) = connection.execute("PRAGMA quick_check").fetchone()
    if verdict != "ok":
        raise Violation(f"the file is damaged: {verdict}")
    by_number = {
        log_id: StoredLog(store, backend_id, head, count)
        for store, log_id, backend_id, head, count in connection.execute(_STORES)
    }
    for log_id, *event in connection.execute(_EVENTS):
        if log_id in by_number:  # else a log that a reset replaced and nobody has cleared yet
            by_number[log_id].place((event[0], event[1], event[2], event[3]))
    logs = {log.store: log for log in by_number.values()}
    for log in logs.values():
        log.check_whole()
    return logs


def read_postgres_logs(url: str) -> dict[str, StoredLog]:
    """Every store of a PostgreSQL database, by statements of its own as well."""
    with psycopg.connect(url) as connection:
        stores = connection.execute(_POSTGRES_STORES).fetchall()
        logs = {log_id: StoredLog(store, backend_id, head, count) for store, log_id, backend_id, head, count in stores}
        for log_id, number, parent, ordinal, content in connection.execute(_POSTGRES_EVENTS):
            if log_id in logs:
                logs[log_id].place((number, parent, ordinal, content))
    for log in logs.values():
        log.check_whole()
    return {log.store: log for log in logs.values()}


@attrs.define
class Auditor:
    """Remembers from audit to audit what may never change again."""

    identities: dict[str, list[str]] = attrs.Factory(lambda: defaultdict(list))
    resets_asked: dict[str, int] = attrs.Factory(lambda: defaultdict(int))
    heads: dict[str, int] = attrs.Factory(dict)
    acknowledgements: int = 0

    def audit(
        self, database: Path, clients: Mapping[str, Iterable[Leader]], *, live: bool = False
    ) -> dict[str, StoredLog]:
        """Compare the file with what clients were told; `live` as in `read_logs`. Raises Violation."""
        logs = read_logs(database, live=live)
        for store, log in logs.items():
            self._check_identity(store, log)
        self.acknowledgements = 0
        for store, leaders in clients.items():
            log = logs.get(store) or StoredLog(store, "", 0, 0)
            position = {content: index for index, content in enumerate(log.contents)}
            for leader in leaders:
                self._check_leader(leader, log, position)
        return logs

    def _check_identity(self, store: str, log: StoredLog) -> None:
        seen = self.identities[store]
        if seen and seen[-1] == log.backend_id:
            if log.head < self.heads[store]:
                raise Violation(f"store {store} went back from e{self.heads[store]} to e{log.head}")
        elif log.backend_id in seen:
            raise Violation(f"store {store} has its old identity again")
        else:
            seen.append(log.backend_id)
            if len(seen) > 1 + self.resets_asked[store]:
                raise Violation(f"store {store} has another identity, and nobody reset it")
        self.heads[store] = log.head

    def _check_leader(self, leader: Leader, log: StoredLog, position: Mapping[str, int]) -> None:
        for attempt in leader.attempts:
            if attempt.outcome != "ok":
                continue
            self.acknowledgements += 1
            if attempt.backend_id != log.backend_id:
                self._check_replaced(leader.name, log.store, attempt.backend_id)
                continue
            places = [position.get(content) for content in attempt.contents]
            first = places[0]
            if first is None or places != list(range(first, first + len(places))):
                raise Violation(f"acknowledged, but not in the file as one piece: {_short(attempt.contents)}: {places}")
            if (log.numbers[first - 1] if first else 0) != attempt.parent:
                raise Violation(f"acknowledged at another place than pushed to: {_short(attempt.contents)}")
        self._check_received(leader.name, leader.log, log)

    def _check_received(self, name: str, received: Received, log: StoredLog) -> None:
        if received.backend_id is None:
            return
        if received.backend_id != log.backend_id:
            self._check_replaced(name, log.store, received.backend_id)
        elif received.contents != log.contents[: len(received.contents)]:
            raise Violation(f"{name} was sent something else than the beginning of the log")

    def _check_replaced(self, name: str, store: str, backend_id: str) -> None:
        """An identity that is not there any more must have been replaced because somebody asked for it."""
        if self.resets_asked[store] == 0:
            raise Violation(f"{name} was told identity {backend_id} of store {store}, which is not in the file")


def _short(contents: tuple[str, ...]) -> str:
    return json.dumps([content[:30] for content in contents[:3]])
