"""From `DATABASE_URL` to an engine: the only place that knows them all by name.

Owns that choice and nothing else. What a URL may look like is decided in `config.database_url`.
"""

from typing import Final

from livesync_trio.config import is_postgresql, sqlite_path
from livesync_trio.errors import Kind, StartupError
from livesync_trio.storage.base import Engine
from livesync_trio.storage.memory import MemoryEngine
from livesync_trio.storage.sqlite.engine import SqliteEngine

MEMORY_URL: Final = "memory:"
"""For tests and programs that embed the server; the configuration of `livesync serve` refuses it."""


def engine_from_url(url: str, listen_url: str | None = None) -> Engine:
    """The engine for a URL, not opened yet.

    Args:
        url: `sqlite:///relative.db`, `sqlite:////absolute/path.db`, `postgresql://user@host/database` or `memory:`.
        listen_url: PostgreSQL without a pooler in between; only with a postgresql URL.

    Raises:
        StartupError: no engine for it. The message never repeats the URL, which may hold a password.
    """
    if url == MEMORY_URL:
        return MemoryEngine()
    try:
        if is_postgresql(url):
            # psycopg is a seventh of all that a server on SQLite would load
            from livesync_trio.storage.postgresql.engine import PostgresEngine  # noqa: PLC0415

            return PostgresEngine(url, listen_url)
        return SqliteEngine(sqlite_path(url))
    except ValueError as error:
        raise StartupError(Kind.BAD_CONFIG, f"DATABASE_URL cannot be used: {error}.") from error
