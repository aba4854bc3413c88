"""What can be switched on beside sync: each is put together here, and loaded only if the configuration asks for it.

Each sees the server through the few doors it is given. What it is made of is imported when it is opened, so that a
server without it pays neither time nor memory.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from livesync_trio.access.admission import Access
from livesync_trio.audit import Audit
from livesync_trio.config import Config, FeedTable
from livesync_trio.connection.peers import Peers
from livesync_trio.delivery import Webhooks
from livesync_trio.errors import CommandError, Kind, StartupError
from livesync_trio.limits import ADMIN_READER_THREADS
from livesync_trio.metrics import Metrics
from livesync_trio.reloading import Reloader
from livesync_trio.rules.schemas import BadSchemas, EventSchemas
from livesync_trio.storage.base import Engine
from livesync_trio.store.persistence import BulkWriter
from livesync_trio.store.readers import ThreadReaders
from livesync_trio.store.records import Records
from livesync_trio.store.registry import Registry
from livesync_trio.telemetry import Counters
from livesync_trio.transport.asgi import Mount
from livesync_trio.transport.door import Door
from livesync_trio.transport.sites import Site
from livesync_trio.transport.tls import Tls

if TYPE_CHECKING:
    from livesync_trio.admin.plane import ControlPlane
    from livesync_trio.api.site import ApiSite
    from livesync_trio.backups import Backups
    from livesync_trio.console import Console
    from livesync_trio.feed.service import FeedService
    from livesync_trio.operators.entrance import Entrance


class Core(Protocol):
    """What a capability may use of the server."""

    config: Config
    engine: Engine
    counters: Counters
    registry: Registry
    writer: BulkWriter
    readers: ThreadReaders
    peers: Peers
    access: Access
    audit: Audit
    metrics: Metrics
    webhooks: Webhooks
    door: Door
    tls: Tls | None
    reloader: Reloader
    backups: "Backups | None"
    url: str

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether all is well, and what /health says."""


def open_backups(config: Config) -> "Backups | None":
    """Scheduled backups; None unless a directory for them is set."""
    if config.backup_dir is None:
        return None
    from livesync_trio.archive.places import check_installed, is_bucket  # noqa: PLC0415
    from livesync_trio.backups import Backups  # noqa: PLC0415

    if is_bucket(config.backup_dir):
        try:
            check_installed()
        except CommandError as error:
            raise StartupError(error.kind, f"{config.given('backup_dir')}: {error}") from None
    return Backups(config)


def open_control_plane(server: Core, feed: "FeedService | None") -> "ControlPlane | None":
    """The control plane (decision 0006); None without an operator's secret and without the console.

    Quart and Hypercorn take a fifth of a second and 13 MB.
    """
    if not server.config.has_control_plane:
        return None
    from livesync_trio.admin.plane import ControlPlane  # noqa: PLC0415
    from livesync_trio.admin.server_view import ServerView  # noqa: PLC0415

    return ControlPlane(
        ServerView(
            config=lambda: server.reloader.config,
            engine=server.engine.name,
            database=server.engine.describe,
            counters=server.counters,
            health=server.health,
            peers=server.peers,
            open_store=server.registry.handle,
            active=lambda store_id: server.registry.running(store_id) is not None,
            readers=ThreadReaders(server.engine.reader, ADMIN_READER_THREADS, server.counters),
            writer=server.writer,
            audit=server.audit,
            secret=lambda: server.door.shared.admin_secret,
            trusts=server.access.proxies.trusts,
            client_address=server.access.proxies.client,
            metrics=server.metrics.render,
            webhooks=server.webhooks,
            access=lambda: server.door.access,
            public_url=lambda: server.url,
            reloads=server.reloader,
            backups=server.backups,
            feed=None if feed is None else feed.described,
            entrance=_open_entrance(server) if server.config.console else None,
            lost_upgrades=server.door.lost_upgrades,
        )
    )


def open_console(server: Core, control: "ControlPlane | None") -> "Console | None":
    """The control plane's pages (decision 0021); None unless they are switched on."""
    if control is None or not server.config.console:
        return None
    from livesync_trio.console import Console  # noqa: PLC0415

    return Console(control.server, control.app)


def _open_entrance(server: Core) -> "Entrance":
    """How operators get in, with a reader of its own: nobody who signs in waits for a search through a log."""
    from livesync_trio.operators.entrance import Entrance  # noqa: PLC0415

    readers = ThreadReaders(server.engine.reader, 1, server.counters)
    return Entrance(server.registry.writer, readers, server.audit)


def open_change_feed(server: Core) -> "FeedService | None":
    """The change feed, whose history is opened by now; None unless it is configured."""
    if server.config.feed is None:
        return None
    from livesync_trio.feed.service import open_feed  # noqa: PLC0415

    records = Records(server.registry.writer, server.readers)
    return open_feed(server.config.feed, server.config.database_url, records, server.door.shared)


def open_api(server: Core) -> "ApiSite | None":
    """The HTTP API and the plain dialect; None unless they are switched on."""
    if not server.config.api:
        return None
    from livesync_trio.api.server import ApiServer, either_peer  # noqa: PLC0415
    from livesync_trio.api.site import ApiSite  # noqa: PLC0415

    api = ApiServer(
        admit=server.door.admit,
        arrive=server.access.arrive,
        client_address=server.access.client_address,
        pages=lambda: server.access.pages,
        shared=server.door.shared,
        open_store=server.registry.handle,
        readers=server.readers,
        peers=server.peers,
        upgrader=server.door.upgrader,
        frame_max_bytes=server.config.frame_max_bytes,
        handshake_limit_s=server.config.handshake_limit_s,
    )
    server.door.plain_dialect = either_peer(api)
    return ApiSite(api)


def open_sites(
    server: Core, feed: "FeedService | None", control: "ControlPlane | None", api: "ApiSite | None"
) -> list[Site]:
    """Who answers below paths of their own on the public port, of those that are there."""
    sites: list[Site] = []
    if feed is not None and server.config.feed is not None:
        sites.append(_feed_site(server, feed, server.config.feed))
    if control is not None and server.config.admin_public:
        sites.append(Mount("/admin", control.app, "http" if server.tls is None else "https"))
    if api is not None:
        sites.append(api)
    return sites


def _feed_site(server: Core, feed: "FeedService", table: FeedTable) -> Site:
    from livesync_trio.feed.site import FeedSite  # noqa: PLC0415

    return FeedSite(
        feed.served,
        dialect=table.dialect,
        admit=partial(server.door.admit, to_store=False),
        upgrader=server.door.upgrader,
        shared=server.door.shared,
        pages=lambda: server.access.pages,
        client_address=server.access.client_address,
    )


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
