"""The table shape of sync-cf as an export: an SQLite file with `eventlog_7_<store>` and `context_7`, as it has.

Owns those tables. Names of stores that sync-cf itself would put into one table are refused.
"""

import sqlite3
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

import msgspec

from livesync_trio.archive.entries import Entry
from livesync_trio.archive.files import STANDARD_OUTPUT, Part, cannot_write
from livesync_trio.archive.reading import OnEvents, log_entries, unheard
from livesync_trio.archive.sources.cloudflare import table_name
from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import LOAD_MAX_EVENTS
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import Reader
from livesync_trio.wire.reading import plain, read

_EVENTLOG: Final = """
    CREATE TABLE "{table}" (
        "seqNum" INTEGER PRIMARY KEY, "parentSeqNum" INTEGER NOT NULL, "name" TEXT NOT NULL, "args" TEXT,
        "createdAt" TEXT NOT NULL, "clientId" TEXT NOT NULL, "sessionId" TEXT NOT NULL
    ) STRICT
"""
_CONTEXT: Final = """
    CREATE TABLE "context_7" (
        "storeId" TEXT PRIMARY KEY, "currentHead" INTEGER NOT NULL, "backendId" TEXT NOT NULL
    ) STRICT
"""
_EVENT: Final = """
    INSERT INTO "{table}" (seqNum, parentSeqNum, name, args, createdAt, clientId, sessionId)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""


class _Members(msgspec.Struct):
    name: msgspec.Raw
    args: msgspec.Raw
    clientId: msgspec.Raw  # noqa: N815 -- the wire's names
    sessionId: msgspec.Raw  # noqa: N815


_members: Final = msgspec.json.Decoder(_Members)


def export_tables(
    reader: Reader,
    stores: Iterable[tuple[StoreId, LogState]],
    path: Path,
    *,
    overwrite: bool = False,
    protected: Collection[Path] = (),
    on_events: OnEvents = unheard,
) -> tuple[int, int]:
    """Write stores into an SQLite file.

    Args:
        reader: where they are kept.
        stores: which, each up to the head it is given with.
        path: the file; it appears when it is whole.
        overwrite: replace a file of that name.
        protected: files of the database, which are never replaced.
        on_events: told of progress.

    Returns:
        How many stores and events there are in it.

    Raises:
        CommandError: the file exists or cannot be written, two stores would share a table, or a text is not Unicode.
        StoreDamaged, StorageUnavailable, LogReplaced: as `reading.log_entries`.
    """
    wanted = list(stores)
    _check_names([store_id for store_id, _ in wanted])
    if str(path) == STANDARD_OUTPUT or path.suffix == ".gz":
        raise CommandError(Kind.BAD_CONFIG, "--format sqlite writes a plain file: name one, without .gz.")
    events = 0
    with Part(path, overwrite=overwrite, protected=protected, resumable=False) as part:
        try:
            connection = sqlite3.connect(part.part, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode = OFF")  # the file is synced as a whole before it gets its name
                connection.execute("PRAGMA synchronous = OFF")
                connection.execute(_CONTEXT)
                for store_id, log in wanted:
                    events += _fill(connection, reader, store_id, log, on_events)
            finally:
                connection.close()
        except OSError as error:
            raise cannot_write(path, error) from error
        except sqlite3.Error as error:
            raise CommandError(Kind.BAD_CONFIG, f"{path} cannot be written: {error}.") from error
        part.finish()
    return len(wanted), events


def _check_names(store_ids: list[StoreId]) -> None:
    tables: dict[str, StoreId] = {}
    for store_id in store_ids:
        other = tables.setdefault(table_name(store_id).lower(), store_id)
        if other != store_id:
            raise CommandError(
                Kind.BAD_CONFIG,
                f"{other!r} and {store_id!r} would share the table {table_name(store_id)}: export them into two files.",
            )


def _fill(connection: sqlite3.Connection, reader: Reader, store_id: StoreId, log: LogState, on_events: OnEvents) -> int:
    table = table_name(store_id)
    connection.execute(_EVENTLOG.format(table=table))
    statement, events = _EVENT.format(table=table), 0
    connection.execute("BEGIN")
    for entry in log_entries(reader, store_id, log, on_events=on_events):
        connection.execute(statement, _row(store_id, entry))
        events += 1
        if events % LOAD_MAX_EVENTS == 0:
            connection.execute("COMMIT")
            connection.execute("BEGIN")
    connection.execute("INSERT INTO context_7 VALUES (?, ?, ?)", (store_id, log.head, log.backend_id))
    connection.execute("COMMIT")
    return events


def _row(store_id: StoreId, entry: Entry) -> tuple[object, ...]:
    members, restore = read(_members, entry.json)
    name, client_id, session_id = (plain(restore(raw)) for raw in (members.name, members.clientId, members.sessionId))
    row = (
        entry.seq_num,
        entry.parent_seq_num,
        name,
        restore(members.args).decode(),
        entry.created_at,
        client_id,
        session_id,
    )
    try:
        f"{name}{client_id}{session_id}".encode()
    except UnicodeEncodeError:
        raise CommandError(
            Kind.BAD_CONFIG,
            f"e{entry.seq_num} of {store_id!r} has a name or an id that no SQLite table can hold: use --format jsonl.",
        ) from None
    return row
