"""The database of a command: opened to read beside a server, or to change, with failures told to the operator."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from livesync_trio.app import engines
from livesync_trio.archive.staging import Target
from livesync_trio.config import Config, is_postgresql, sqlite_path
from livesync_trio.errors import CommandError, Kind, LogReplaced, StartupError, StorageUnavailable, StoreDamaged
from livesync_trio.storage.base import Engine
from livesync_trio.storage.shared import SharedEngine


def database_files(config: Config) -> tuple[Path, ...]:
    """The files of the database, which no export may replace; none where it is no file."""
    if is_postgresql(config.database_url):
        return ()
    path = sqlite_path(config.database_url).resolve()
    return tuple(path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal", ".lock"))


@contextmanager
def database_to_read(config: Config) -> Iterator[Engine]:
    """The database, opened beside whatever server uses it.

    Raises:
        StartupError: it is not there, or of another version.
        CommandError: it failed on the way.
    """
    engine = engines.engine_of(config)
    with _told():
        engine.open_to_read()
        try:
            yield engine
        finally:
            engine.close()


@contextmanager
def database_to_change(config: Config) -> Iterator[Engine]:
    """The database, opened so that it can be changed; an SQLite file belongs to this process until the end.

    Raises:
        StartupError: a server holds it, or it cannot be opened.
        CommandError: it failed on the way.
    """
    engine = engines.engine_of(config)
    with _told():
        try:
            engine.open()
        except StartupError as error:
            if error.kind is not Kind.DATABASE_IN_USE:
                raise
            raise StartupError(
                error.kind, f"{error} Or let the running server do it, where the command knows --url."
            ) from error
        try:
            yield engine
        finally:
            engine.close()


@contextmanager
def target_database(config: Config, *, change: bool) -> Iterator[Target]:
    """The database that logs come into.

    Args:
        config: which.
        change: False for a look at what would come in: an SQLite file is not made then, and not taken.

    Raises:
        StartupError, CommandError: as above.
    """
    if not change and not is_postgresql(config.database_url) and not sqlite_path(config.database_url).exists():
        engine = engines.empty_engine()
        yield Target(engine.writer(), engine.reader())
        return
    with (database_to_change if change else database_to_read)(config) as engine, ExitStack() as handles:
        reader = engine.reader()
        handles.callback(reader.close)
        writer = engine.writer() if change else engines.empty_engine().writer()
        handles.callback(writer.close)
        if not isinstance(engine, SharedEngine):
            yield Target(writer, reader)
            return
        news = engine.news()
        handles.callback(news.close)
        yield Target(writer, reader, news.tell)


@contextmanager
def _told() -> Iterator[None]:
    """What failures of a database mean to the operator of a command."""
    try:
        yield
    except StorageUnavailable as error:
        raise CommandError(Kind.STORAGE_UNAVAILABLE, f"{error}") from error
    except StoreDamaged as error:
        raise CommandError(Kind.CHECKS_FAILED, f"{error}") from error
    except LogReplaced as error:
        raise CommandError(Kind.STORAGE_UNAVAILABLE, "A store was reset while it was read: run it again.") from error
