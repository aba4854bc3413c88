"""News between the servers of one database (decision 0004): which stores have changed.

Owns the notifications that go out, and the question whether this server is alone: nothing is told while there is nobody
else. Whoever arrives is seen in the database before it listens, and is heard here once it listens; then it reads. So it
is enough to know of arrivals in their order: being alone counts from when the database said so, until somebody arrives,
who is told to look at everything at once.

Owns the notifications that come in, too. They are hints: what has changed is read from the database, and only the actor
decides what to make of it. A hint that is lost costs time, never an event, because the heads of all running stores are
also compared with the database at intervals: short ones while nothing can be heard.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress

import trio

from livesync_trio.errors import StorageUnavailable
from livesync_trio.limits import NEWS_CHECK_DEAF_S, NEWS_CHECK_S, NEWS_GATHER_S, STORAGE_BACKOFF_FIRST_S
from livesync_trio.model import StoreId
from livesync_trio.storage import base
from livesync_trio.storage import shared as contract
from livesync_trio.store.persistence import BulkWriter, Done
from livesync_trio.store.registry import Registry
from livesync_trio.supervision import open_tasks
from livesync_trio.telemetry import get_logger

_log = get_logger("news")


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


class Notifier:
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

    async def run(self, engine: contract.SharedEngine) -> None:
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

    async def _tell(self, handle: contract.News, stores: set[StoreId] | None) -> None:
        with trio.CancelScope(shield=True):  # what was taken is told
            try:
                await trio.to_thread.run_sync(handle.tell, stores)
            except StorageUnavailable:
                self._changed.put(stores)
                pause_s = NEWS_CHECK_DEAF_S
            else:
                pause_s = NEWS_GATHER_S
        await trio.sleep(pause_s)

    async def _look(self, handle: contract.News) -> None:
        """Ask the database who listens. That nobody else does counts unless somebody has arrived meanwhile."""
        arrivals, session, alone = self._arrivals, self._session, False
        if session is not None:
            with suppress(StorageUnavailable):
                alone = await trio.to_thread.run_sync(handle.alone, session)
        if not alone:
            self.arrived()
        elif arrivals == self._arrivals:
            self.alone = True


class SharedWriter:
    """Several writers, of which each has its own stores, so that the writes of one store stay in order.

    What became durable is noted for the other servers. Implements `persistence.Writer`.
    """

    def __init__(self, writers: Sequence[BulkWriter], telling: Notifier) -> None:
        """`telling`: where stores are noted that have changed."""
        self._writers = tuple(writers)
        self._telling = telling

    @property
    def healthy(self) -> bool:
        """Whether all of them are."""
        return all(writer.healthy for writer in self._writers)

    @property
    def alive(self) -> bool:
        """Whether all of them are."""
        return all(writer.alive for writer in self._writers)

    @property
    def turn_age_s(self) -> float:
        """Of the one that takes longest."""
        return max(writer.turn_age_s for writer in self._writers)

    def start(self) -> None:
        """See `persistence.Writer`."""
        for writer in self._writers:
            writer.start()

    async def stop(self) -> None:
        """See `persistence.Writer`."""
        for writer in self._writers:
            await writer.stop()

    async def commit_all(self, appends: Sequence[base.Append]) -> list[base.Outcome | Exception]:
        """See `persistence.BulkWriter`. Nobody is told: no server follows a log that is still coming in."""
        return await self._of(appends[0]).commit_all(appends)

    def submit(self, write: base.Write, done: Done) -> None:
        """See `persistence.Writer`. What is durable is told right after."""

        def told(outcome: base.Outcome | Exception) -> None:
            if not isinstance(outcome, Exception):
                self._note(write, outcome)
            done(outcome)

        self._of(write).submit(write, told)

    async def commit(self, write: base.Write) -> base.Outcome:
        """See `persistence.Writer`. What is durable now is told right after."""
        outcome = await self._of(write).commit(write)
        self._note(write, outcome)
        return outcome

    def _of(self, write: base.Write) -> BulkWriter:
        return self._writers[hash(base.subject(write)) % len(self._writers)]

    def _note(self, write: base.Write, outcome: base.Outcome) -> None:
        if isinstance(write, base.PutRecord):
            return  # whoever reads records looks for himself
        if isinstance(outcome, base.Appended) or isinstance(write, base.Reset | base.Delete | base.Freeze):
            self._telling.changed(write.store_id)
        if isinstance(write, base.Adopt):
            self._telling.changed(write.staged_id)  # a store of this name may have been renamed


class News:
    """Tells the other servers what happens here, and the actors here what happened there."""

    def __init__(self, engine: contract.SharedEngine, registry: Registry, telling: Notifier) -> None:
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
