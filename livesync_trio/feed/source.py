"""The database that is followed: what must be true of it, and what is made in it.

Everything here is asked before anything is changed: a table without a usable key in a publication makes the *user's
own* UPDATE fail, so such a table is refused first, in words.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from livesync_trio.feed.history.state import TableState
from livesync_trio.feed.limits import FEED_STATEMENT_LIMIT_S
from livesync_trio.feed.pgoutput import SeenColumn
from livesync_trio.feed.position import parse_lsn
from livesync_trio.storage.postgresql.connection import DEFAULTS, Connection

FEED_DROP_LOOKS: Final = 50
"""How often is looked, every 0.1 s, whether a replication slot that is to be dropped is still read."""

_SESSION: Final = (
    "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=iso_8601 -c bytea_output=hex -c extra_float_digits=1 "
    "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c lock_timeout=0"
)
"""So that a value is the same text whoever reads it: the copy at the beginning, and the log behind it."""

MARK: Final = "livesync"
"""Prefix of the messages that the feed itself writes into the log."""

_NAME: Final = re.compile(r"""("(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)\.("(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)""")

_TABLE: Final = """
    SELECT c.oid, c.relkind, c.relpersistence, c.relreplident, c.relispartition, has_table_privilege(c.oid, 'SELECT'),
        (SELECT array_agg(a.attname::text ORDER BY k.place) FROM pg_index i
            CROSS JOIN unnest(i.indkey::int[]) WITH ORDINALITY AS k (attnum, place)
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
            WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate AND k.place <= i.indnkeyatts
                AND CASE WHEN c.relreplident = 'i' THEN i.indisreplident ELSE i.indisprimary END),
        (SELECT json_agg(json_build_array(a.attname, a.atttypid::bigint, a.atttypmod) ORDER BY a.attnum)
            FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
        (SELECT count(*) FROM pg_partition_tree(c.oid) p JOIN pg_class l ON l.oid = p.relid
            WHERE l.relreplident <> c.relreplident)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s
"""


class SourceProblem(Exception):
    """The source cannot be followed as it is; the message tells the operator what to do."""


@attrs.frozen
class Names:
    """What the feed is called in the source, and what it follows.

    Attributes:
        url: where the source is; may hold a password.
        publication: name of the publication.
        slot: name of the replication slot.
        tables: `schema.name` of each table.
        polling: whether the log is read by SQL functions.
    """

    url: str = attrs.field(repr=False)
    publication: str
    slot: str
    tables: tuple[str, ...]
    polling: bool = False

    @property
    def lock(self) -> int:
        """Number of the advisory lock that the one who reads holds in the source."""
        return int.from_bytes(hashlib.sha256(f"livesync feed {self.slot}".encode()).digest()[:8], "big", signed=True)


@attrs.frozen
class Slot:
    """What the source says of the slot.

    Attributes:
        active: whether somebody reads it.
        usable: whether it can be read at all.
        confirmed_lsn: up to here it was confirmed.
        wal_status: `reserved`, `extended`, `unreserved` or `lost`.
        retained_bytes: of the log, because of it.
        safe_bytes: how many more may be written before it is lost; None when nothing is limited.
    """

    active: bool
    usable: bool
    confirmed_lsn: int
    wal_status: str
    retained_bytes: int
    safe_bytes: int | None


def parameters_of(url: str) -> dict[str, Any]:
    """How the source is connected to. Raises ValueError without repeating the URL."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        raise ValueError("PostgreSQL's client library cannot read it") from None
    options = f"{given.get('options') or ''} {_SESSION}".strip()
    return {**DEFAULTS, "application_name": "livesync feed", **given, "options": options}


def connect(url: str) -> Connection:
    """A connection for questions and copies. Raises psycopg.Error."""
    connection = Connection.connect(**parameters_of(url), autocommit=True, prepare_threshold=None)
    connection.answer_limit_s = FEED_STATEMENT_LIMIT_S
    return connection


def split_name(table: str) -> tuple[str, str]:
    """Schema and name of `schema.name`; odd names stand in double quotes, as in SQL. Raises ValueError."""
    found = _NAME.fullmatch(table)
    if found is None:
        raise ValueError(f"{table!r} does not name a table: write schema.name, such as public.todos")
    schema, name = (part[1:-1].replace('""', '"') if part[0] == '"' else part for part in found.groups())
    return schema, name


def identifier(table: str) -> sql.Identifier:
    """A table's name for a statement."""
    return sql.Identifier(*split_name(table))


# --- tables ----------------------------------------------------------------------------------------------------------


def inspect(connection: Connection, tables: Iterable[str]) -> dict[str, TableState]:
    """What the tables are. Raises SourceProblem when one of them cannot be followed."""
    version = connection.info.server_version
    if version < 130_000:
        raise SourceProblem("the source is older than PostgreSQL 13: upgrade it")
    [(level,)] = connection.execute("SHOW wal_level").fetchall()
    if level != "logical":
        raise SourceProblem(f"the source has wal_level = {level}: set it to logical and restart that PostgreSQL")
    found = {table: _inspected(connection, table) for table in tables}
    return {table: found[table] for table in _parents_first(connection, found)}


def _parents_first(connection: Connection, tables: Mapping[str, TableState]) -> list[str]:
    """The tables in an order in which each comes behind those it refers to, as far as that is possible."""
    by_oid = {state.oid: table for table, state in tables.items()}
    rows = connection.execute(
        "SELECT conrelid::bigint, confrelid::bigint FROM pg_constraint WHERE contype = 'f' AND conrelid = ANY (%s)",
        (list(by_oid),),
    ).fetchall()
    parents: dict[str, set[str]] = {table: set() for table in tables}
    for child, parent in rows:
        if parent in by_oid and parent != child:
            parents[by_oid[child]].add(by_oid[parent])
    ordered: list[str] = []
    while len(ordered) < len(tables):
        left = [table for table in tables if table not in ordered]
        free = [table for table in left if parents[table] <= set(ordered)]
        ordered += free or left[:1]  # in a circle, one of them must be the first
    return ordered


def _inspected(connection: Connection, table: str) -> TableState:
    rows = connection.execute(_TABLE, split_name(table)).fetchall()
    if not rows:
        raise SourceProblem(f"there is no table {table}: create it, or take it out of `tables`")
    oid, kind, persistence, identity, is_partition, readable, key, columns, odd_partitions = rows[0]
    wrong = None
    if kind not in ("r", "p") or persistence != "p":
        wrong = "is no ordinary table, so PostgreSQL does not log its changes"
    elif is_partition:
        wrong = "is a partition: name the table that it is a part of"
    elif not readable:
        wrong = f"cannot be read: GRANT SELECT ON {table} to the feed's role"
    elif identity == "n":
        wrong = "has REPLICA IDENTITY NOTHING, so its UPDATEs would fail: ALTER TABLE … REPLICA IDENTITY DEFAULT"
    elif not key:
        wrong = "has no primary key, so its UPDATEs would fail: add one (not DEFERRABLE)"
    elif odd_partitions:
        wrong = "has partitions with another replica identity: give them the same"
    if wrong is not None:
        raise SourceProblem(f"the table {table} {wrong}")
    return TableState(oid, tuple(key), tuple(SeenColumn(*column) for column in columns))


def unread(connection: Connection, oid: int, before: Sequence[SeenColumn], now: Sequence[SeenColumn]) -> str | None:
    """Why rows must be read again after a table has got other columns; None when what is known of them is enough."""
    known, new = {column.name: column for column in before}, {column.name: column for column in now}
    added, dropped = new.keys() - known.keys(), known.keys() - new.keys()
    if changed := sorted(name for name in known.keys() & new.keys() if known[name] != new[name]):
        return f"the type of {', '.join(changed)} has changed"
    if added and dropped:
        return f"columns were renamed: {', '.join(sorted(added | dropped))}"
    rows = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s AND attname = ANY (%s) "
        "AND (atthasdef OR atthasmissing OR attidentity <> '')",
        (oid, sorted(added)),
    ).fetchall()
    return f"the new column {rows[0][0]} has a default" if rows else None


# --- publication and slot --------------------------------------------------------------------------------------------


def publish(connection: Connection, names: Names, tables: Mapping[str, TableState]) -> bool:
    """See that the publication has exactly the tables. Gives whether it had to be changed. Raises SourceProblem."""
    wanted = sql.SQL(", ").join(identifier(table) for table in names.tables)
    publication = sql.Identifier(names.publication)
    found = connection.execute(
        "SELECT oid, puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate AND pubviaroot "
        "FROM pg_publication WHERE pubname = %s",
        (names.publication,),
    ).fetchall()
    if found and found[0][1]:
        raise SourceProblem(
            f"the publication {names.publication} is FOR ALL TABLES, which breaks UPDATEs of tables without a key: "
            "name another one in `publication`"
        )
    if not found:
        change = sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)")
    elif not found[0][2]:
        change = sql.SQL(
            "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"
        )
    elif is_published(connection, names, tables):
        return False
    else:
        change = sql.SQL("ALTER PUBLICATION {} SET TABLE {}")
    try:
        connection.execute(change.format(publication, wanted))
    except psycopg.errors.InsufficientPrivilege as error:
        text = change.format(publication, wanted).as_string(connection)
        raise SourceProblem(
            f"the feed's role may not do this; let the owner of the tables run:\n\n{text};\n"
        ) from error
    publish(connection, names, tables)
    return True


def is_published(connection: Connection, names: Names, tables: Mapping[str, TableState]) -> bool:
    """Whether the publication has exactly the tables, and all of each."""
    rows = connection.execute(
        "SELECT oid::bigint FROM pg_publication WHERE pubname = %s", (names.publication,)
    ).fetchall()
    return bool(rows) and _published(connection, int(rows[0][0])) == {state.oid for state in tables.values()}


def _published(connection: Connection, publication: int) -> set[int]:
    """OIDs of its tables; none for one that is published in part."""
    whole = " WHERE prqual IS NULL AND prattrs IS NULL AND" if connection.info.server_version >= 150_000 else " WHERE"
    statement = f"SELECT prrelid::bigint FROM pg_publication_rel{whole} prpubid = %s"  # noqa: S608 - made of constants
    rows = connection.execute(statement.encode(), (publication,)).fetchall()
    [(count,)] = connection.execute("SELECT count(*) FROM pg_publication_rel WHERE prpubid = %s", (publication,))
    return {oid for (oid,) in rows} if count == len(rows) else set()


def mark_of(connection: Connection, names: Names) -> str:
    """What changes whenever somebody changes the publication, also when he changes it back."""
    [(mark,)] = connection.execute(
        "SELECT md5(p.oid::text || ':' || p.xmin::text || coalesce((SELECT string_agg(r.oid::text || ':' || "
        "r.xmin::text, ',' ORDER BY r.oid) FROM pg_publication_rel r WHERE r.prpubid = p.oid), '')) "
        "FROM pg_publication p WHERE p.pubname = %s",
        (names.publication,),
    ).fetchall() or [("",)]
    return str(mark)


def sender_timeout_of(connection: Connection) -> float:
    """After how many seconds without a word the source ends the stream: `wal_sender_timeout`."""
    [(timeout_ms,)] = connection.execute(
        "SELECT setting::bigint FROM pg_settings WHERE name = 'wal_sender_timeout'"
    ).fetchall()
    return timeout_ms / 1000 if timeout_ms else math.inf


def slot_of(connection: Connection, name: str) -> Slot | None:
    """What the source says of a slot; None when there is none. Raises SourceProblem when it is not ours."""
    rows = connection.execute(
        "SELECT active, plugin, database = current_database(), confirmed_flush_lsn::text, wal_status, "
        "pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint, safe_wal_size "
        "FROM pg_replication_slots WHERE slot_name = %s",
        (name,),
    ).fetchall()
    if not rows:
        return None
    active, plugin, here, confirmed, wal_status, retained, safe = rows[0]
    if plugin != "pgoutput" or not here:
        raise SourceProblem(f"the replication slot {name} belongs to somebody else: name another one in `slot`")
    usable = confirmed is not None and wal_status != "lost"
    return Slot(active, usable, parse_lsn(confirmed) if confirmed else 0, wal_status or "lost", retained or 0, safe)


def drop_slot(connection: Connection, name: str) -> None:
    """Let the slot be gone; waits a moment for whoever still reads it. Raises psycopg.Error."""
    for _ in range(FEED_DROP_LOOKS):
        if not connection.execute(
            "SELECT FROM pg_replication_slots WHERE slot_name = %s AND active", (name,)
        ).fetchall():
            break
        connection.execute("SELECT pg_sleep(0.1)")
    connection.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", (name,)
    )


def leave_mark(connection: Connection) -> int:
    """Write something into the log that the reader will notice at once.

    Returns:
        Its place: when that is confirmed, everything is stored that was committed before.
    """
    [(lsn,)] = connection.execute("SELECT pg_logical_emit_message(true, %s, '')::text", (MARK,)).fetchall()
    return parse_lsn(str(lsn))


def drop(connection: Connection, names: Names) -> list[str]:
    """Take everything away that the feed made in the source. Gives what it was, in words."""
    gone = []
    if slot_of(connection, names.slot) is not None:
        drop_slot(connection, names.slot)
        gone.append(f"replication slot {names.slot}")
    if connection.execute("SELECT 1 FROM pg_publication WHERE pubname = %s", (names.publication,)).fetchall():
        connection.execute(sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(names.publication)))
        gone.append(f"publication {names.publication}")
    return gone
