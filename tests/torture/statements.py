"""Processes that are killed with -9 when they begin their n-th SQL statement.

Random kills seldom meet the few statements of a reset or a migration. Here each of them is met, one process a
statement; what is left is looked at by whoever asked. They are forked from one process (`python -m
tests.torture.statements`) that has imported everything already.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import psycopg

from livesync_trio.archive.rewriting import adoption
from livesync_trio.archive.staging import STAGED
from livesync_trio.model import Batch, Event, StoreId
from livesync_trio.storage.base import NO_RECORD, Adopt, Append, Delete, Engine, Freeze, PutRecord, Reset, StoreWrite
from livesync_trio.storage.postgresql import schema as postgres_schema
from livesync_trio.storage.postgresql import tables as postgres_tables
from livesync_trio.storage.postgresql.connection import Connector
from livesync_trio.storage.postgresql.engine import PostgresEngine
from livesync_trio.storage.postgresql.tables import Migration
from livesync_trio.storage.sqlite.engine import SqliteEngine
from tests.feed.statements import die_storing
from tests.storage.making import CREATED_AT, event_json, run_of

ROOT = Path(__file__).resolve().parents[2]
END_LIMIT_S = 90.0
NAMED = 6
"""Events with ids that `append` appends; SQLite tells of each step of the trigger, too."""

NEXT = Migration(
    len(postgres_tables.MIGRATIONS) + 1,
    "colours",
    pre=(
        "ALTER TABLE livesync_7_stores ADD COLUMN colour text",
        "UPDATE livesync_7_stores SET colour = 'green'",
        "CREATE INDEX livesync_7_colours ON livesync_7_stores (colour)",
    ),
    post=("ALTER TABLE livesync_7_stores ALTER COLUMN colour SET NOT NULL",),
)
"""A migration of PostgreSQL that a later version might bring."""
NEWER = (*postgres_tables.MIGRATIONS, NEXT)


_IN_POSTGRES = "postgres-"


class Killer:
    """Starts processes that die; a context."""

    def __enter__(self) -> Killer:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.statements"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._parent.communicate(timeout=END_LIMIT_S)

    def killed_at(self, number: int, act: str, database: str | Path) -> bool:
        """Do it in a process that dies at its `number`-th statement. False: it has fewer, and was done to its end."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(f"{number} {act} {database}\n")
        self._parent.stdin.flush()
        ended = self._parent.stdout.readline().strip()
        if ended not in ("0", f"-{signal.SIGKILL:d}"):
            raise AssertionError(f"{act} ended with {ended!r}; what it said stands in the output of the test")
        return ended != "0"


@attrs.define
class _Countdown:
    """Ends this process at the n-th statement once it has begun."""

    left: int
    begun: bool = False

    def step(self, _: object = None) -> None:
        if self.begun:
            self.left -= 1
            if self.left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


def _sqlite(countdown: _Countdown, database: Path, act: str) -> None:
    class Counting(sqlite3.Connection):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            self.set_trace_callback(countdown.step)

    engine = SqliteEngine(database, Counting)
    countdown.begun = act == "migrate"
    engine.open()
    _change(engine, countdown, act)


def _change(engine: Engine, countdown: _Countdown, act: str) -> None:
    """Carry out what is no migration; statements are counted from its first one on."""
    writer = engine.writer()
    if act in ("reset", "delete", "freeze", "rename"):
        state = engine.reader().state(StoreId("a"))
        assert state is not None
        verbs: dict[str, StoreWrite] = {
            "reset": Reset(StoreId("a")),
            "delete": Delete(StoreId("a")),
            "freeze": Freeze(StoreId("a"), frozen=True),
            "rename": Adopt(StoreId("c"), StoreId("a"), state, state.backend_id, None),
        }
        countdown.begun = True
        [outcome] = writer.commit([verbs[act]])
        if isinstance(outcome, Exception):
            raise outcome
    elif act == "erase":
        reader = engine.reader()
        state, staged = reader.state(StoreId("a")), reader.state(StoreId(f"{STAGED}a"))
        assert state is not None
        assert staged is not None
        countdown.begun = True
        writer.commit([adoption(StoreId("a"), staged, state)])
        while not reader.is_cleared(state):
            writer.clear_replaced(2)
    elif act == "append":
        reader = engine.reader()
        state = reader.state(StoreId("a"))
        assert state is not None
        events = tuple(
            Event(number, number - 1, event_json(number, number - 1), f"id {number}")
            for number in range(state.head + 1, state.head + NAMED + 1)
        )
        countdown.begun = True
        [outcome] = writer.commit([Append(StoreId("a"), state, (Batch(events),), CREATED_AT)])
        if isinstance(outcome, Exception):
            raise outcome
    elif act == "records":
        reader = engine.reader()
        [state, versions] = reader.state(StoreId("a")), [record.version for record in reader.records("kind", None, 9)]
        assert state is not None
        writes = record_writes(versions)
        countdown.begun = True
        for outcome in writer.commit(
            [*writes, Append(StoreId("a"), state, (run_of(1, after=state.head),), CREATED_AT)]
        ):
            if isinstance(outcome, Exception):
                raise outcome


def record_writes(versions: list[int]) -> list[PutRecord]:
    """Of the records a and b, one is replaced and one deleted; c is new."""
    first, second = versions
    return [
        PutRecord("kind", "a", b"2", first),
        PutRecord("kind", "b", None, second),
        PutRecord("kind", "c", b"2", NO_RECORD),
    ]


def _count_postgres(countdown: _Countdown) -> None:
    execute: Callable[..., Any] = psycopg.Cursor.execute

    def counted(*arguments: Any, **options: Any) -> Any:
        countdown.step()
        return execute(*arguments, **options)

    psycopg.Cursor.execute = counted  # type: ignore[method-assign]


def _postgres(countdown: _Countdown, url: str) -> None:
    _count_postgres(countdown)
    with Connector(url).connect() as connection:
        countdown.begun = True
        postgres_schema.migrate(connection, finish=True, migrations=NEWER)


def _act(number: int, act: str, database: str) -> None:
    """Carry out `act`: `reset`, `delete`, `freeze`, `erase` a or `rename` it c, `append` to it, `records`, `migrate`.

    All of it in an SQLite file, or with `postgres-` in front in PostgreSQL, named by its URL; `migrate-postgres` is a
    migration of PostgreSQL, `feed` a piece of a source's log.
    """
    countdown = _Countdown(number)
    if act == "feed":
        die_storing(number, Path(database))
    elif act == "migrate-postgres":
        _postgres(countdown, database)
    elif act.startswith(_IN_POSTGRES):
        _count_postgres(countdown)
        engine = PostgresEngine(database)
        engine.open()
        _change(engine, countdown, act.removeprefix(_IN_POSTGRES))
    else:
        _sqlite(countdown, Path(database), act)


def main() -> None:
    """Fork for each line, and tell how the child ended."""
    for line in sys.stdin:
        number, act, database = line.rstrip("\n").split(" ", 2)
        child = os.fork()
        if not child:
            code = 1
            try:
                _act(int(number), act, database)
                code = 0
            except BaseException:
                traceback.print_exc()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
