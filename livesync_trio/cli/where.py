"""Where a command looks: at a database directly, or at a running server.

Owns the flags that say so, and what a failing database means to the operator of a command.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import click

from livesync_trio import app
from livesync_trio.archive.staging import Target
from livesync_trio.cli.flags import option
from livesync_trio.config import CONFIG_ENV, SETTINGS, URL_ENV, Config, is_postgresql, load, sqlite_path
from livesync_trio.errors import CommandError, Kind, LogReplaced, StartupError, StorageUnavailable, StoreDamaged
from livesync_trio.storage.base import Engine, SharedEngine

_NEEDED: Final = frozenset({"database_url", "listen_url"})
_Command = Callable[..., Any]


def database_flags(command: _Command) -> _Command:
    """Give a command `--database-url` and its companions."""
    for setting in reversed(SETTINGS):
        if setting.name in _NEEDED:
            command = option(setting)(command)
    return click.option("--config", metavar="FILE", help=f"TOML file with settings. [env: {CONFIG_ENV}]")(command)


def server_flags(command: _Command) -> _Command:
    """Give a command `--url` and the secret that goes with it."""
    (secret,) = (setting for setting in SETTINGS if setting.name == "admin_secret")
    command = option(secret)(command)
    help_text = f"Control plane of a running server, instead of a database. [env: {URL_ENV}]"
    return click.option("--url", metavar="URL", envvar=URL_ENV, help=help_text)(command)


def configured(flags: dict[str, Any]) -> Config:
    """The configuration, as far as a command takes flags for it. Raises StartupError."""
    return load(flags, os.environ)


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
    engine = app.engine_of(config)
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
    engine = app.engine_of(config)
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
        engine = app.empty_engine()
        yield Target(engine.writer(), engine.reader())
        return
    with (database_to_change if change else database_to_read)(config) as engine, ExitStack() as handles:
        reader = engine.reader()
        handles.callback(reader.close)
        writer = engine.writer() if change else app.empty_engine().writer()
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
