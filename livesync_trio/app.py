"""The composition root: chooses the engine, puts the rooms together, opens the doors and orders the shutdown.

The only place that knows concrete engines. Shutdown (design.md): close the doors → /health says draining → finish
what is in the mailboxes → close every WebSocket with 1012 → close the engine. A second signal is immediate.
"""

import errno
import gc
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from typing import Any

import trio

from livesync_trio.audit import Audit
from livesync_trio.config import Config
from livesync_trio.connection.peer import Surroundings
from livesync_trio.connection.peers import Peers
from livesync_trio.errors import Kind, StartupError
from livesync_trio.hooks import HookRunner, Hooks
from livesync_trio.limits import GC_THRESHOLDS, READER_THREADS, SHARED_WRITER_THREADS
from livesync_trio.storage.base import Engine, SharedEngine
from livesync_trio.storage.url import engine_from_url
from livesync_trio.store.news import Gazette, News, TellingWriter
from livesync_trio.store.opening import open_engine
from livesync_trio.store.persistence import Writer
from livesync_trio.store.readers import ThreadReaders
from livesync_trio.store.registry import Registry
from livesync_trio.store.writer import ThreadWriter
from livesync_trio.store.writers import SharedOut
from livesync_trio.supervision import Tasks, open_tasks
from livesync_trio.telemetry import Counters, configure_logging, get_logger
from livesync_trio.transport.authentication import Authentication
from livesync_trio.transport.cors import Cors
from livesync_trio.transport.door import Door, DoorSettings
from livesync_trio.transport.guards import Guards
from livesync_trio.version import VERSION

_log = get_logger("app")

OnReady = Callable[[str, str], None]
"""Told once, when clients may connect: the base URL, and where the data is."""


def _nobody(_url: str, _database: str) -> None:
    """Nobody wants to know."""


def run(config: Config, hooks: Hooks, *, on_ready: OnReady = _nobody) -> None:
    """Run a server until it is told to stop.

    Raises:
        StartupError: it could not start; the message tells the operator what to do.
    """
    configure_logging(config.log_level, config.log_format)

    def ready(url: str, database: str) -> None:
        _tame_garbage_collection()
        on_ready(url, database)

    trio.run(serve, config, hooks, ready)


def shared_engine(config: Config) -> SharedEngine | None:
    """The engine of a database that other servers may use too, not opened; None when this server has it to itself.

    Raises:
        StartupError: no engine for the configured URL.
    """
    engine = engine_from_url(config.database_url, config.listen_url)
    return engine if isinstance(engine, SharedEngine) else None


async def serve(config: Config, hooks: Hooks | None = None, on_ready: OnReady = _nobody) -> None:
    """Serve until SIGTERM or SIGINT, or until cancelled (which cuts everything but what is being committed).

    For programs that embed the server: they configure structlog and Trio as they like.

    Raises:
        StartupError: it could not start.
    """
    engine = engine_from_url(config.database_url, config.listen_url)
    await open_engine(engine, config.database_wait_s)
    try:
        await Server(config, hooks or Hooks(), engine).run(on_ready)
    finally:
        engine.close()


class Server:
    """The rooms of one running server."""

    def __init__(self, config: Config, hooks: Hooks, engine: Engine) -> None:
        """Put the rooms together; nothing is started yet. `engine` must be open."""
        self._config = config
        self._engine = engine
        self.counters = Counters()
        changed = Gazette()
        writer: Writer
        if isinstance(engine, SharedEngine):
            threads = [ThreadWriter(engine.writer) for _ in range(SHARED_WRITER_THREADS)]
            writer = TellingWriter(SharedOut(threads), changed)
        else:
            writer = ThreadWriter(engine.writer)
        self.registry = Registry(
            writer, ThreadReaders(engine.reader, READER_THREADS), self.counters, config.dormant_after_s
        )
        self.news = News(engine, self.registry, changed) if isinstance(engine, SharedEngine) else None
        self.peers = Peers(config.idle_limit_s)
        runner = HookRunner(hooks, config.hook_limit_s)
        self.guards = Guards.of(config)
        self.audit = open_audit(config.audit_log)
        self.door = Door(
            DoorSettings(config.frame_max_bytes, config.handshake_limit_s, config.stall_limit_s),
            authentication=Authentication.of(config, runner),
            cors=Cors(config.cors_origins, config.auth_cookie is not None, config.tls_cert is not None),
            surroundings=Surroundings(
                runner, self.counters, config.max_open_pulls, config.admin_secret, audit=self.audit
            ),
            peers=self.peers,
            open_store=self.registry.handle,
            health=self.health,
            guards=self.guards,
        )

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether all is well, and what /health says."""
        storage_ok = self.registry.writer.healthy
        status = "draining" if self.door.draining else "ok" if storage_ok else "storage unavailable"
        return status == "ok", {
            "status": status,
            "version": VERSION,
            "engine": self._engine.name,
            "stores_active": self.registry.active,
            "stores_fenced": len(self.registry.fenced()),
            "connections": len(self.peers),
        }

    async def run(self, on_ready: OnReady) -> None:
        """Serve until a signal says stop, then drain. Raises StartupError when the address cannot be listened on."""
        with closing(self.audit):
            await self._run(on_ready)

    async def _run(self, on_ready: OnReady) -> None:
        listeners = await self._listen()
        url = base_url(listeners[0], "http" if self.guards.tls is None else "https")
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with open_tasks("server") as tasks:
                await tasks.start_ready(self.registry.run)
                tasks.start(self.peers.watch)
                if self.news is not None:
                    tasks.start(self.news.run)
                tasks.start(tasks.accept, self.door.serve, listeners)
                tasks.start(self._stop_on_signal, signals, tasks)
                if self.guards.tls is not None or self.audit.on:
                    tasks.start(self._reload_on_signal)
                _log.info("listening", url=url, engine=self._engine.name, database=self._engine.describe())
                on_ready(url, self._engine.describe())
        if tasks.crash is not None:
            raise tasks.crash
        _log.info("stopped")

    async def _stop_on_signal(self, signals: AsyncIterator[int], tasks: Tasks) -> None:
        await anext(signals)
        tasks.start(self._stop_at_once, signals, tasks)
        await self.drain()
        tasks.cancel()

    async def _reload_on_signal(self) -> None:
        """On SIGHUP, read the certificate again and open the audit log anew, after they were renewed or moved away."""
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            async for _ in signals:
                try:
                    if self.guards.tls is not None:
                        self.guards.tls.reload()
                    self.audit.reopen()
                except (OSError, StartupError) as error:
                    _log.error("reload failed, the old files go on", reason=str(error))
                else:
                    _log.info("reloaded")

    async def _stop_at_once(self, signals: AsyncIterator[int], tasks: Tasks) -> None:
        await anext(signals)
        _log.warning("second signal: stopping at once")
        tasks.cancel()

    async def drain(self) -> None:
        """Finish what was begun, within the limit: HTTP requests, the mailboxes, then a close frame for every peer."""
        _log.info("draining", connections=len(self.peers), stores=self.registry.active)
        limit_s = self._config.drain_limit_s
        self.door.draining = True
        with trio.move_on_after(limit_s):
            with trio.move_on_after(limit_s / 2):  # a slow reader of a long answer must not cost the others their end
                await self.door.finish_requests()
            await self.registry.drain()
            await self.peers.say_goodbye()

    async def _listen(self) -> list[trio.SocketListener]:
        host, port = self._config.host, self._config.port
        try:
            return list(await trio.open_tcp_listeners(port, host=host))
        except OSError as error:
            hint = " Another program listens there; choose another --port." if error.errno == errno.EADDRINUSE else ""
            raise StartupError(
                Kind.CANNOT_LISTEN, f"cannot listen on {host}:{port}: {error.strerror or error}.{hint}"
            ) from error


def base_url(listener: trio.SocketListener, scheme: str = "http") -> str:
    """URL under which a listener is reached, with the port it was really given."""
    host, port = listener.socket.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def open_audit(path: str | None) -> Audit:
    """Open the record of who did what. Raises StartupError when the file cannot be opened."""
    try:
        return Audit(path)
    except OSError as error:
        raise StartupError(Kind.BAD_CONFIG, f"the audit log cannot be opened: {error.strerror or error}") from None


def _tame_garbage_collection() -> None:
    """Look never again at what exists now, and at the rest more rarely.

    Full collections over many idle actors pause for tenths of a second (technology.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
