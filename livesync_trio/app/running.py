"""Ways to run a server: as the whole process, or inside a Trio program."""

import gc
import os
import socket
from collections.abc import Sequence
from functools import partial

import trio

from livesync_trio.app.server import OnControl, OnReady, Server, nobody
from livesync_trio.config import Config
from livesync_trio.ending import Ending
from livesync_trio.hooks import Hooks
from livesync_trio.limits import GC_THRESHOLDS, POSTGRES_MIGRATION_LIMIT_S
from livesync_trio.reloading import Reread
from livesync_trio.storage.url import engine_from_url
from livesync_trio.store.readers import open_engine
from livesync_trio.systemd import ServiceManager
from livesync_trio.telemetry import configure_logging, exchange_standard_streams, get_logger

_log = get_logger("app")


def run(
    config: Config,
    hooks: Hooks,
    *,
    on_ready: OnReady = nobody,
    reread: Reread | None = None,
    on_control: OnControl = nobody,
    sockets: Sequence[socket.socket] = (),
) -> None:
    """Run a server until it is told to stop.

    Args:
        config: the configuration.
        hooks: the user's functions.
        on_ready: told once, when clients may connect.
        reread: reads configuration and hooks again on SIGHUP.
        on_control: told before, where the control plane is.
        sockets: listening sockets to serve clients at, instead of one at `host` and `port`.

    Raises:
        StartupError: it could not start; the message tells the operator what to do.
    """
    exchange_standard_streams()
    configure_logging(config.log_level, config.log_format)
    for remark in config.remarks:
        _log.warning("an environment variable is not what it seems", remark=remark)

    def ready(url: str, database: str) -> None:
        _tame_garbage_collection()
        on_ready(url, database)

    manager = ServiceManager.from_environment(os.environ)
    ending = Ending(config.drain_limit_s)
    trio.run(
        partial(serve, config, hooks, ready, manager, reread, on_control=on_control, ending=ending, sockets=sockets)
    )


async def serve(
    config: Config,
    hooks: Hooks | None = None,
    on_ready: OnReady = nobody,
    manager: ServiceManager = ServiceManager(),  # noqa: B008 - frozen, and nobody
    reread: Reread | None = None,
    *,
    on_control: OnControl = nobody,
    ending: Ending | None = None,
    sockets: Sequence[socket.socket] = (),
) -> None:
    """Serve until SIGTERM or SIGINT, or until cancelled (which cuts everything but what is being committed).

    For programs that embed the server: they configure structlog and Trio as they like, and leave out `ending`.

    Raises:
        StartupError: it could not start.
    """
    engine = engine_from_url(config.database_url, config.listen_url)
    await open_engine(engine, config.database_wait_s, partial(manager.starting, POSTGRES_MIGRATION_LIMIT_S))
    try:
        server = Server(
            config, hooks or Hooks(), engine, manager=manager, reread=reread, ending=ending, sockets=sockets
        )
        await server.run(on_ready, on_control)
    finally:
        engine.close()


def _tame_garbage_collection() -> None:
    """Look never again at what exists now, and at the rest more rarely.

    Full collections over many idle actors pause for tenths of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
