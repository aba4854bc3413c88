"""A store: what a program on Trio has of its log, its tables and its server."""

import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from livesync_trio.client import Backend, open_backend
from livesync_trio.livestore.datafile import DataFile, Durability
from livesync_trio.livestore.events import Bindings, Confirmed, LogEvent, SyncStatus
from livesync_trio.livestore.faults import LogReplaced, StoreClosed, StoreError, StoreStopped
from livesync_trio.livestore.notices import Live, Notices
from livesync_trio.livestore.replica import Replica, new_name
from livesync_trio.livestore.schema import Schema
from livesync_trio.livestore.syncing import OnReset, Syncing
from livesync_trio.livestore.tables import OnUnknown, Progress, Tables, events_after, no_progress
from livesync_trio.supervision import open_tasks

_log: Final = logging.getLogger(__name__)


class Store:
    """An open store. Made by `open_store`; for tasks of the Trio program that opened it.

    What does not wait is a plain method: a task switch never lies between a commit and what it does to the tables.
    """

    def __init__(self, file: DataFile, schema: Schema, replica: Replica) -> None:
        self._file, self._schema, self._replica = file, schema, replica
        self._notices = Notices()
        self._syncing: Syncing | None = None
        self._end: StoreError | None = None

    @property
    def client_id(self) -> str:
        """How this client is called in the log."""
        return str(self._file.client_id)

    @property
    def sync_status(self) -> SyncStatus:
        """Where the store stands with its server."""
        replica, syncing = self._replica, self._syncing
        return SyncStatus(
            head=replica.head,
            upstream_head=replica.upstream_head,
            pending=replica.pending,
            connected=syncing is not None and syncing.connected,
            caught_up=syncing is not None and syncing.caught_up,
            last_error=str(self._end) if self._end else syncing.last_error if syncing else None,
        )

    def commit(self, *events: object) -> None:
        """Append events to the log and apply them to the tables, all or none; they are pushed in the background.

        Durable when it returns (`durability`). Never waits for the server.

        Raises:
            BadEvent: one is not declared, or a value is not of its declared type.
            EventFailed: one cannot be applied.
            StoreStopped, StoreClosed: the store takes no more.
        """
        self._check_open()
        self._replica.commit(events)
        self._tell()

    def query(self, sql: str, bindings: Bindings = ()) -> list[dict[str, Any]]:
        """Rows of a SELECT on the tables, or on `livesync_log`; also of a store that has stopped.

        Raises:
            BadQuery: it does more than read, or cannot be run.
            StoreClosed: the store is closed.
        """
        if isinstance(self._end, StoreClosed):
            raise self._end
        return self._file.query(sql, bindings)

    def watch(self, sql: str, bindings: Bindings = ()) -> Live[list[dict[str, Any]]]:
        """The rows of a query now, and again whenever a table that it reads has changed; ends when the store is closed.

        Who takes them slowly gets the newest.

        Raises:
            BadQuery: it does more than read, or cannot be run.
            StoreStopped (from the iteration): the store has stopped.
        """
        watcher = self._notices.watcher(self._file.statements.query(sql).reads)

        async def take() -> list[dict[str, Any]] | None:
            await self._notices.until(lambda: watcher.is_stale or self._end is not None)
            if self._is_closed():
                return None
            watcher.is_stale = False
            return self._file.query(sql, bindings)

        return Live(take)

    def events(self, after: int = 0) -> Live[Confirmed]:
        """Events that the server has, in the order of the log, then those to come; ends when the store is closed.

        Args:
            after: number of the last event that you know. These numbers are final, unless the store is reset.

        Raises (from the iteration):
            LogReplaced: the log was replaced; its numbers have begun again.
            StoreStopped: the store has stopped.
        """
        replica, logs, seq_num = self._replica, self._replica.logs, after
        reading: Iterator[LogEvent] = iter(())

        def is_news() -> bool:
            return replica.upstream_head > seq_num or replica.logs != logs or self._end is not None

        async def take() -> Confirmed | None:
            nonlocal seq_num, reading
            while True:
                if replica.logs != logs:
                    raise LogReplaced("the log was replaced; its numbers have begun again.")
                if self._is_closed():
                    return None
                event = next(reading, None)
                if event is not None:
                    seq_num = event.seq_num
                    decoded = self._schema.decode(event.name, event.args)
                    return Confirmed(seq_num, event.name, decoded, event.args, event.client_id)
                await self._notices.until(is_news)
                reading = events_after(self._file, seq_num, replica.upstream_head)

        return Live(take)

    async def synced(self) -> None:
        """Wait until the server has acknowledged all commits, and all that it had when we connected is applied.

        Raises:
            StoreStopped, StoreClosed: that will not happen any more.
            StoreError: the store was opened without a server.
        """
        syncing = self._syncing
        if syncing is None:
            raise StoreError("the store was opened without a server: give `open_store` a URL.")
        await self._notices.until(lambda: self._end is not None or (syncing.caught_up and not self._replica.pending))
        self._check_open()
        await trio.lowlevel.checkpoint()

    # --- for `open_store` -------------------------------------------------------------------------------------------

    def attach(self, backend: Backend, on_reset: OnReset) -> None:
        """There is a server."""
        self._syncing = Syncing(backend, self._replica, on_reset, self._tell)

    async def sync(self) -> None:
        """Sync until cancelled, or until the store must stop."""
        syncing = self._syncing
        assert syncing is not None
        async with open_tasks("livestore sync") as tasks:
            tasks.start(self._stopping, tasks.cancel, syncing.pull)
            tasks.start(self._stopping, tasks.cancel, lambda: syncing.push(self._notices))

    def close(self) -> None:
        """Take no more, and let everybody go who waits."""
        if not isinstance(self._end, StoreClosed):
            self._end = StoreClosed("the store is closed.")
            self._notices.tell()

    async def _stopping(self, others: Callable[[], None], run: Callable[[], Awaitable[None]]) -> None:
        """Run a task; an error stops the store, which tells everybody who uses it."""
        try:
            await run()
        except Exception as error:
            _log.error("the store %s has stopped: %s", self._file.store_id, error)
            self._end = StoreStopped(error)
            self._notices.tell()
            others()

    def _tell(self) -> None:
        self._notices.tell(self._replica.take_changed())

    def _is_closed(self) -> bool:
        """Raises StoreStopped when it has stopped."""
        if isinstance(self._end, StoreStopped):
            raise self._end
        return self._end is not None

    def _check_open(self) -> None:
        if self._end is not None:
            raise self._end


@attrs.frozen(kw_only=True)
class Options:
    """How a store is opened.

    Attributes:
        store_id: the store.
        url: of the server, as a LiveStore application has it; None for a store that stays on this machine.
        payload: what the server asks for, such as a token: a value, or a function (plain or async) that gives one and
            is called at each attempt to connect.
        backend: instead of a URL, an `open_backend(…)` with whatever arguments.
        client_id: how this client is called in the log, if the file is new; made up when None.
        on_unknown: what happens with events for which nothing is declared: `ignore`, `warn`, `fail`, or a function.
        on_reset: what happens when the server's store was reset: `stop`, or `restart` with its new log; what is
            pending is kept in both cases.
        durability: what a commit survives when it returns: the death of the `process`, or a `power` cut as well, which
            takes a wait for the disk.
        rebuild: make the tables anew from the log, even if their declarations have not changed.
        progress: told how that goes, from another thread; None for a bar if standard error is a terminal.
    """

    store_id: str
    url: str | None = None
    payload: Any = None
    backend: AbstractAsyncContextManager[Backend] | None = None
    client_id: str | None = None
    on_unknown: OnUnknown = "warn"
    on_reset: OnReset = "stop"
    durability: Durability = "process"
    rebuild: bool = False
    progress: Progress | None = None


@asynccontextmanager
async def open_store(path: str | Path, schema: Schema, **options: Any) -> AsyncIterator[Store]:
    """Open a store for the length of a block. Never waits for the server.

    Args:
        path: its file, made if there is none; `:memory:` for a store that is gone afterwards.
        schema: tables, events and materializers.
        options: as `Options`; `store_id` must be given.

    Raises:
        StoreInUse: the file is open already.
        WrongFile: it is not the file of this store.
        BadSchema: the tables cannot be made.
        EventFailed, UnknownEvent: an event of the log cannot be applied to tables that are made anew.
    """
    chosen = Options(**options)
    failure: BaseException | None = None
    async with AsyncExitStack() as stack:
        client_id = chosen.client_id or new_name()
        file = stack.enter_context(DataFile(path, chosen.store_id, client_id, chosen.durability))
        replica = Replica(file, schema, Tables(file, schema, chosen.on_unknown))
        progress = chosen.progress or (_bar() if sys.stderr.isatty() else no_progress)
        await trio.to_thread.run_sync(_open_tables, replica, chosen.rebuild, progress)
        store = Store(file, schema, replica)
        stack.callback(store.close)
        opening = chosen.backend
        if opening is None and chosen.url is not None:
            opening = open_backend(chosen.url, store_id=chosen.store_id, payload=chosen.payload)
        if opening is None:
            yield store
            return
        backend = await stack.enter_async_context(opening)
        store.attach(backend, chosen.on_reset)
        async with open_tasks("livestore") as tasks:
            tasks.start(store.sync)
            try:
                yield store
            except (Exception, BaseExceptionGroup) as error:  # the block's own, and not a crash in here
                failure = error
            finally:
                store.close()
                tasks.cancel()
    if failure is not None:
        raise failure


def _open_tables(replica: Replica, rebuild: bool, progress: Progress) -> None:
    """In a thread: it may take long, and the program may give up meanwhile."""

    def tell(done: int, total: int) -> None:
        trio.from_thread.check_cancelled()
        progress(done, total)

    replica.open_tables(tell, rebuild=rebuild)


def _bar() -> Progress:
    """A bar on standard error, drawn when there is something to wait for."""
    from rich.console import Console  # noqa: PLC0415 -- only where somebody looks
    from rich.progress import Progress as Bar  # noqa: PLC0415

    bar = Bar(console=Console(stderr=True), transient=True)
    task = bar.add_task("making the tables anew", start=False)

    def draw(done: int, total: int) -> None:
        if done < total:
            bar.start()
        bar.update(task, completed=done, total=total)
        if done == total:
            bar.stop()

    return draw
