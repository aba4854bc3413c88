"""The composition root: puts the layers together, opens the listeners and orders the shutdown.

Shutdown: close the doors → /health says draining → finish what is in the mailboxes → close every WebSocket with 1012 →
close the engine. A second signal is immediate.
"""

import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from livesync_trio.access.admission import Access
from livesync_trio.app.capabilities import (
    open_api,
    open_backups,
    open_change_feed,
    open_console,
    open_control_plane,
    open_sites,
    read_schemas,
)
from livesync_trio.audit import Audit
from livesync_trio.config import Config, exposure_warnings, is_loopback
from livesync_trio.connection.context import ServerContext
from livesync_trio.connection.peers import Peers
from livesync_trio.delivery import Webhooks
from livesync_trio.ending import Ending
from livesync_trio.errors import Kind, StartupError, StorageUnavailable
from livesync_trio.fairness import Attempts
from livesync_trio.hooks import HookRunner, Hooks
from livesync_trio.limits import (
    READER_THREADS,
    SHARED_WRITER_THREADS,
    UNIX,
)
from livesync_trio.listening import listen
from livesync_trio.metrics import Metrics, Sources, pulse
from livesync_trio.reloading import Reloader, Reread, prepare_audit
from livesync_trio.rules.admission import Quota
from livesync_trio.service import Service, drain, start
from livesync_trio.storage.base import Engine
from livesync_trio.storage.shared import SharedEngine
from livesync_trio.store.persistence import BulkWriter
from livesync_trio.store.readers import ThreadReaders, hangs, watch
from livesync_trio.store.registry import Registry
from livesync_trio.store.shared import News, Notifier, SharedWriter
from livesync_trio.store.writer import ThreadWriter
from livesync_trio.supervision import Tasks, open_tasks
from livesync_trio.systemd import ServiceManager
from livesync_trio.telemetry import (
    Counters,
    Flood,
    get_logger,
    log_lines_lost,
)
from livesync_trio.traces import open_traces
from livesync_trio.transport.arrivals import Arrivals
from livesync_trio.transport.door import Door, DoorSettings
from livesync_trio.transport.own_pages import MetricsPage
from livesync_trio.transport.tls import Tls
from livesync_trio.turns import Turns
from livesync_trio.version import VERSION

if TYPE_CHECKING:
    from livesync_trio.console import Console
    from livesync_trio.feed.service import FeedService

_log = get_logger("app")

OnReady = Callable[[str, str], None]
"""Told once, when clients may connect: the base URL, and where the data is."""


OnControl = Callable[[str, str | None], None]
"""Told once, before `OnReady`, if a control plane was asked for: its URL, empty when it has no address yet, and the
path of the page on which the first operator is made, if nobody can sign in yet."""


def nobody(*_: str | None) -> None:
    """Nobody wants to know."""


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
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        """Put everything together, inside Trio; nothing is started yet. `engine` must be open."""
        self.config = config
        self._ending = ending
        self._sockets = sockets
        self._manager = manager
        self._services: Sequence[Service] = ()  # once it runs
        self.engine = engine
        self.counters = Counters()
        turns = Turns()
        self.arrivals = Arrivals(turns) if Arrivals.available() else None
        telling = Notifier()
        writer: BulkWriter
        call_soon = None if self.arrivals is None else self.arrivals.call_soon
        if isinstance(engine, SharedEngine):
            threads = [
                ThreadWriter(engine.writer, self.counters, call_soon, turns) for _ in range(SHARED_WRITER_THREADS)
            ]
            writer = SharedWriter(threads, telling)
        else:
            writer = ThreadWriter(engine.writer, self.counters, call_soon, turns)
        self.writer: BulkWriter = writer
        quota = Quota(config.max_store_events, config.max_store_bytes)
        self.readers = ThreadReaders(engine.reader, READER_THREADS, self.counters)
        limits = quota if quota.set else None
        self.registry = Registry(writer, self.readers, self.counters, config.dormant_after_s, limits, turns=turns)
        self.news = News(engine, self.registry, telling) if isinstance(engine, SharedEngine) else None
        self.webhooks = Webhooks(config, self.registry, engine, self.counters)
        self.peers = Peers(config.idle_limit_s, turns)
        flood = Flood()
        runner = HookRunner(hooks, config.hook_limit_s, flood, self.counters)
        self.access = Access.of(config, runner)
        self.tls = None if config.tls_cert is None or config.tls_key is None else Tls(config.tls_cert, config.tls_key)
        self.audit = Audit()
        prepare_audit(self.audit, config)()
        self.backups = open_backups(config)
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
        if config.metrics_token is not None or config.has_control_plane:
            self.metrics.prepare()
        self.door: Door = Door(
            DoorSettings(config.frame_max_bytes, config.handshake_limit_s, config.stall_limit_s, config.proxy_protocol),
            access=self.access,
            shared=ServerContext(
                runner,
                self.counters,
                config.max_open_pulls,
                config.admin_secret,
                Attempts(spares_loopback=is_loopback(config.host)),
                audit=self.audit,
                flood=flood,
                store_user=config.store_user,
                turns=turns,
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
        self.api = open_api(self)
        self.feed: FeedService | None = open_change_feed(self)
        self.traces = open_traces() if config.traces else None
        self.reloader = Reloader(
            config,
            hooks,
            reread,
            self.door,
            self.tls,
            traces=self.traces,
            webhooks=self.webhooks.reconfigure,
            feed=None if self.feed is None else self.feed.prepare,
        )
        self.url = ""  # once it listens
        self.control = open_control_plane(self, self.feed)
        self.console: Console | None = open_console(self, self.control)
        self.door.sites = open_sites(self, self.feed, self.control, self.api)

    def _all_services(self, listeners: list[trio.SocketListener], tasks: Tasks) -> list[Service]:
        """All that runs, in the order in which it is started; it is drained in the opposite one."""
        services = [
            Service(partial(pulse.measure, self.counters)),
            Service(partial(watch, self.registry.writer, self.readers)),
            Service(self.door.shared.flood.watch),
        ]
        if self._ending is not None:
            services.append(Service(self._ending.watch, reports=True))
        if self.arrivals is not None:
            services.append(Service(self.arrivals.run))
        if self.control is not None:
            services.append(Service(self.control.run, self.control.stop))
        if self.console is not None:
            services.append(Service(self.console.run))
        services += [
            Service(self.peers.watch, self.peers.say_goodbye),
            Service(self.registry.run, self.registry.drain, reports=True),
        ]
        if self.news is not None:
            services.append(Service(self.news.run))
        if self.backups is not None:
            services.append(Service(self.backups.run))
        self.webhooks.begin = partial(tasks.start, self.webhooks.run)
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
            "engine": self.engine.name,
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

    async def run(self, on_ready: OnReady, on_control: OnControl = nobody) -> None:
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
        where = f"{self.config.given('host')}, port {self.config.given('port')}"
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(one)) for one in self._sockets]
        if not listeners:
            listeners = await listen(self.config.host, self.config.port, where)
        await self._open_readers()
        if self.control is not None:
            await self.control.listen()
        url = self.url = base_url(listeners[0], "http" if self.tls is None else "https")
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with open_tasks("server") as tasks:
                self._services = self._all_services(listeners, tasks)
                await start(self._services, tasks)
                tasks.start(self._stop_on_signal, signals, tasks)
                if self.control is not None:
                    on_control(self.control.url, await self.control.first_link())
                _log.info("listening", url=url, engine=self.engine.name, database=self.engine.describe())
                for warning in exposure_warnings(self.config):
                    _log.warning("a setting is weak", reason=warning)
                on_ready(url, self.engine.describe())
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
        self.engine.stopping()
        _log.info(
            "draining",
            connections=len(self.peers),
            stores=self.registry.active,
            limit_s=self.config.drain_limit_s,
            hint="a second signal stops at once",
        )
        self.door.draining = True
        if self.control is not None:
            self.control.end()
        if self.api is not None:
            self.api.end()
        with trio.move_on_after(self.config.drain_limit_s):
            await drain(self._services)

    async def _finish_requests(self) -> None:
        with trio.move_on_after(self.config.drain_limit_s / 2):  # a slow reader must not cost the others their end
            await self.door.finish_requests()

    async def _open_readers(self) -> None:
        try:
            await self.readers.open()
        except StorageUnavailable as error:
            raise StartupError(
                Kind.DATABASE_UNUSABLE, f"not all of the {READER_THREADS} connections that read can be opened: {error}"
            ) from error


def base_url(listener: trio.SocketListener, scheme: str = "http") -> str:
    """URL under which a listener is reached, with the port it was really given."""
    if listener.socket.family == socket.AF_UNIX:
        return f"{UNIX}{listener.socket.getsockname()}"
    host, port = listener.socket.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
