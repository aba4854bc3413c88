"""The open WebSockets of a server: who is connected, who has something to be sent, who has fallen silent, the farewell.

Owns the table of peers, the one task that writes what sockets take at once (decision 0005), the one timer that
watches the silence of all of them, and the few tasks that go on when their peer has left.
"""

from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any, Protocol

import attrs
import trio

from livesync_trio.connection.peer import Peer
from livesync_trio.errors import Kind
from livesync_trio.limits import LIVENESS_SWEEP_S, PROBE_AFTER_S, REMINDER_S
from livesync_trio.supervision import Tasks, open_tasks
from livesync_trio.telemetry import get_logger
from livesync_trio.turns import Turns

_log = get_logger("connection")


class Written(Protocol):
    """Whoever has something to be sent: a peer, or an answer that follows a store (`event_stream`)."""

    @property
    def number(self) -> int | None:
        """Names it in the log."""

    def flush(self) -> None:
        """Write what the socket takes without waiting."""

    def cut(self) -> None:
        """End it at once."""


class Peers:
    """The table of connected peers."""

    def __init__(self, idle_limit_s: float, turns: Turns | None = None) -> None:
        """Nothing is watched before `watch`.

        Args:
            idle_limit_s: silence after which a peer is taken for dead.
            turns: at the end of each of which is written what it brought; None where there are none.
        """
        self._turns = turns or Turns()
        self._turns.at_end(self._flush_at_end)
        self._idle_limit_s = idle_limit_s
        self._probe_after_s = min(PROBE_AFTER_S, idle_limit_s / 2)  # so that nobody is closed unasked
        self._peers: dict[Peer, None] = {}  # in the order of arrival, so that a test's seed decides everything
        self._none_left = trio.lowlevel.ParkingLot()
        self._with_work: dict[Written, None] = {}
        self._work_came = trio.lowlevel.ParkingLot()  # the flushing task, while there is nothing to flush
        self._to_remind: deque[tuple[float, Peer]] = deque()  # when, on Trio's clock; all wait equally long
        self._reminder_came = trio.lowlevel.ParkingLot()
        self._tasks: Tasks | None = None
        self._outliving = 0

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[Peer]:
        return iter(tuple(self._peers))

    async def run(self, peer: Peer) -> None:
        """Serve a peer until it goes."""
        self._peers[peer] = None
        peer.outbox.on_work = partial(self.note_work, peer)
        peer.start_outliving = self._start_outliving
        peer.remind = partial(self._note_reminder, peer)
        try:
            await peer.run()
        finally:
            peer.let_go()
            del self._peers[peer]
            _log.info(
                "disconnected",
                connection=peer.number,
                store=peer.label,
                peer=peer.client.context.client_address,
                generation=peer.generation,
                duration_s=round(trio.current_time() - peer.since_s, 3),
            )
            self._none_left.unpark_all()

    def _start_outliving(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task that its peer does not take with it: a push counts, whoever left before its answer."""
        if self._tasks is not None:
            self._outliving += 1
            self._tasks.start(self._outlive, work)

    async def _outlive(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except Exception as error:
            _log.error("what a connection left behind crashed", exc_info=error)
        finally:
            self._outliving -= 1
            self._none_left.unpark_all()

    async def watch(self) -> None:
        """Write for the peers, and watch their silence. Runs until cancelled; without it nothing is sent."""
        async with open_tasks("peers") as tasks:
            self._tasks = tasks
            tasks.start(self._flush)
            tasks.start(self._remind)
            try:
                await self._watch_silence()
            finally:
                self._tasks = None
        if tasks.crash is not None:
            raise tasks.crash

    def note_work(self, peer: Written) -> None:
        """Write for it in the next turn."""
        self._with_work[peer] = None
        if not self._turns.under_way and self._work_came:
            self._work_came.unpark_all()

    async def _flush(self) -> None:
        """Write, turn by turn, what all peers together have to be sent: one task switch for many of them."""
        while True:
            if not self._with_work:
                await self._work_came.park()
            self._flush_once()

    def _flush_at_end(self) -> None:
        """Of a turn, which is sooner than the task comes to it."""
        if self._with_work and self._tasks is not None:
            self._flush_once()

    def _flush_once(self) -> None:
        peers, self._with_work = self._with_work, {}
        for peer in peers:
            try:
                peer.flush()
            except Exception as error:
                _log.error("connection crashed", connection=peer.number, exc_info=error)
                peer.cut()

    def _note_reminder(self, peer: Peer) -> None:
        self._to_remind.append((trio.current_time() + REMINDER_S, peer))
        self._reminder_came.unpark_all()

    async def _remind(self) -> None:
        """Remind peers of what they wanted to do a moment later: one task for all of them."""
        while True:
            if not self._to_remind:
                await self._reminder_came.park()
            due_s, peer = self._to_remind.popleft()
            await trio.sleep_until(due_s)
            if peer in self._peers:
                peer.on_reminder()

    async def _watch_silence(self) -> None:
        """Probe peers that have fallen silent and close those that stay so."""
        while True:
            await trio.sleep(min(LIVENESS_SWEEP_S, self._idle_limit_s / 4))
            now_s = trio.current_time()
            for peer in tuple(self._peers):
                if peer.client.expired(now_s):
                    peer.on_expired()
                if peer.overdue:
                    peer.close(Kind.STALLED)
                    peer.cut()
                    continue
                silence_s = now_s - peer.silent_since_s
                if silence_s >= self._idle_limit_s:
                    peer.close(Kind.SILENT)
                elif silence_s >= self._probe_after_s:
                    peer.probe()

    async def say_goodbye(self) -> None:
        """Close every peer with 1012 after what is queued for it, and wait until they and what they left are gone."""
        for peer in tuple(self._peers):
            peer.close(Kind.SERVICE_RESTART)
        while self._peers or self._outliving:
            await self._none_left.park()


@attrs.define
class PeersStatistics:
    """The connections of a moment.

    Attributes:
        by_generation: open WebSockets by client generation, `unknown` until the first request says which.
        outbox_bytes: queued for all peers together.
        outbox_longest_bytes: queued for the one with most.
        pulls_following: live pulls at the head of their store.
        pulls_reading: pulls that still read history.
        lag_events: by how many numbers the pull that is furthest behind is behind.
    """

    by_generation: Counter[str] = attrs.field(factory=Counter)
    outbox_bytes: int = 0
    outbox_longest_bytes: int = 0
    pulls_following: int = 0
    pulls_reading: int = 0
    lag_events: int = 0


def statistics(peers: Iterable[Peer]) -> PeersStatistics:
    """Look at every peer; costs a few microseconds for each of them."""
    found = PeersStatistics()
    for peer in peers:
        found.by_generation[UNKNOWN if peer.generation is None else str(peer.generation)] += 1
        queued_bytes = peer.outbox.queued_bytes
        found.outbox_bytes += queued_bytes
        found.outbox_longest_bytes = max(found.outbox_longest_bytes, queued_bytes)
        for pull in peer.pulls():
            if pull.following:
                found.pulls_following += 1
            else:
                found.pulls_reading += 1
                found.lag_events = max(found.lag_events, pull.lag)
    return found


UNKNOWN = "unknown"
"""Generation of a client that has not asked for anything."""
