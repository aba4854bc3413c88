"""The engine that a configuration asks for, for commands that work on the database without a server."""

from livesync_trio.config import Config
from livesync_trio.storage.base import Engine
from livesync_trio.storage.shared import SharedEngine
from livesync_trio.storage.url import MEMORY_URL, engine_from_url


def shared_engine(config: Config) -> SharedEngine | None:
    """The engine of a database that other servers may use too, not opened; None when this server has it to itself.

    Raises:
        StartupError: no engine for the configured URL.
    """
    engine = engine_from_url(config.database_url, config.listen_url)
    return engine if isinstance(engine, SharedEngine) else None


def engine_of(config: Config) -> Engine:
    """The engine of the configured database, not opened; for commands that work on it without a server.

    Raises:
        StartupError: no engine for the configured URL.
    """
    return engine_from_url(config.database_url, config.listen_url)


def empty_engine() -> Engine:
    """A database that holds nothing and keeps nothing, for a look at what would come in."""
    return engine_from_url(MEMORY_URL)
