"""Webhooks: stored events are sent to other programs by HTTP, in order for each store, at least once.

`service` knows which webhooks there are and has a `courier` for each; a courier has a `queue` of stores that are
behind, looks at what is next (`looking`), sends it (`messages`, `sender`, `network`, `addresses`) and moves a cursor
(`cursors`). `lease` chooses one of several servers. Nothing of these is loaded before there is a webhook: that is what
this module looks after.

    webhooks = Webhooks(config, registry, engine, counters)     # `app.Server.webhooks`
    await webhooks.run()                                         # returns at once while nobody can make one
    webhooks.reconfigure(config)                                 # SIGHUP; begins `run` anew where that is needed
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from livesync_trio.config import Config
from livesync_trio.delivery.limits import WEBHOOK_READER_THREADS, WEBHOOK_WATCH_S
from livesync_trio.errors import StorageUnavailable
from livesync_trio.limits import STORAGE_BACKOFF_MAX_S
from livesync_trio.storage.base import Engine
from livesync_trio.storage.shared import SharedEngine
from livesync_trio.store.readers import ThreadReaders
from livesync_trio.store.records import Records
from livesync_trio.store.registry import Registry
from livesync_trio.telemetry import Counters

if TYPE_CHECKING:
    from livesync_trio.delivery.network import GuardedNetwork
    from livesync_trio.delivery.service import Deliveries

__all__ = ["Webhooks"]

_DEFINITIONS = "webhook"


class Webhooks:
    """The webhooks of a server, of which it may have none."""

    def __init__(self, config: Config, registry: Registry, engine: Engine, counters: Counters) -> None:
        """Loads nothing yet."""
        self._config = config
        self._registry = registry
        self._counters = counters
        self._shared = isinstance(engine, SharedEngine)
        self._wanted = trio.Event()
        self._readers = ThreadReaders(engine.reader, WEBHOOK_READER_THREADS, counters)
        self._deliveries: Deliveries | None = None
        self._runs = False
        self.begin: Callable[[], None] = _nobody
        """Called when `run` is wanted, and does not run."""

    async def run(self) -> None:
        """Deliver from when there is a webhook."""
        self._runs = True
        try:
            await self._run()
        finally:
            self._runs = False
            self._readers.close()

    async def _run(self) -> None:
        while not self._config.webhooks and not self._wanted.is_set() and not await self._stored():
            if not self._shared and not self._config.has_control_plane:
                return  # nobody can make one, but by another configuration
            with trio.move_on_after(WEBHOOK_WATCH_S if self._shared else float("inf")):
                await self._wanted.wait()
        deliveries = self.deliveries()
        self._registry.on_change(deliveries.changed)
        await deliveries.run()

    def reconfigure(self, config: Config) -> None:
        """Put the webhooks of another configuration into effect. Those whose definition stays go on undisturbed."""
        if self._deliveries is not None:
            allowed_stay = config.webhook_private_hosts == self._config.webhook_private_hosts
            self._deliveries.reconfigure(config.webhooks, None if allowed_stay else _network(config))
        self._config = config
        if config.webhooks:
            self.want()
            if not self._runs:
                self.begin()

    async def drain(self) -> None:
        """Finish what is under way."""
        if self._deliveries is not None:
            await self._deliveries.drain()

    def deliveries(self) -> "Deliveries":
        """What does the work, loaded now if it was not before; it runs from when `want` was called."""
        if self._deliveries is None:
            from livesync_trio.delivery.service import Deliveries  # noqa: PLC0415 - 0.1 s

            self._deliveries = Deliveries(
                self._config.webhooks,
                Records(self._registry.writer, self._readers),
                self._readers,
                self._counters,
                _network(self._config),
                shared=self._shared,
            )
        return self._deliveries

    def want(self) -> None:
        """There is a webhook now."""
        self._wanted.set()

    async def _stored(self) -> bool:
        """Whether a webhook was made at run time."""
        while True:
            try:
                return bool(await self._readers.ask(lambda reader: reader.records(_DEFINITIONS, None, 1)))
            except StorageUnavailable:
                await trio.sleep(STORAGE_BACKOFF_MAX_S)


def _network(config: Config) -> "GuardedNetwork":
    from livesync_trio.delivery.network import GuardedNetwork, SystemResolver  # noqa: PLC0415 - see `deliveries`

    return GuardedNetwork(SystemResolver(), config.webhook_private_hosts)


def _nobody() -> None:
    """Who begins `run` while the server does not run."""
