"""Compaction: of the changes up to a horizon, only the last of each row is kept.

Who stands before the horizon then gets each row once, as it is at the horizon, in place of all that it was between; the
commits before the horizon are no states that ever were. A step looks at so many changes and is one transaction: what
goes, how far that has come, and the horizon that readers look at.

`livesync_feed_last` says where the last change of each row is, so that a step need not search for it.
"""

from typing import Final

from livesync_trio.feed.history.databases import COMPACTED_FORMAT, Session
from livesync_trio.feed.history.state import State

FEED_COMPACT_STEP: Final = 5_000
"""Changes that one transaction looks at."""

_STEP: Final = """
    (changes.commit_lsn > %s OR (changes.commit_lsn = %s AND changes.seq > %s))
    AND (changes.commit_lsn < %s OR (changes.commit_lsn = %s AND changes.seq <= %s))
"""
_NEXT: Final = """
    SELECT commit_lsn, seq FROM (
        SELECT commit_lsn, seq FROM livesync_feed_changes
        WHERE (commit_lsn > %s OR (commit_lsn = %s AND seq > %s)) AND commit_lsn <= %s
        ORDER BY commit_lsn, seq LIMIT %s
    ) AS next_ones ORDER BY commit_lsn DESC, seq DESC LIMIT 1
"""
_SIZE: Final = "length(key) + coalesce(length(row), 0) + coalesce(length(old), 0)"
_DELETE_EARLIER: Final = f"""
    DELETE FROM livesync_feed_changes WHERE (commit_lsn, seq) IN (
        SELECT last.commit_lsn, last.seq FROM livesync_feed_last AS last JOIN (
            SELECT DISTINCT relations.name, changes.key FROM livesync_feed_changes AS changes
            JOIN livesync_feed_relations AS relations ON relations.version = changes.relation WHERE {_STEP}
        ) AS touched ON touched.name = last.name AND touched.key = last.key
    ) RETURNING commit_lsn, {_SIZE}
"""  # noqa: S608 - our names
_NOTE_LAST: Final = f"""
    INSERT INTO livesync_feed_last (name, key, commit_lsn, seq)
    SELECT name, key, commit_lsn, seq FROM (
        SELECT relations.name, changes.key, changes.commit_lsn, changes.seq, row_number() OVER (
            PARTITION BY relations.name, changes.key ORDER BY changes.commit_lsn DESC, changes.seq DESC
        ) AS place FROM livesync_feed_changes AS changes
        JOIN livesync_feed_relations AS relations ON relations.version = changes.relation WHERE {_STEP}
    ) AS placed WHERE place = 1
    ON CONFLICT (name, key) DO UPDATE SET commit_lsn = excluded.commit_lsn, seq = excluded.seq
"""  # noqa: S608 - our names
_DELETE_BETWEEN: Final = f"""
    DELETE FROM livesync_feed_changes AS changes WHERE {_STEP} AND NOT EXISTS (
        SELECT 1 FROM livesync_feed_last AS last WHERE last.commit_lsn = changes.commit_lsn AND last.seq = changes.seq
    ) RETURNING commit_lsn, {_SIZE}
"""  # noqa: S608 - our names
_COMMITS: Final = ("commit_lsn", "committed_us", "changes", "xid", "size_bytes")
_SHRINK: Final = (
    "ON CONFLICT (commit_lsn) DO UPDATE SET size_bytes = livesync_feed_commits.size_bytes - excluded.size_bytes"
)
_MOVE: Final = """
    INSERT INTO livesync_feed_horizon (id, lsn, done_lsn, done_seq) VALUES (1, %s, %s, %s)
    ON CONFLICT (id) DO UPDATE SET lsn = excluded.lsn, done_lsn = excluded.done_lsn, done_seq = excluded.done_seq
"""


def compact(session: Session, state: State, before_us: int) -> int | None:
    """Take one step, inside of a transaction.

    Args:
        session: of the writer.
        state: of the history.
        before_us: commits before this moment are compacted, in microseconds since 1970.

    Returns:
        The horizon, for the state; None when there was nothing to do.
    """
    [(target_lsn,)] = session.ask(
        "SELECT max(commit_lsn) FROM livesync_feed_commits WHERE committed_us < %s", (before_us,)
    )
    rows = session.ask("SELECT done_lsn, done_seq FROM livesync_feed_horizon WHERE id = 1")
    done_lsn, done_seq = rows[0] if rows else (0, 0)
    after = (done_lsn, done_lsn, done_seq)
    found = session.ask(_NEXT, (*after, target_lsn or 0, FEED_COMPACT_STEP))
    if not found:
        return None
    lsn, seq = found[0]
    step = (*after, lsn, lsn, seq)
    gone = session.ask(_DELETE_EARLIER, step)
    session.ask(_NOTE_LAST, step)
    gone += session.ask(_DELETE_BETWEEN, step)
    sizes: dict[int, int] = {}
    for commit_lsn, size_bytes in gone:
        sizes[commit_lsn] = sizes.get(commit_lsn, 0) + size_bytes
    session.insert("livesync_feed_commits", _COMMITS, [(at, 0, 0, 0, size) for at, size in sizes.items()], _SHRINK)
    horizon_lsn = max(lsn, state.compacted_lsn)
    session.ask(_MOVE, (horizon_lsn, lsn, seq))
    session.ask("UPDATE livesync_feed_state SET format = %s WHERE id = 1", (COMPACTED_FORMAT,))
    return int(horizon_lsn)
