"""The tables of the history, in both kinds of databases."""

from typing import Final

FORMAT: Final = 1
"""Number of the layout below; another number is refused."""

TABLES: Final = (
    """
    CREATE TABLE IF NOT EXISTS livesync_feed_state (
        id bigint PRIMARY KEY, format bigint NOT NULL, generation bigint NOT NULL, epoch text NOT NULL,
        source text NOT NULL, tables text NOT NULL, head_lsn bigint NOT NULL, confirmed_lsn bigint NOT NULL,
        floor_lsn bigint NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS livesync_feed_relations (
        version bigint PRIMARY KEY, name text NOT NULL, columns text NOT NULL, key text NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS livesync_feed_commits (
        commit_lsn bigint PRIMARY KEY, committed_us bigint NOT NULL, changes bigint NOT NULL, xid bigint NOT NULL,
        size_bytes bigint NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS livesync_feed_changes (
        commit_lsn bigint NOT NULL, seq bigint NOT NULL, relation bigint NOT NULL, operation text NOT NULL,
        key text NOT NULL, row text, old text, old_relation bigint, PRIMARY KEY (commit_lsn, seq)
    ) {without_rowid}
    """,
    """
    CREATE TABLE IF NOT EXISTS livesync_feed_rows (
        name text NOT NULL, key text {bytewise} NOT NULL, relation bigint NOT NULL, row text NOT NULL,
        changed_lsn bigint NOT NULL, PRIMARY KEY (name, key)
    ) {without_rowid}
    """,
    """
    CREATE TABLE IF NOT EXISTS livesync_feed_seen (
        name text NOT NULL, key text {bytewise} NOT NULL, PRIMARY KEY (name, key)
    ) {without_rowid}
    """,
)
"""`rows` holds every row of the tables as of the head: it fills in what an UPDATE left unsaid, says how a row was
before, and is the initial state. `seen` is only ever filled inside of the transaction that compares with the source."""

NAMES: Final = ("state", "relations", "commits", "changes", "rows", "seen")
