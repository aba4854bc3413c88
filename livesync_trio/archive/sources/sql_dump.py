"""The text that `wrangler d1 export` writes: SQL, which is carried out in a database that nobody else sees.

Owns the way from SQL to tables, and what that SQL may do: make tables and fill them, nothing else.
"""

import sqlite3
import tempfile
from pathlib import Path
from typing import Final

from livesync_trio.archive.sources.cloudflare import CloudflareFiles
from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import ARCHIVE_LINE_MAX_BYTES

_ALLOWED: Final = frozenset(
    {
        sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_REINDEX,
    }
)
_FUNCTIONS: Final = frozenset({"char", "replace", "unistr", "unhex"})
"""What dumps use to write line breaks and the like."""

_GROWTH: Final = 8
"""A database may be that many times as large as its dump: indexes, half-filled pages. What grows more is no dump."""
_ROOM_BYTES: Final = 1_048_576


class SqlDump(CloudflareFiles):
    """A dump of a D1 database (`Source`)."""

    def __init__(self, path: Path) -> None:
        """Carry out the dump. Raises CommandError when it is not one."""
        self._directory = tempfile.TemporaryDirectory(prefix="livesync-dump-")
        database = Path(self._directory.name) / path.with_suffix(".sqlite").name
        try:
            _carry_out(path, database)
            super().__init__([database], f"SQL dump {path}")
        except BaseException:
            self._directory.cleanup()
            raise

    def close(self) -> None:
        """Remove the database made of it."""
        super().close()
        self._directory.cleanup()


def _carry_out(dump: Path, database: Path) -> None:
    begins = 1
    connection = sqlite3.connect(database, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, ARCHIVE_LINE_MAX_BYTES)
        [page_bytes] = connection.execute("PRAGMA page_size").fetchone()
        most_bytes = dump.stat().st_size * _GROWTH + _ROOM_BYTES
        connection.execute(f"PRAGMA max_page_count = {most_bytes // page_bytes}")
        connection.execute("BEGIN")
        connection.set_authorizer(_may)
        statement, number = "", 0
        with dump.open(encoding="utf-8", newline="") as file:
            for line in file:
                number += 1
                statement += line
                if line.rstrip().endswith(";") and sqlite3.complete_statement(statement):
                    if not _is_frame(statement):
                        connection.execute(statement)
                    statement, begins = "", number + 1
        if statement.strip():
            raise sqlite3.OperationalError("the last statement has no end")
        connection.set_authorizer(None)
        connection.execute("COMMIT")
    except (OSError, ValueError) as error:  # no UTF-8, or U+0000 in a statement
        raise CommandError(Kind.BAD_ARCHIVE, f"{dump} cannot be read: {error}.") from error
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise CommandError(
            Kind.BAD_ARCHIVE, f"{dump}, statement in line {begins}: {error}; is it what `wrangler d1 export` wrote?"
        ) from error
    finally:
        connection.close()


def _is_frame(statement: str) -> bool:
    """What stands round the statements of a dump and says nothing about data."""
    return statement.split(None, 1)[0].upper() in {"PRAGMA", "BEGIN", "COMMIT", "PRAGMA;", "BEGIN;", "COMMIT;"}


def _may(action: int, *names: str | None) -> int:
    if action in _ALLOWED or (action == sqlite3.SQLITE_FUNCTION and (names[1] or "").lower() in _FUNCTIONS):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY
