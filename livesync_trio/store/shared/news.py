"""News between the servers of one database: which stores have changed, and what their actors are told of it.

Owns the notifications that come in; `telling` those that go out. They are hints (decision 0004): what has changed is
read from the database, and only the actor decides what to make of it. A hint that is lost costs time, never an event,
because the heads of all running stores are also compared with the database at intervals: short ones while nothing can
be heard.
"""

import trio

from livesync_trio.errors import StorageUnavailable
from livesync_trio.limits import NEWS_CHECK_DEAF_S, NEWS_CHECK_S, STORAGE_BACKOFF_FIRST_S
from livesync_trio.model import StoreId
from livesync_trio.storage import shared as contract
from livesync_trio.store.registry import Registry
from livesync_trio.store.shared.telling import ChangedStores, Telling
from livesync_trio.supervision import open_tasks
from livesync_trio.telemetry import get_logger

_log = get_logger("news")


class News:
    """Tells the other servers what happens here, and the actors here what happened there."""

    def __init__(self, engine: contract.SharedEngine, registry: Registry, telling: Telling) -> None:
        """Nothing is started before `run`. `telling`: what a `SharedWriter` notes changes in."""
        self._engine = engine
        self._registry = registry
        self._telling = telling
        self._hints = ChangedStores()
        self.listening = False
        """Whether news is heard at once; otherwise it is found by comparing, and comes later."""

    async def run(self) -> None:
        """Pass on news until cancelled. A database in trouble only makes it late."""
        async with open_tasks("news") as tasks:
            tasks.start(self._telling.run, self._engine)
            tasks.start(self._listen)
            tasks.start(self._compare_hinted)
            tasks.start(self._compare_all)
        if tasks.crash is not None:
            raise tasks.crash

    # --- in --------------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Keep a listener, and compare everything whenever there is a new one: what was told between was missed."""
        told = False
        while True:
            try:
                listener = await trio.to_thread.run_sync(self._engine.listener)
                try:
                    self._hints.put(None)
                    self._registry.changed(None)
                    self.listening, told = True, False
                    self._telling.listening(listener.session)
                    await self._hear(listener)
                finally:
                    self.listening = False
                    self._telling.deaf()
                    listener.close()
            except StorageUnavailable as error:
                if not told:
                    _log.warning("news from other servers comes late", reason=str(error))
                    told = True
                await trio.sleep(NEWS_CHECK_DEAF_S)

    async def _hear(self, listener: contract.Listener) -> None:
        while True:
            try:
                with trio.move_on_after(NEWS_CHECK_S) as silence:
                    await trio.lowlevel.wait_readable(listener.fileno())
            except (OSError, ValueError, trio.ClosedResourceError) as error:  # the connection closed its descriptor
                raise StorageUnavailable(f"Notifications cannot be received: {error}") from error
            if silence.cancelled_caught:
                await trio.to_thread.run_sync(listener.check)
            heard = listener.hear_nowait()
            if heard.arrived:
                self._telling.arrived()
            hints = heard.stores
            self._hints.put(None if hints is None else hints.intersection(self._registry.running_stores()))
            for store_id in [None] if hints is None else hints:
                self._registry.changed(store_id)

    # --- what the database says ------------------------------------------------------------------------------------

    async def _compare_hinted(self) -> None:
        handle = self._engine.news()
        try:
            while True:
                await self._compare(handle, await self._hints.take_all())
        finally:
            handle.close()

    async def _compare_all(self) -> None:
        """Compare all running stores at intervals: a server may die before it has told what it stored."""
        compared_s = trio.current_time()
        while True:
            await trio.sleep(NEWS_CHECK_DEAF_S)
            if not self.listening or trio.current_time() - compared_s >= NEWS_CHECK_S:
                compared_s = trio.current_time()
                self._hints.put(None)

    async def _compare(self, handle: contract.News, hinted: set[StoreId] | None) -> None:
        """Tell actors what the database holds of their stores: one question, however many stores."""
        stores = set(self._registry.running_stores()) if hinted is None else hinted
        try:
            found = await trio.to_thread.run_sync(handle.states, stores)
        except StorageUnavailable:
            self._hints.put(stores)
            await trio.sleep(NEWS_CHECK_DEAF_S)
            return
        full = [store_id for store_id in stores if not self._registry.tell(store_id, found.get(store_id))]
        if full:
            self._hints.put(full)
            await trio.sleep(STORAGE_BACKOFF_FIRST_S)
