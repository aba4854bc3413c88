"""What a command opens: a database, a folder or a bucket; closed again, with failures told to the operator.

A database is opened to read beside a server, or to change. A file of a bucket is fetched before it is read, and sent
when it is whole.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from livesync_trio.app import engines
from livesync_trio.archive.places import Bucket, Folder, Place, is_bucket
from livesync_trio.archive.staging import Target
from livesync_trio.cli import printing
from livesync_trio.config import Config, is_postgresql, load, sqlite_path
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


def no_such_store(store_id: str) -> CommandError:
    """The answer when somebody names a store that is not there."""
    return CommandError(
        Kind.NO_SUCH_STORE, f"There is no store {store_id!r}: `livesync stores` lists them; names are compared exactly."
    )


# --- files and buckets ------------------------------------------------------------------------------------------------


@contextmanager
def at_hand(file: Path | str, flags: Mapping[str, Any]) -> Iterator[Path]:
    """The path under which a file can be read; one of a bucket is copied into `$TMPDIR` for as long.

    Raises:
        CommandError: it cannot be fetched.
    """
    if not is_bucket(str(file)):
        yield Path(file)
        return
    bucket, name = Bucket.with_file(load(flags, os.environ), str(file))
    with TemporaryDirectory(prefix="livesync-") as folder:
        copy = Path(folder) / name
        with printing.progress(f"fetching {file}"):
            bucket.fetch(name, copy)
        yield copy


@contextmanager
def on_the_way(file: str, config: Config, *, overwrite: bool) -> Iterator[str]:
    """The path at which a file is to be made; one of a bucket is made in `$TMPDIR`, and sent when that went well.

    Raises:
        CommandError: it cannot be sent.
    """
    if not is_bucket(file):
        yield file
        return
    bucket, name = Bucket.with_file(config, file)
    with TemporaryDirectory(prefix="livesync-") as folder:
        made = Path(folder) / name
        yield str(made)
        with printing.progress(f"sending to {file}"):
            bucket.put(name, made, overwrite=overwrite)


def place_of(name: str, config: Config) -> Place:
    """The folder or bucket that a text names. Raises CommandError when buckets cannot be used."""
    return Bucket.of(config, name) if is_bucket(name) else Folder(Path(name))
