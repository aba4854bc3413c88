"""What the other servers on a database are told: that stores have changed, and nothing while there is nobody else.

Owns the question whether this server is alone (decision 0004). Whoever arrives is seen in the database before it
listens, and is heard here once it listens; then it reads. So it is enough to know of arrivals in their order: being
alone counts from when the database said so, until somebody arrives, who is told to look at everything at once.
"""

from collections.abc import Iterable
from contextlib import suppress

import trio

from livesync_trio.errors import StorageUnavailable
from livesync_trio.limits import NEWS_CHECK_DEAF_S, NEWS_CHECK_S, NEWS_GATHER_S
from livesync_trio.model import StoreId
from livesync_trio.storage.shared import News, SharedEngine


class ChangedStores:
    """Stores that wait to be told of or looked at; each is in it once, however often it was put there."""

    def __init__(self) -> None:
        self._stores: set[StoreId] | None = set()  # None: all there are
        self._something = trio.Event()

    def put(self, store_ids: Iterable[StoreId] | None) -> None:
        """Add stores; None for all of them, whatever their names."""
        if store_ids is None:
            self._stores = None
        elif self._stores is not None:
            self._stores.update(store_ids)
        if self._stores is None or self._stores:
            self._something.set()

    async def take_all(self) -> set[StoreId] | None:
        """Wait until there is one; gives all there are, None for all whatever their names. Cancellation takes none."""
        await self._something.wait()
        self._something = trio.Event()
        stores, self._stores = self._stores, set()
        return stores


class Telling:
    """Tells the other servers, if there are any, which logs have changed here."""

    def __init__(self) -> None:
        """Nothing is told before `run`."""
        self._changed = ChangedStores()
        self._session: int | None = None  # of the listener that hears who arrives; None while there is none
        self._arrivals = 0
        self.alone = False
        """Whether nobody else would hear. False while that is not known."""

    def changed(self, store_id: StoreId) -> None:
        """A log has changed durably."""
        if not self.alone:
            self._changed.put([store_id])

    def listening(self, session: int) -> None:
        """Whoever arrives from now on is told to `arrived`. `session`: of the listener."""
        self._session = session

    def deaf(self) -> None:
        """Nobody hears any more who arrives; somebody may have already."""
        self._session = None
        self.arrived()

    def arrived(self) -> None:
        """Another server listens, or may. What was not told until now, it may have missed."""
        self._arrivals += 1
        if self.alone:
            self.alone = False
            self._changed.put(None)

    async def run(self, engine: SharedEngine) -> None:
        """Tell, until cancelled. While one notification is on its way, and a moment more, the next ones gather."""
        handle = engine.news()
        look_s = trio.current_time() + NEWS_CHECK_DEAF_S  # when to look who is there
        try:
            while True:
                with trio.move_on_at(look_s):
                    await self._tell(handle, await self._changed.take_all())
                if trio.current_time() >= look_s:
                    await self._look(handle)
                    look_s = trio.current_time() + NEWS_CHECK_S
        finally:
            handle.close()

    async def _tell(self, handle: News, stores: set[StoreId] | None) -> None:
        with trio.CancelScope(shield=True):  # what was taken is told
            try:
                await trio.to_thread.run_sync(handle.tell, stores)
            except StorageUnavailable:
                self._changed.put(stores)
                pause_s = NEWS_CHECK_DEAF_S
            else:
                pause_s = NEWS_GATHER_S
        await trio.sleep(pause_s)

    async def _look(self, handle: News) -> None:
        """Ask the database who listens. That nobody else does counts unless somebody has arrived meanwhile."""
        arrivals, session, alone = self._arrivals, self._session, False
        if session is not None:
            with suppress(StorageUnavailable):
                alone = await trio.to_thread.run_sync(handle.alone, session)
        if not alone:
            self.arrived()
        elif arrivals == self._arrivals:
            self.alone = True
