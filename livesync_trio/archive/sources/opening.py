"""From what the operator names to the reader for it.

Owns that choice: by scheme, by kind of file, by the first bytes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from livesync_trio.archive.sources import Source
from livesync_trio.archive.sources.cloudflare import CloudflareFiles, SqlDump
from livesync_trio.archive.sources.fastapi import FastApiTables
from livesync_trio.archive.sources.jsonl_file import JsonlFile
from livesync_trio.archive.sources.wire import OverTheWire, Say
from livesync_trio.config import check_database_url, is_postgresql
from livesync_trio.errors import CommandError, Kind
from livesync_trio.model import StoreId
from livesync_trio.wording import count, shown_url

_SQLITE_HEADER: Final = b"SQLite format 3\0"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_OF_SQLALCHEMY: Final = frozenset({"postgresql+asyncpg", "postgresql+psycopg", "postgresql+psycopg2"})
_NOT_DATABASES: Final = ("-wal", "-shm", ".lock")


def open_source(name: str, store_ids: Sequence[StoreId] = (), payload: Any = None, say: Say = lambda _: None) -> Source:
    """The source that `name` means.

    Args:
        name: an export file, an SQLite file, a SQL dump, a directory such as `.wrangler/state`, the URL of a PostgreSQL
            database of the FastAPI server, or the URL of a running server.
        store_ids: which stores to ask a running server for.
        payload: what an application sends to that server as `syncPayload`.
        say: told what is about to happen to that server.

    Raises:
        CommandError: there is nothing of that name, or it is none of these.
    """
    scheme = name.partition("://")[0]
    if scheme in _OF_SQLALCHEMY:
        raise CommandError(
            Kind.BAD_CONFIG, f"{scheme}:// is a form of SQLAlchemy: write postgresql:// and the rest as it is."
        )
    if is_postgresql(name):
        try:
            check_database_url(name)  # what libpq would cut in the wrong place, it would also show
        except ValueError as error:
            raise CommandError(Kind.BAD_CONFIG, f"The PostgreSQL URL cannot be used: {error}.") from None
        return FastApiTables(name, store_ids)
    if name.startswith(("http://", "https://", "ws://", "wss://")):
        if not store_ids:
            raise CommandError(
                Kind.BAD_CONFIG, "A running server does not tell which stores it has: name them by --store."
            )
        return OverTheWire(name, store_ids, payload, say)
    path = Path(name)
    if path.is_dir():
        return _directory(path)
    begin = _beginning(path)
    if begin.startswith(_SQLITE_HEADER):
        return CloudflareFiles([path], f"SQLite file {path}")
    if begin.startswith((b"{", _GZIP_MAGIC)):
        return JsonlFile(path)
    return SqlDump(path)


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE_HEADER))
    except OSError as error:
        raise CommandError(
            Kind.BAD_ARCHIVE, f"{shown_url(str(path))} cannot be read: {error.strerror or error}."
        ) from error


def _directory(path: Path) -> Source:
    """All SQLite files below a directory: `.wrangler/state`, or where workerd keeps its objects."""
    candidates = sorted(one for one in path.rglob("*") if one.is_file() and not one.name.endswith(_NOT_DATABASES))
    files = [one for one in candidates if _beginning(one).startswith(_SQLITE_HEADER)]
    if not files:
        raise CommandError(Kind.BAD_ARCHIVE, f"{path} holds no SQLite file: name the .wrangler/state directory.")
    return CloudflareFiles(files, f"directory {path} with {count(len(files), 'SQLite file')}")
