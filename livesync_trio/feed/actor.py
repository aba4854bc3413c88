"""The feed of one source: knows the head, wakes who follows, and reads the history for all of them.

The reader thread tells it of every commit; on a server that does not read it looks into the database itself. Followers
that stand at the same place share one reading of what comes behind it.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, Protocol, TypeVar

import attrs
import psycopg
import trio

from livesync_trio.errors import StorageUnavailable
from livesync_trio.feed.history.databases import Database
from livesync_trio.feed.history.reading import ChangePage, Reader
from livesync_trio.feed.history.state import NOTHING, State
from livesync_trio.feed.limits import FEED_PAGE_BYTES, FEED_PAGE_CHANGES, FEED_PAGES_KEPT
from livesync_trio.feed.position import Position
from livesync_trio.feed.reader import FeedReader, Status
from livesync_trio.feed.source import Names, connect, leave_mark
from livesync_trio.feed.storing import Retention
from livesync_trio.feed.tables import Relation
from livesync_trio.telemetry import get_logger

FEED_STOP_S: Final = 10.0
"""How long the end of the server waits for what the feed is storing."""

FEED_READER_THREADS: Final = 4
"""Threads in which the history is read for those who follow."""

FEED_LOOK_STANDBY_S: Final = 0.25
"""How often a server that does not read the source looks whether the history has grown."""

FEED_PROBE_S: Final = 30.0
"""How often something is written to the source, to see that it arrives here."""

FEED_PROBE_LATE_S: Final = 120.0
"""Since when nothing has arrived, for the feed to be called late."""

_log = get_logger("feed")
T = TypeVar("T")


def _progress(state: State) -> tuple[int, ...]:
    return state.generation, state.head_lsn, state.confirmed_lsn, state.floor_lsn, state.compacted_lsn


class Follower(Protocol):
    """A client that is served: a `peer.FeedPeer`."""

    def look_at_rights(self) -> None:
        """The rules may have changed."""


@attrs.define(eq=False)
class _Shared:
    """A page that is being read, or was; several followers wait for one reading."""

    done: trio.Event = attrs.field(factory=trio.Event)
    page: ChangePage | None = None
    error: Exception | None = None


class Feed:
    """One source, for any number of followers."""

    def __init__(self, names: Names, database: Database, retention: Retention) -> None:
        """Nothing is started before `run`. `database` is open."""
        self.names = names
        self._database = database
        self.state = NOTHING
        """As far as it is known here."""
        self.status = Status()
        self.followers: set[Follower] = set()
        """Those who are served on this server."""
        self._arrived_s: float | None = None  # when the last mark was written that has arrived
        self._moved = trio.lowlevel.ParkingLot()
        self._limiter = trio.CapacityLimiter(FEED_READER_THREADS)
        self._idle: list[Reader] = []
        self._pages: dict[tuple[str, Position, int], _Shared] = {}
        self._relations: dict[tuple[str, int], Relation] = {}
        self._token: trio.lowlevel.TrioToken | None = None
        self._reader = FeedReader(
            names,
            database,
            retention,
            on_state=partial(self._hear, self._became),
            on_status=partial(self._hear, self._told),
        )

    # --- life ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow the source until cancelled."""
        self._token = trio.lowlevel.current_trio_token()
        self._reader.start()
        try:
            while True:
                await trio.sleep(FEED_LOOK_STANDBY_S)
                if self.status.phase != "following":
                    with suppress(StorageUnavailable):
                        await self.look()
        finally:
            self._reader.stop()
            with trio.CancelScope(shield=True):
                ended = await trio.to_thread.run_sync(self._reader.join, FEED_STOP_S)
            if not ended:
                _log.warning("the feed's reader is left behind", limit_s=FEED_STOP_S)
            while self._idle:
                self._idle.pop().close()

    def read_again(self) -> None:
        """Have all rows compared with the source."""
        self._reader.read_again()

    def _hear(self, what: Callable[[T], None], news: T) -> None:
        """Called in the reader's threads."""
        if self._token is not None:
            try:
                self._token.run_sync_soon(what, news)
            except trio.RunFinishedError:
                self._token = None

    def _told(self, status: Status) -> None:
        self.status = status

    def _became(self, state: State) -> None:
        known = self.state
        if _progress(state) > _progress(known) or (state.epoch != known.epoch and state.generation >= known.generation):
            self.state = state
            self._moved.unpark_all()

    async def look(self) -> State:
        """The state as it is in the database. Raises StorageUnavailable."""
        self._became(await self.ask(lambda reader: reader.state()))
        return self.state

    # --- for followers ---------------------------------------------------------------------------------------------

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """Put a question to the history, in a thread; cancellation waits for it. Raises what the question raises."""

        def put() -> T:
            try:
                reader = self._idle.pop()
            except IndexError:
                reader = Reader(self._database)
            try:
                return question(reader)
            finally:
                self._idle.append(reader)

        return await trio.to_thread.run_sync(put, limiter=self._limiter)

    async def until(self, condition: Callable[[State], bool]) -> State:
        """Wait until the history has come so far."""
        while not condition(self.state):
            await self._moved.park()
        return self.state

    async def changes(self, epoch: str, after: Position, up_to_lsn: int) -> ChangePage:
        """A page of changes behind a position. Raises TooOld, StorageUnavailable."""
        while (page := await self._page(epoch, after, up_to_lsn)) is None:
            pass  # whoever was reading it has gone
        return page

    async def _page(self, epoch: str, after: Position, up_to_lsn: int) -> ChangePage | None:
        """The same; None when it was to be read by somebody who was cancelled."""
        key = (epoch, after, up_to_lsn)
        shared = self._pages.get(key)
        if shared is None:
            shared = self._pages[key] = _Shared()
            while len(self._pages) > FEED_PAGES_KEPT:
                del self._pages[next(iter(self._pages))]
            try:
                shared.page = await self.ask(
                    lambda reader: reader.changes(epoch, after, up_to_lsn, FEED_PAGE_CHANGES, FEED_PAGE_BYTES)
                )
            except Exception as error:
                shared.error = error
            finally:
                if shared.page is None:
                    self._pages.pop(key, None)
                shared.done.set()
        await shared.done.wait()
        if shared.error is not None:
            raise shared.error
        return shared.page

    async def relation(self, epoch: str, version: int) -> Relation:
        """A version of a table."""
        found = self._relations.get((epoch, version))
        if found is None:
            found = self._relations[epoch, version] = await self.ask(lambda reader: reader.relation(version))
        return found

    # --- barrier ---------------------------------------------------------------------------------------------------

    async def barrier(self, lsn: int | None = None) -> int:
        """Wait until everything is stored that was committed before the call, or up to `lsn`. Gives the place.

        Raises:
            psycopg.Error: the source cannot be reached.
        """
        wanted = await trio.to_thread.run_sync(self._mark) if lsn is None else lsn
        await self.until(lambda state: state.filled and state.confirmed_lsn >= wanted)
        return wanted

    async def probe(self) -> None:
        """Look again and again how long a commit of the source takes to here, until cancelled."""
        await self.until(lambda state: state.filled)
        self._arrived_s = trio.current_time()
        while True:
            written_s = trio.current_time()
            try:
                with trio.move_on_after(FEED_PROBE_S):
                    lsn = await trio.to_thread.run_sync(self._mark, abandon_on_cancel=True)
                    await self.until(lambda state, lsn=lsn: state.confirmed_lsn >= lsn)  # type: ignore[misc]
                    self._arrived_s = written_s
            except psycopg.Error as error:
                _log.debug("the probe could not be written", reason=str(error))
            await trio.sleep_until(written_s + FEED_PROBE_S)

    @property
    def probe_age_s(self) -> float | None:
        """Since when nothing that was written to the source has arrived here; None while it was never read."""
        return None if self._arrived_s is None else trio.current_time() - self._arrived_s

    def _mark(self) -> int:
        with connect(self.names.url) as connection:
            return leave_mark(connection)
