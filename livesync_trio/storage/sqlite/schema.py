"""Tables of the SQLite engine: numbered migrations, and whether a file is one of ours.

Owns the schema. Names carry `PERSISTENCE_FORMAT_VERSION`, so that another format means other tables beside these; the
one table without it, `livesync_migrations`, says which formats a file has seen. A migration, once released, is never
edited: the next one amends it. Statements stand one by one, each as it would be typed into the `sqlite3` shell.
"""

import sqlite3
from typing import Final

import attrs

from livesync_trio.limits import PERSISTENCE_FORMAT_VERSION
from livesync_trio.storage.sqlite import records


@attrs.frozen
class Migration:
    """One step of the schema, applied in a transaction of its own.

    Attributes:
        number: 1, 2, … without gaps within a format.
        purpose: what it is for, kept in the database for whoever looks.
        statements: SQL, one statement each.
    """

    number: int
    purpose: str
    statements: tuple[str, ...]


class NotOurs(Exception):
    """The file holds something this version cannot serve; the message tells the operator what to do."""


_MIGRATIONS_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS livesync_migrations (
        format INTEGER NOT NULL,
        number INTEGER NOT NULL,
        purpose TEXT NOT NULL,
        applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
        PRIMARY KEY (format, number)
    )
"""

# AUTOINCREMENT: the number of a replaced log is never given out again, because readers and actors compare it.
_STORES: Final = """
    CREATE TABLE livesync_7_stores (
        log_id INTEGER PRIMARY KEY AUTOINCREMENT,
        store_id TEXT NOT NULL UNIQUE,
        backend_id TEXT NOT NULL,
        head INTEGER NOT NULL DEFAULT 0,
        event_count INTEGER NOT NULL DEFAULT 0,
        created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    )
"""

# `event` stands last: whatever is asked of a row but its text is read without touching the pages a long text fills.
_EVENTS: Final = """
    CREATE TABLE livesync_7_events (
        log_id INTEGER NOT NULL,
        seq_num INTEGER NOT NULL,
        parent_seq_num INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        size_bytes INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        event TEXT NOT NULL,
        PRIMARY KEY (log_id, seq_num)
    )
"""

# The database itself compares and advances the head, row by row: nothing enters a log, whoever writes it, but what
# continues its head, and one INSERT is a whole append (`writer`).
_EVENT_CONTINUES_HEAD: Final = """
    CREATE TRIGGER livesync_7_event_continues_head BEFORE INSERT ON livesync_7_events
    BEGIN
        UPDATE livesync_7_stores SET head = NEW.seq_num, event_count = NEW.ordinal
            WHERE log_id = NEW.log_id AND head = NEW.parent_seq_num AND event_count = NEW.ordinal - 1;
        SELECT RAISE(ABORT, 'the event does not continue the head of this log') WHERE changes() <> 1;
    END
"""

_REPLACED: Final = """
    CREATE TABLE livesync_7_replaced (
        log_id INTEGER PRIMARY KEY,
        store_id TEXT NOT NULL,
        backend_id TEXT NOT NULL,
        head INTEGER NOT NULL,
        event_count INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        replaced_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    )
"""

# What is told of a store without a walk through its events, kept by the trigger below. Events of before have no
# checksum, and those whose user is not to be stored no user: NULL at the end of a row takes no room.
_SUMMARIES: Final = (
    "ALTER TABLE livesync_7_stores ADD COLUMN text_bytes INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE livesync_7_stores ADD COLUMN last_push_at TEXT",
    """
    UPDATE livesync_7_stores AS stores SET
        text_bytes = (SELECT coalesce(sum(size_bytes), 0) FROM livesync_7_events WHERE log_id = stores.log_id),
        last_push_at = (
            SELECT created_at FROM livesync_7_events WHERE log_id = stores.log_id ORDER BY seq_num DESC LIMIT 1
        )
    """,
    "ALTER TABLE livesync_7_events ADD COLUMN checksum INTEGER",
    "ALTER TABLE livesync_7_events ADD COLUMN pushed_by TEXT",
)

# An event may announce a run of events that it begins: how many, which head, how many bytes of text; only how many,
# when it is alone. With the announcement the head is compared and moved to the end of the run; what is not announced
# is let in only where the head has been moved that far. So nothing gets behind a head, whoever writes it, but what
# continues it, and one INSERT is a whole append (`insert`). An event without a number, which fills a statement
# up to its length, is passed over.
_APPEND_CONTINUES_HEAD: Final = (
    "DROP TRIGGER livesync_7_event_continues_head",
    "ALTER TABLE livesync_7_events ADD COLUMN append_events INTEGER",
    "ALTER TABLE livesync_7_events ADD COLUMN append_head INTEGER",
    "ALTER TABLE livesync_7_events ADD COLUMN append_bytes INTEGER",
    """
    CREATE TRIGGER livesync_7_append_continues_head BEFORE INSERT ON livesync_7_events
    WHEN NEW.append_events IS NOT NULL OR NOT EXISTS (
        SELECT 1 FROM livesync_7_stores
        WHERE log_id = NEW.log_id AND event_count >= NEW.ordinal AND head >= NEW.seq_num
    )
    BEGIN
        SELECT RAISE(IGNORE) WHERE NEW.seq_num IS NULL;
        UPDATE livesync_7_stores SET
                head = coalesce(NEW.append_head, NEW.seq_num),
                event_count = NEW.ordinal - 1 + NEW.append_events,
                text_bytes = text_bytes + coalesce(NEW.append_bytes, NEW.size_bytes),
                last_push_at = NEW.created_at
            WHERE log_id = NEW.log_id AND head = NEW.parent_seq_num AND event_count = NEW.ordinal - 1
                AND NEW.append_events > 0;
        SELECT RAISE(ABORT, 'the event does not continue the head of this log') WHERE changes() <> 1;
    END
    """,
)

# An id belongs to one event of its log, for ever. Events of LiveStore clients have none: NULL at the end of a row takes
# no room, and what has no id is in no index.
_APPEND_IDS: Final = (
    "ALTER TABLE livesync_7_events ADD COLUMN append_id TEXT",
    """
    CREATE UNIQUE INDEX livesync_7_append_ids ON livesync_7_events (log_id, append_id) WHERE append_id IS NOT NULL
    """,
)

# Nothing moves the head of a frozen store, whoever writes it. Of an erased log the bytes go, not only the rows.
_FROZEN: Final = (
    "ALTER TABLE livesync_7_stores ADD COLUMN frozen INTEGER NOT NULL DEFAULT 0",
    """
    CREATE TRIGGER livesync_7_frozen_stays BEFORE UPDATE OF head ON livesync_7_stores WHEN OLD.frozen
    BEGIN
        SELECT RAISE(ABORT, 'the store is frozen');
    END
    """,
    "ALTER TABLE livesync_7_replaced ADD COLUMN erased INTEGER NOT NULL DEFAULT 0",
)

MIGRATIONS: Final = (
    Migration(
        1,
        "stores, their events, and logs that a reset replaced",
        (_STORES, _EVENTS, _EVENT_CONTINUES_HEAD, _REPLACED),
    ),
    Migration(
        2,
        "size and last push of a store, checksum and user of an event",
        (*_SUMMARIES, *_APPEND_CONTINUES_HEAD),
    ),
    Migration(3, "records of the server", (records.TABLE,)),
    Migration(4, "ids of events that were appended without a number", _APPEND_IDS),
    Migration(5, "frozen stores, and logs that were erased", _FROZEN),
)
"""The schema of `PERSISTENCE_FORMAT_VERSION`, in order."""

REQUIRED: Final = frozenset(
    {
        "livesync_7_stores",
        "livesync_7_events",
        "livesync_7_append_continues_head",
        "livesync_7_append_ids",
        "livesync_7_frozen_stays",
        "livesync_7_replaced",
        "livesync_7_records",
    }
)
"""What must be there when all migrations have been applied. Without the trigger, heads would stand still; without the
index, an id might be given twice."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a new or older database to the schema of this version; a current one is only read.

    Args:
        connection: in autocommit mode.

    Raises:
        NotOurs: a newer format, another program's database, or something is missing.
        sqlite3.Error: the database cannot be read or written.
    """
    before = _names(connection)
    if before and "livesync_migrations" not in before:
        raise NotOurs("it is the database of another program: name a file of the server's own")
    for migration in MIGRATIONS[_applied(connection) if before else 0 :]:
        _apply(connection, migration)
    missing = sorted(REQUIRED - _names(connection))
    if missing:
        raise NotOurs(f"{', '.join(missing)} is missing from it: restore a backup")


def check(connection: sqlite3.Connection) -> None:
    """Check that a database has the schema of this version, and change nothing.

    Raises:
        NotOurs: it has not.
        sqlite3.Error: the database cannot be read.
    """
    found = _names(connection)
    if "livesync_migrations" not in found:
        raise NotOurs("it is not a database of livesync")
    if _applied(connection) < len(MIGRATIONS):
        raise NotOurs("its tables are those of an older version: start the server of this version once")
    missing = sorted(REQUIRED - found)
    if missing:
        raise NotOurs(f"{', '.join(missing)} is missing from it: restore a backup")


def _names(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


def _applied(connection: sqlite3.Connection) -> int:
    """Number of the last migration applied, 0 for none."""
    newest_format, newest_number = connection.execute(
        "SELECT max(format), max(number) FILTER (WHERE format = ?) FROM livesync_migrations",
        (PERSISTENCE_FORMAT_VERSION,),
    ).fetchone()
    if (newest_format or 0) > PERSISTENCE_FORMAT_VERSION:
        raise NotOurs(
            f"it has format {newest_format}, this version knows formats up to {PERSISTENCE_FORMAT_VERSION}: "
            "run the newer livesync that wrote it, or restore a backup from before the upgrade"
        )
    applied = int(newest_number or 0)
    if applied > len(MIGRATIONS):
        raise NotOurs(
            f"its schema is number {applied}, this version knows {len(MIGRATIONS)}: "
            "run the newer livesync that wrote it"
        )
    return applied


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_MIGRATIONS_TABLE)
        for statement in migration.statements:
            connection.execute(statement)
        connection.execute(
            "INSERT INTO livesync_migrations (format, number, purpose) VALUES (?, ?, ?)",
            (PERSISTENCE_FORMAT_VERSION, migration.number, migration.purpose),
        )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
