"""The thread that stores what was received, and the queue between it and the one that receives.

A database of ours that is busy for minutes holds up this thread only. What it cannot take is left in the source.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import attrs

from livesync_trio.feed.history.state import State
from livesync_trio.feed.history.writing import Writer
from livesync_trio.feed.limits import FEED_CHECK_S, FEED_LOOK_UP_S
from livesync_trio.feed.recording import Recorder
from livesync_trio.feed.stream import Received

FEED_CONFIRM_S: Final = 5.0
"""How often it is stored that there was nothing for us in the log, so that the source may forget it."""

FEED_MESSAGE_BYTES: Final = 200
FEED_QUEUE_BYTES: Final = 8 * 1024 * 1024
"""Bytes of the log that are received before they are stored; then nothing more is read from the source. A message
counts for its bytes, and for what it costs besides."""


@attrs.frozen
class Retention:
    """What is kept at most.

    Attributes:
        age_s: how long the history goes back, in seconds.
        max_bytes: and how many bytes of changes.
        max_lag_bytes: of its log, that the source keeps for us before we give its slot up; 0 for no limit of ours.
        compact_s: of changes that are older, in seconds, the last of each row is kept only; 0 for all of them.
    """

    age_s: float
    max_bytes: int
    max_lag_bytes: int = 0
    compact_s: float = 0.0


class Storing:
    """The thread, and the queue before it.

    Attributes:
        confirmed_lsn: up to here the source may forget its log.
        tables: what the tables are by now.
        error: what ended the thread; None while it runs.
    """

    def __init__(
        self, writer: Writer, recorder: Recorder, retention: Retention, on_state: Callable[[State], None]
    ) -> None:
        self._writer = writer
        self._recorder = recorder
        self._retention = retention
        self._on_state = on_state
        self._queue: deque[Received] = deque()
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._forgot_s = -math.inf
        self._noted_s = 0.0
        self.confirmed_lsn = writer.state.confirmed_lsn
        self.tables = writer.state.tables
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="livesync feed storing", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End it, and wait for what it is storing."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    def has_room(self) -> bool:
        """Whether more may be received; waits a moment for it."""
        with self._changed:
            if self._queued_bytes >= FEED_QUEUE_BYTES and not self._stopping:
                self._changed.wait(FEED_LOOK_UP_S)
            return self._queued_bytes < FEED_QUEUE_BYTES

    def put(self, received: Received) -> None:
        """Let it be stored, behind what came before."""
        with self._changed:
            self._queue.append(received)
            self._queued_bytes += FEED_MESSAGE_BYTES + len(received.data or b"")
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except Exception as error:
            self.error = error
            self._writer.rollback()

    def _turn(self) -> bool:
        """Take what there is, and store it. Gives whether to go on."""
        with self._changed:
            if not self._queue and not self._stopping:
                self._changed.wait(FEED_LOOK_UP_S)
            taken, self._queue = self._queue, deque()
            self._queued_bytes = 0
            self._changed.notify_all()
            if self._stopping:
                return False
        for received in taken:
            if received.data is not None:
                self._became(self._recorder.take(received.data))
                if self._recorder.full:
                    self._became(self._recorder.store())
            elif self._recorder.idle and time.monotonic() - self._noted_s > FEED_CONFIRM_S:
                self._noted_s = time.monotonic()
                self._became(self._recorder.confirm(received.lsn))
        self._became(self._recorder.store())
        if self._recorder.idle and time.monotonic() - self._forgot_s > FEED_CHECK_S:
            if not self._let_go():
                self._forgot_s = time.monotonic()
            self._on_state(self._writer.state)
        return True

    def _let_go(self) -> bool:
        """One step of letting go of what is kept no more. Gives whether there is more."""
        now_us, retention = time.time_ns() // 1000, self._retention
        if self._writer.forget(now_us - int(retention.age_s * 1e6), retention.max_bytes):
            return True
        return retention.compact_s > 0 and self._writer.compact(now_us - int(retention.compact_s * 1e6))

    def _became(self, state: State | None) -> None:
        if state is not None:
            self.confirmed_lsn = state.confirmed_lsn
            self.tables = state.tables
            self._on_state(state)
