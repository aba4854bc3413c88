"""Which actors run: started on demand, let go when quiet, restarted after a crash, fenced when hopeless.

Owns the table of running actors and the crash histories. All of it happens in the Trio thread between two
checkpoints, so that no command can fall between an actor that goes and the one that comes.
"""

from collections.abc import Callable

import attrs
import trio

from livesync_trio.errors import Kind, Refusal
from livesync_trio.model import LogState, StoreId
from livesync_trio.rules.admission import Quota
from livesync_trio.store.actor import StoreActor
from livesync_trio.store.commands import FAILED
from livesync_trio.store.handle import StoreHandle
from livesync_trio.store.history import History
from livesync_trio.store.persistence import Readers, Writer
from livesync_trio.supervision import CrashHistory, Tasks, open_tasks
from livesync_trio.telemetry import Counters, get_logger
from livesync_trio.turns import Turns

_log = get_logger("store")

DRAINING = Refusal(Kind.DRAINING, "The server is shutting down. Try again.")
FENCED = Refusal(
    Kind.STORE_FAILED, "This store keeps failing and is set aside for a while. The operator finds the cause in the log."
)


@attrs.frozen
class RegistryStatistics:
    """The actors of a moment.

    Attributes:
        busy: actors with commands to carry out.
        followed: others with live pulls at their head.
        quiet: those with neither, which go dormant unless they are needed.
        fenced: stores that are refused because they kept crashing.
        queued: commands in all mailboxes together.
        queued_longest: commands in the fullest of them.
        followers: live pulls that stand at the head of their store.
    """

    busy: int
    followed: int
    quiet: int
    fenced: int
    queued: int
    queued_longest: int
    followers: int


class Registry:
    """The stores of a server."""

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        counters: Counters,
        dormant_after_s: float,
        quota: Quota | None = None,
        *,
        turns: Turns | None = None,
    ) -> None:
        """Nothing is started before `run`, which also starts and stops the writer.

        Args:
            writer: makes the writes of all stores durable.
            readers: read the history of all stores.
            counters: totals of the server.
            dormant_after_s: quiet time after which a store leaves memory.
            quota: how much each store may hold; None for any amount.
            turns: those of whoever hears for all sockets.
        """
        self._quota = quota
        self._turns = turns or Turns()
        self.writer = writer
        self.readers = readers
        self.history = History(readers)
        self._counters = counters
        self._dormant_after_s = dormant_after_s
        self._actors: dict[StoreId, StoreActor] = {}
        self._crashes: dict[StoreId, CrashHistory] = {}
        self._draining = False
        self._tasks: Tasks | None = None
        self._none_left = trio.lowlevel.ParkingLot()
        self._on_change: list[Callable[[StoreId | None], None]] = []

    def on_change(self, tell: Callable[[StoreId | None], None]) -> None:
        """Have somebody told, from now on, of each store whose log has changed; None: any may have.

        `tell` must neither wait nor raise.
        """
        self._on_change.append(tell)

    def changed(self, store_id: StoreId | None) -> None:
        """The log of a store has changed durably, here or on another server. None: nobody knows which."""
        for tell in self._on_change:
            tell(store_id)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; then every actor ends, what is being committed is finished, and the threads stop.

        Started once. Reports itself started when handles may be used.
        """
        self.writer.start()
        try:
            async with open_tasks("stores") as tasks:
                self._tasks = tasks
                task_status.started()
                try:
                    await self._sweep()
                finally:
                    self._draining = True  # before the scope ends: nobody may ask for an actor that cannot start
        finally:
            await self.writer.stop()
            self.readers.close()

    def handle(self, store_id: StoreId) -> StoreHandle:
        """The door to a store; creates nothing until it is used."""
        return StoreHandle(self, store_id)

    async def drain(self) -> None:
        """Take no more commands, and wait until what is in the mailboxes has been carried out and the actors ended."""
        self._draining = True
        for actor in self._actors.values():
            actor.retire()
        while self._actors:
            await self._none_left.park()

    @property
    def active(self) -> int:
        """Stores that have an actor now."""
        return len(self._actors)

    def fenced(self) -> list[StoreId]:
        """Stores that are refused because they kept crashing."""
        now_s = trio.current_time()
        return [store_id for store_id, history in self._crashes.items() if history.fenced(now_s)]

    def statistics(self) -> RegistryStatistics:
        """What the actors are at now; costs a microsecond for each of them."""
        queued = [actor.queued for actor in self._actors.values()]
        followers = [len(actor.followers) for actor in self._actors.values()]
        busy = sum(map(bool, queued))
        followed = sum(bool(of_one and not waiting) for of_one, waiting in zip(followers, queued, strict=True))
        return RegistryStatistics(
            busy=busy,
            followed=followed,
            quiet=len(queued) - busy - followed,
            fenced=len(self.fenced()),
            queued=sum(queued),
            queued_longest=max(queued, default=0),
            followers=sum(followers),
        )

    # --- for news from other servers -------------------------------------------------------------------------------

    def running_stores(self) -> list[StoreId]:
        """Stores that have an actor now."""
        return list(self._actors)

    def tell(self, store_id: StoreId, found: LogState | None) -> bool:
        """Tell a store's actor, if one runs, what the database holds; None: no such store.

        False: tell it again, its mailbox is full.
        """
        actor = self._actors.get(store_id)
        return actor is None or actor.tell(found)

    # --- for handles -----------------------------------------------------------------------------------------------

    def running(self, store_id: StoreId) -> StoreActor | None:
        """The store's actor if one runs now."""
        return self._actors.get(store_id)

    def actor(self, store_id: StoreId) -> StoreActor | Refusal:
        """The store's running actor, started if need be; a refusal when the store is fenced or the server drains."""
        if self._draining:
            return DRAINING
        actor = self._actors.get(store_id)
        if actor is not None:
            return actor
        history = self._crashes.get(store_id)
        if history is not None and history.fenced(trio.current_time()):
            return FENCED
        if self._tasks is None:
            return FAILED
        actor = StoreActor(
            store_id, self.writer, self.readers, self._counters, self._quota, changed=self.changed, turns=self._turns
        )
        self._actors[store_id] = actor
        self._counters.actors_started += 1
        self._counters.actors_restarted += history is not None
        self._tasks.start(self._run, actor)
        return actor

    # --- the life of an actor --------------------------------------------------------------------------------------

    async def _run(self, actor: StoreActor) -> None:
        """One generation of a store's actor, from its back-off to its end."""
        store_id = actor.store_id
        history = self._crashes.get(store_id)
        parting = DRAINING
        try:
            if history is not None:
                await trio.sleep(history.backoff_s(trio.current_time()))
            await actor.run()
        except Exception as error:
            self._counters.actors_crashed += 1
            self._crashes.setdefault(store_id, CrashHistory()).note(trio.current_time())
            parting = FAILED
            _log.error("store actor crashed", store=store_id, exc_info=error)
        finally:
            self._forget(actor)
            actor.farewell(parting)

    def _forget(self, actor: StoreActor) -> None:
        """Take an actor out of the table, unless a newer generation already stands there."""
        if self._actors.get(actor.store_id) is actor:
            del self._actors[actor.store_id]
        if not self._actors:
            self._none_left.unpark_all()

    async def _sweep(self) -> None:
        """Let stores go dormant that nobody needs (invariant 10). One timer for all of them."""
        while True:
            await trio.sleep(self._dormant_after_s / 2)
            self.retire_quiet()

    def retire_quiet(self) -> None:
        """Retire the actors that have been quiet for the dormancy time."""
        now_s = trio.current_time()
        for store_id, actor in tuple(self._actors.items()):
            if actor.idle and now_s - actor.last_active_s >= self._dormant_after_s:
                del self._actors[store_id]
                actor.retire()
        for store_id, history in tuple(self._crashes.items()):
            if not history.recent(now_s):
                del self._crashes[store_id]
