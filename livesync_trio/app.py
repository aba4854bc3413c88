"""The composition root: chooses the engine, puts the layers together, opens the listeners and orders the shutdown.

The only place that knows concrete engines. Shutdown: close the doors → /health says draining → finish
what is in the mailboxes → close every WebSocket with 1012 → close the engine. A second signal is immediate.
"""

import gc
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from livesync_trio.access.admission import Access
from livesync_trio.audit import Audit
from livesync_trio.config import Config, FeedTable, exposure_warnings, is_loopback
from livesync_trio.connection.peers import Peers
from livesync_trio.connection.surroundings import Surroundings
from livesync_trio.delivery import Webhooks
from livesync_trio.ending import Ending
from livesync_trio.errors import Kind, StartupError, StorageUnavailable
from livesync_trio.fairness import Attempts
from livesync_trio.hooks import HookRunner, Hooks
from livesync_trio.limits import (
    ADMIN_READER_THREADS,
    GC_THRESHOLDS,
    POSTGRES_MIGRATION_LIMIT_S,
    READER_THREADS,
    SHARED_WRITER_THREADS,
)
from livesync_trio.listening import listen
from livesync_trio.metrics import Metrics, Sources, pulse
from livesync_trio.reloading import Reloader, Reread, prepare_audit
from livesync_trio.rules.admission import Quota
from livesync_trio.rules.schemas import BadSchemas, EventSchemas
from livesync_trio.service import Service, drain, start
from livesync_trio.storage.base import Engine, SharedEngine
from livesync_trio.storage.url import MEMORY_URL, engine_from_url
from livesync_trio.store.opening import open_engine
from livesync_trio.store.persistence import Writer
from livesync_trio.store.readers import ThreadReaders
from livesync_trio.store.records import Records
from livesync_trio.store.registry import Registry
from livesync_trio.store.shared.news import News
from livesync_trio.store.shared.telling import Telling
from livesync_trio.store.shared.writer import SharedWriter
from livesync_trio.store.watching import hangs, watch
from livesync_trio.store.writer import ThreadWriter
from livesync_trio.supervision import Tasks, open_tasks
from livesync_trio.systemd import ServiceManager
from livesync_trio.telemetry import (
    Counters,
    Flood,
    configure_logging,
    exchange_standard_streams,
    get_logger,
    log_lines_lost,
)
from livesync_trio.traces import open_traces
from livesync_trio.transport.arrivals import Arrivals
from livesync_trio.transport.asgi import Mount
from livesync_trio.transport.door import Door, DoorSettings
from livesync_trio.transport.metrics_page import MetricsPage
from livesync_trio.transport.sites import Site
from livesync_trio.transport.tls import Tls
from livesync_trio.turns import Turns
from livesync_trio.version import VERSION

if TYPE_CHECKING:
    from livesync_trio.admin.plane import ControlPlane
    from livesync_trio.api.site import ApiSite
    from livesync_trio.backups import Backups
    from livesync_trio.feed.opening import OpenFeed

_log = get_logger("app")

OnReady = Callable[[str, str], None]
"""Told once, when clients may connect: the base URL, and where the data is."""


OnControl = Callable[[str], None]
"""Told once, before `OnReady`, if a control plane was asked for: its URL, empty when it has no address yet."""


def _nobody(*_: str) -> None:
    """Nobody wants to know."""


def run(
    config: Config,
    hooks: Hooks,
    *,
    on_ready: OnReady = _nobody,
    reread: Reread | None = None,
    on_control: OnControl = _nobody,
) -> None:
    """Run a server until it is told to stop.

    Args:
        config: the configuration.
        hooks: the user's functions.
        on_ready: told once, when clients may connect.
        reread: reads configuration and hooks again on SIGHUP.
        on_control: told before, where the control plane is.

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
    trio.run(partial(serve, config, hooks, ready, manager, reread, on_control=on_control, ending=ending))


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


async def serve(
    config: Config,
    hooks: Hooks | None = None,
    on_ready: OnReady = _nobody,
    manager: ServiceManager = ServiceManager(),  # noqa: B008 - frozen, and nobody
    reread: Reread | None = None,
    *,
    on_control: OnControl = _nobody,
    ending: Ending | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, or until cancelled (which cuts everything but what is being committed).

    For programs that embed the server: they configure structlog and Trio as they like, and leave out `ending`.

    Raises:
        StartupError: it could not start.
    """
    engine = engine_from_url(config.database_url, config.listen_url)
    await open_engine(engine, config.database_wait_s, partial(manager.starting, POSTGRES_MIGRATION_LIMIT_S))
    try:
        server = Server(config, hooks or Hooks(), engine, manager=manager, reread=reread, ending=ending)
        await server.run(on_ready, on_control)
    finally:
        engine.close()


class Server:
    """One running server: its services, and how they start and stop."""

    def __init__(
        self,
        config: Config,
        hooks: Hooks,
        engine: Engine,
        *,
        manager: ServiceManager = ServiceManager(),  # noqa: B008 - frozen, and nobody
        reread: Reread | None = None,
        ending: Ending | None = None,
    ) -> None:
        """Put everything together, inside Trio; nothing is started yet. `engine` must be open."""
        self._config = config
        self._ending = ending
        self._manager = manager
        self._services: Sequence[Service] = ()  # once it runs
        self._engine = engine
        self.counters = Counters()
        turns = Turns()
        self.arrivals = Arrivals(turns) if Arrivals.available() else None
        telling = Telling()
        writer: Writer
        call_soon = None if self.arrivals is None else self.arrivals.call_soon
        if isinstance(engine, SharedEngine):
            threads = [
                ThreadWriter(engine.writer, self.counters, call_soon, turns) for _ in range(SHARED_WRITER_THREADS)
            ]
            writer = SharedWriter(threads, telling)
        else:
            writer = ThreadWriter(engine.writer, self.counters, call_soon, turns)
        quota = Quota(config.max_store_events, config.max_store_bytes)
        self.readers = ThreadReaders(engine.reader, READER_THREADS, self.counters)
        limits = quota if quota.set else None
        self.registry = Registry(writer, self.readers, self.counters, config.dormant_after_s, limits)
        self.news = News(engine, self.registry, telling) if isinstance(engine, SharedEngine) else None
        self.webhooks = Webhooks(config, self.registry, engine, self.counters)
        self.peers = Peers(config.idle_limit_s, turns)
        flood = Flood()
        runner = HookRunner(hooks, config.hook_limit_s, flood, self.counters)
        self.access = Access.of(config, runner)
        self.tls = None if config.tls_cert is None or config.tls_key is None else Tls(config.tls_cert, config.tls_key)
        self.audit = Audit()
        prepare_audit(self.audit, config)()
        self.backups = None if config.backup_dir is None else self._backups()
        self.metrics = Metrics(
            Sources(
                self.counters,
                self.registry,
                self.peers,
                engine.name,
                draining=lambda: self.door.draining,
                storage_healthy=lambda: self._storage_healthy,
                audit_lines_lost=lambda: self.audit.lost,
                backups=self.backups,
                feed=lambda: None if self.feed is None else self.feed.measured(),
            )
        )
        if config.metrics_token is not None or config.admin_secret is not None:
            self.metrics.prepare()
        self.control = None if config.admin_secret is None else self._control_plane()
        self.door = Door(
            DoorSettings(config.frame_max_bytes, config.handshake_limit_s, config.stall_limit_s),
            access=self.access,
            surroundings=Surroundings(
                runner,
                self.counters,
                config.max_open_pulls,
                config.admin_secret,
                Attempts(spares_loopback=is_loopback(config.host)),
                audit=self.audit,
                flood=flood,
                store_user=config.store_user,
                schemas=read_schemas(config),
                schemas_of_pushes=config.event_schemas_pushes,
            ),
            peers=self.peers,
            open_store=self.registry.handle,
            health=self.health,
            tls=self.tls,
            arrivals=self.arrivals,
            metrics=MetricsPage(
                config.metrics_token,
                self.metrics.render,
                Attempts("metrics tokens", spares_loopback=is_loopback(config.host)),
            ),
        )
        self.api: ApiSite | None = None
        self.feed = None if config.feed is None else self._open_feed(config.feed)
        self.door.sites = self._sites()
        self.traces = open_traces() if config.traces else None
        self.reloader = Reloader(config, hooks, reread, self.door, self.tls, traces=self.traces)

    def _backups(self) -> "Backups":
        from livesync_trio.backups import Backups  # noqa: PLC0415 -- for those who want it

        return Backups(self._config)

    def _control_plane(self) -> "ControlPlane":
        """The control plane, which sees the server through these doors only (decision 0006)."""
        # Quart and Hypercorn take a fifth of a second and 13 MB: a server without a control plane does not pay them.
        from livesync_trio.admin.plane import ControlPlane  # noqa: PLC0415
        from livesync_trio.admin.server_view import ServerView  # noqa: PLC0415

        return ControlPlane(
            ServerView(
                config=lambda: self.reloader.config,
                engine=self._engine.name,
                database=self._engine.describe,
                counters=self.counters,
                health=self.health,
                peers=self.peers,
                open_store=self.registry.handle,
                active=lambda store_id: self.registry.running(store_id) is not None,
                readers=ThreadReaders(self._engine.reader, ADMIN_READER_THREADS, self.counters),
                audit=self.audit,
                secret=lambda: self.door.surroundings.admin_secret,
                trusts=self.access.proxies.trusts,
                client_address=self.access.proxies.client,
                metrics=self.metrics.render,
                webhooks=self.webhooks,
            )
        )

    def _open_feed(self, table: FeedTable) -> "OpenFeed":
        """The change feed, whose history is opened by now."""
        from livesync_trio.feed.opening import open_feed  # noqa: PLC0415 - sqlglot and more; off means not imported

        records = Records(self.registry.writer, self.readers)
        return open_feed(table, self._config.database_url, records, self.door.surroundings)

    def _feed_site(self, feed: "OpenFeed", table: FeedTable) -> Site:
        from livesync_trio.feed.site import FeedSite  # noqa: PLC0415 - see `_open_feed`

        return FeedSite(
            feed.feed,
            feed.rules,
            feed.clients,
            dialect=table.dialect,
            admit=partial(self.door.admit, to_store=False),
            upgrader=self.door.upgrader,
            surroundings=self.door.surroundings,
            pages=lambda: self.access.pages,
            client_address=self.access.client_address,
        )

    def _sites(self) -> list[Site]:
        """Who answers below paths of their own on the public port."""
        sites: list[Site] = []
        if self.feed is not None and self._config.feed is not None:
            sites.append(self._feed_site(self.feed, self._config.feed))
        if self.control is not None and self._config.admin_public:
            sites.append(Mount("/admin", self.control.app, "http" if self.tls is None else "https"))
        if self._config.api:
            sites.append(self._api())
        return sites

    def _api(self) -> "ApiSite":
        """The HTTP API, which sees the server through these doors only."""
        from livesync_trio.api.dialect import either_peer  # noqa: PLC0415 - a server without it does not load it
        from livesync_trio.api.server import ApiServer  # noqa: PLC0415
        from livesync_trio.api.site import ApiSite  # noqa: PLC0415

        server = ApiServer(
            admit=self.door.admit,
            arrive=self.access.arrive,
            client_address=self.access.client_address,
            pages=lambda: self.access.pages,
            surroundings=self.door.surroundings,
            open_store=self.registry.handle,
            readers=self.readers,
            peers=self.peers,
            upgrader=self.door.upgrader,
            frame_max_bytes=self._config.frame_max_bytes,
            handshake_limit_s=self._config.handshake_limit_s,
        )
        self.door.plain_dialect = either_peer(server)
        self.api = ApiSite(server)
        return self.api

    def _all_services(self, listeners: list[trio.SocketListener], tasks: Tasks) -> list[Service]:
        """All that runs, in the order in which it is started; it is drained in the opposite one."""
        services = [
            Service(partial(pulse.measure, self.counters)),
            Service(partial(watch, self.registry.writer, self.readers)),
            Service(self.door.surroundings.flood.watch),
        ]
        if self._ending is not None:
            services.append(Service(self._ending.watch, reports=True))
        if self.arrivals is not None:
            services.append(Service(self.arrivals.run))
        if self.control is not None:
            services.append(Service(self.control.run, self.control.stop))
        services += [
            Service(self.peers.watch, self.peers.say_goodbye),
            Service(self.registry.run, self.registry.drain, reports=True),
        ]
        if self.news is not None:
            services.append(Service(self.news.run))
        if self.backups is not None:
            services.append(Service(self.backups.run))
        services.append(Service(self.webhooks.run, self.webhooks.drain))
        if self.feed is not None:
            services.append(Service(self.feed.run))
        if self.reloader.worthwhile:
            services.append(Service(partial(self.reloader.run, self._manager.reloading), reports=True))
        services.append(Service(partial(tasks.accept, self.door.serve, listeners), self._finish_requests))
        return services

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether all is well, and what /health says."""
        if self.door.draining:
            status = "draining"
        elif hangs(self.registry.writer):
            status = "storage hangs"
        else:
            status = "ok" if self._storage_healthy else "storage unavailable"
        return status == "ok", {
            "status": status,
            "version": VERSION,
            "engine": self._engine.name,
            "stores_active": self.registry.active,
            "stores_fenced": len(self.registry.fenced()),
            "connections": len(self.peers),
            "log_lines_lost": log_lines_lost(),
            "audit_lines_lost": self.audit.lost,
            **({} if self.control is None else {"control_plane": self.control.status}),
            **({} if self.feed is None else {"feed": self.feed.described()}),
        }

    @property
    def _storage_healthy(self) -> bool:
        """Whether the database can be written and read, and answers."""
        writer = self.registry.writer
        return writer.healthy and self.readers.healthy and not hangs(writer)

    def _status(self) -> str:
        """How it goes, in a line."""
        _, health = self.health()
        return f"{health['status']}: {health['connections']} connections, {health['stores_active']} stores active"

    async def run(self, on_ready: OnReady, on_control: OnControl = _nobody) -> None:
        """Serve until a signal says stop, then drain. Raises StartupError when the address cannot be listened on."""
        with closing(self.audit):
            try:
                await self._run(on_ready, on_control)
            finally:
                if self.control is not None:
                    self.control.close()
                if self.traces is not None:
                    await self.traces.close()

    async def _run(self, on_ready: OnReady, on_control: OnControl) -> None:
        where = f"{self._config.given('host')}, port {self._config.given('port')}"
        listeners = await listen(self._config.host, self._config.port, where)
        await self._open_readers()
        if self.control is not None:
            await self.control.listen()
            on_control(self.control.url)
        url = base_url(listeners[0], "http" if self.tls is None else "https")
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with open_tasks("server") as tasks:
                self._services = self._all_services(listeners, tasks)
                await start(self._services, tasks)
                tasks.start(self._stop_on_signal, signals, tasks)
                _log.info("listening", url=url, engine=self._engine.name, database=self._engine.describe())
                for warning in exposure_warnings(self._config):
                    _log.warning("a setting is weak", reason=warning)
                on_ready(url, self._engine.describe())
                self._manager.ready()
                tasks.start(self._manager.watch, lambda: self.registry.writer.alive, self._status)
        if tasks.crash is not None:
            raise tasks.crash
        _log.info("stopped")

    async def _stop_on_signal(self, signals: AsyncIterator[int], tasks: Tasks) -> None:
        await anext(signals)
        tasks.start(self._stop_at_once, signals, tasks)
        await self.drain()
        tasks.cancel()

    async def _stop_at_once(self, signals: AsyncIterator[int], tasks: Tasks) -> None:
        await anext(signals)
        _log.warning("second signal: stopping at once")
        tasks.cancel()

    async def drain(self) -> None:
        """Finish what was begun, within the limit: HTTP requests, the mailboxes, then a close frame for every peer."""
        self._manager.stopping()
        self._engine.stopping()
        _log.info("draining", connections=len(self.peers), stores=self.registry.active)
        self.door.draining = True
        if self.control is not None:
            self.control.end()
        if self.api is not None:
            self.api.end()
        with trio.move_on_after(self._config.drain_limit_s):
            await drain(self._services)

    async def _finish_requests(self) -> None:
        with trio.move_on_after(self._config.drain_limit_s / 2):  # a slow reader must not cost the others their end
            await self.door.finish_requests()

    async def _open_readers(self) -> None:
        try:
            await self.readers.open()
        except StorageUnavailable as error:
            raise StartupError(
                Kind.DATABASE_UNUSABLE, f"not all of the {READER_THREADS} connections that read can be opened: {error}"
            ) from error


def read_schemas(config: Config) -> EventSchemas | None:
    """The schemas of events that a configuration names.

    Raises:
        StartupError: they cannot be read.
    """
    if config.event_schemas is None:
        return None
    try:
        text = Path(config.event_schemas).read_bytes()
        return EventSchemas.of(text, knows_all=config.event_schemas_unknown == "refuse")
    except (OSError, BadSchemas) as error:
        raise StartupError(Kind.BAD_CONFIG, f"The schemas of LIVESYNC_EVENT_SCHEMAS cannot be used: {error}.") from None


def base_url(listener: trio.SocketListener, scheme: str = "http") -> str:
    """URL under which a listener is reached, with the port it was really given."""
    host, port = listener.socket.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _tame_garbage_collection() -> None:
    """Look never again at what exists now, and at the rest more rarely.

    Full collections over many idle actors pause for tenths of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
