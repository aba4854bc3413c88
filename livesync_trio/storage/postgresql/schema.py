"""Bringing a PostgreSQL database to the schema of this version, and telling what is missing.

Owns `livesync_migrations`, which says which halves of which migrations a database has seen. *pre* halves are applied by
every server on its start, under an advisory lock; *post* halves when an operator says that no older server runs any
more, or at once in a database that is new.
"""

import time
from collections.abc import Iterable
from typing import Final

import attrs
import psycopg
from psycopg import sql

from livesync_trio.errors import StorageUnavailable
from livesync_trio.limits import PERSISTENCE_FORMAT_VERSION, POSTGRES_MIGRATION_LIMIT_S
from livesync_trio.storage.postgresql.connection import Connection
from livesync_trio.storage.postgresql.tables import GRANTS, MIGRATIONS, MIGRATIONS_TABLE, TABLES, Migration

POSTGRES_MIGRATION_LOCK_MS: Final = 500
"""How long a step of the schema waits for a table's lock, while everybody else's statements queue behind it."""

POSTGRES_MIGRATION_STORES: Final = 100
"""Stores that a step of the schema counts in one transaction; a push to one of them waits for it."""

POSTGRES_MIGRATION_PAUSE_S: Final = 2.0
"""Between two such waits: the servers of the version before are served meanwhile."""

_LOCK: Final = 0x6C697665_73796E63
"""Number of the advisory lock: "livesync" in ASCII."""

_NOTE: Final = "INSERT INTO livesync_migrations (format, number, half, purpose) VALUES ({}, {}, {}, {})"


class NotOurs(Exception):
    """The database holds something this version cannot serve; the message tells the operator what to do."""


class MayNotCreate(Exception):
    """The role has no right to create tables; `script` is the SQL for one that has."""

    def __init__(self, script: str) -> None:
        super().__init__(script)
        self.script = script


@attrs.frozen
class Step:
    """One half of a migration that a database has not seen."""

    number: int
    half: str
    purpose: str
    statements: tuple[str, ...]
    batches: tuple[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.number} {self.half}: {self.purpose}"


@attrs.frozen
class Pending:
    """What a database has not seen yet. `pre` must be there before this version serves; `post` may wait."""

    pre: tuple[Step, ...]
    post: tuple[Step, ...]
    new: bool


def pending(connection: Connection, migrations: tuple[Migration, ...] = MIGRATIONS) -> Pending:
    """Which halves are missing. Reads only.

    Raises:
        NotOurs: the database was brought further than this version can follow, or lost tables.
        psycopg.Error: it cannot be read.
    """
    seen = _seen(connection)
    _check_known(seen, migrations)
    pre, post = _steps(migrations, "pre", seen), _steps(migrations, "post", seen)
    if not pre:
        _check_there(connection, migrations)
    return Pending(pre, post, new=not seen)


def migrate(connection: Connection, *, finish: bool = False, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
    """Apply what is missing: *pre* halves, and with `finish` (or in a new database) *post* halves, too.

    Any number of servers may do this at once: they take turns, and find it done. On this connection answers are awaited
    for as long as a step may take from then on. A step waits for a table's lock for a moment only, since everybody else
    queues behind it; the steps before it stay applied.

    Raises:
        StorageUnavailable: a transaction of somebody else holds a table; says whose. Try again later.
        NotOurs: see `pending`.
        MayNotCreate: the role may not; nothing was changed.
        psycopg.Error: the database cannot be read or written.
    """
    connection.answer_limit_s = POSTGRES_MIGRATION_LIMIT_S
    found = pending(connection, migrations)
    finish = finish or found.new
    while steps := _in_order(found, finish):
        try:
            _apply(connection, steps[0])
        except psycopg.errors.LockNotAvailable as error:
            reason = f"step {steps[0].number} of the schema waits for another transaction to end{_holders(connection)}"
            time.sleep(POSTGRES_MIGRATION_PAUSE_S)  # whoever queued behind us goes first
            raise StorageUnavailable(reason) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise MayNotCreate(script(connection, steps)) from error
        found = pending(connection, migrations)


def script(connection: Connection, steps: Iterable[Step]) -> str:
    """The SQL that applies steps, for an operator's `psql`."""
    role = sql.Identifier(connection.info.user).as_string(connection)
    lines = ["BEGIN;", f"{MIGRATIONS_TABLE.strip()};"]
    for step in steps:
        lines += [f"{statement.strip()};" for statement in step.statements]
        lines.append(f"{_note(connection, step)};")
    return "\n\n".join([*lines, GRANTS.format(role=role), "COMMIT;"])


def _in_order(found: Pending, finish: bool) -> list[Step]:
    """By number, *pre* before *post*."""
    return sorted([*found.pre, *(found.post if finish else ())], key=lambda step: (step.number, step.half == "post"))


def _apply(connection: Connection, step: Step) -> None:
    """Apply one step, unless somebody else has by now."""
    _count(connection, step)
    with connection.transaction():
        # That of a role would cancel the step again and again.
        connection.execute("SELECT set_config('statement_timeout', '0', true)")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute("SELECT set_config('lock_timeout', %s, true)", (str(POSTGRES_MIGRATION_LOCK_MS),))
        if (PERSISTENCE_FORMAT_VERSION, step.number, step.half) in _seen(connection):
            return
        if not _exists(connection, "livesync_migrations"):  # even IF NOT EXISTS wants the right to create
            connection.execute(MIGRATIONS_TABLE)
        for statement in step.statements:
            connection.execute(statement.encode())
        connection.execute(_note(connection, step).encode())


def _count(connection: Connection, step: Step) -> None:
    """Carry out the part of a step that goes over all stores, some of them a transaction."""
    if step.batches is None:
        return
    choose, change = (statement.encode() for statement in step.batches)
    while True:
        with connection.transaction():
            connection.execute("SELECT set_config('statement_timeout', '0', true)")
            chosen = [store_id for (store_id,) in connection.execute(choose, (POSTGRES_MIGRATION_STORES,)).fetchall()]
            if not chosen:
                return
            connection.execute(change, (chosen,))


_HOLDERS: Final = """
    SELECT DISTINCT activity.pid, activity.usename::text, activity.application_name, activity.state,
        date_trunc('second', activity.xact_start)::text
    FROM pg_locks AS locks JOIN pg_stat_activity AS activity USING (pid)
    WHERE locks.granted AND locks.pid <> pg_backend_pid() AND locks.relation IN (
        SELECT oid FROM pg_class WHERE relname = ANY (%s) AND relnamespace = current_schema()::regnamespace)
    ORDER BY 5 LIMIT 3
"""


def _holders(connection: Connection) -> str:
    """Who has a lock on one of our tables, the oldest transaction first; never what they ask."""
    rows = connection.execute(_HOLDERS, (list(TABLES),)).fetchall()
    told = [
        f"process {pid} of {user or 'somebody'} ({application or 'unnamed'}, {state or 'unknown'}, since {since})"
        for pid, user, application, state, since in rows
    ]
    return f": {'; '.join(told)}" if told else ""


def _note(connection: Connection, step: Step) -> str:
    values = (PERSISTENCE_FORMAT_VERSION, step.number, step.half, step.purpose)
    return sql.SQL(_NOTE).format(*map(sql.Literal, values)).as_string(connection)


def _seen(connection: Connection) -> set[tuple[int, int, str]]:
    if not _exists(connection, "livesync_migrations"):
        return set()
    rows = connection.execute("SELECT format, number, half FROM livesync_migrations").fetchall()
    return {(format_, number, half) for format_, number, half in rows}


def _steps(migrations: tuple[Migration, ...], half: str, seen: set[tuple[int, int, str]]) -> tuple[Step, ...]:
    steps = (
        Step(one.number, half, one.purpose, *((one.pre, one.batches) if half == "pre" else (one.post, None)))
        for one in migrations
    )
    return tuple(
        step for step in steps if step.statements and (PERSISTENCE_FORMAT_VERSION, step.number, half) not in seen
    )


def _check_known(seen: set[tuple[int, int, str]], migrations: tuple[Migration, ...]) -> None:
    newest = max((format_ for format_, _, _ in seen), default=0)
    if newest > PERSISTENCE_FORMAT_VERSION:
        raise NotOurs(
            f"it has format {newest}, this version knows formats up to {PERSISTENCE_FORMAT_VERSION}: "
            "run the newer livesync that wrote it, or restore a backup from before the upgrade"
        )
    finished = max((number for _, number, half in seen if half == "post"), default=0)
    if finished > len(migrations):
        raise NotOurs(
            f"migration {finished} was finished there, this version knows {len(migrations)}: "
            "run the newer livesync that did it"
        )


def _check_there(connection: Connection, migrations: Iterable[Migration]) -> None:
    missing = [name for one in migrations for name in one.tables if not _exists(connection, name)]
    if not missing:
        functions = [name for one in migrations for name in one.functions]
        rows = connection.execute(
            "SELECT proname FROM pg_proc WHERE proname = ANY (%s) AND pronamespace = current_schema()::regnamespace",
            (functions,),
        ).fetchall()
        missing = sorted(set(functions) - {name for (name,) in rows})
    if missing:
        raise NotOurs(f"{', '.join(missing)} is missing from it: restore a backup")


def _exists(connection: Connection, table: str) -> bool:
    # Not to_regclass: inside a transaction it may go on answering from a cache what was true before we got the lock.
    rows = connection.execute(
        "SELECT relnamespace = current_schema()::regnamespace, relnamespace::regnamespace::text, current_schema() "
        "FROM pg_class WHERE relname = %s AND pg_table_is_visible(oid)",
        (table,),
    )
    found = rows.fetchone()
    if found is not None and not found[0]:
        raise NotOurs(
            f"{table} lies in schema {found[1]}, but the first schema of its search_path is {found[2]}: "
            f"put {found[1]} first to use that fleet's tables, or leave it out to have tables of your own"
        )
    return found is not None
