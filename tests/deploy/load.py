"""Real clients at work while servers come and go: each writes as LiveStore's leader does, and counts its answers."""

from __future__ import annotations

import threading
import time

from tests.conformance.clients import Follower, SyncClient
from tests.conformance.events import chain
from tests.conformance.node_driver import ClientError

BATCH = 3
PATIENCE_S = 20.0
"""The longest that a push may wait while servers are replaced. The clients pause for 1, 2, 4 s between attempts."""

RECONNECT = {"IsOfflineError", "UnknownError"}
"""What the real clients call a connection that is lost, or a server that asks them to come back."""


class Writer:
    """Pushes batch after batch to a store of its own until told to stop; a second client of the store follows live."""

    def __init__(self, client: SyncClient, follower: Follower) -> None:
        self.client = client
        self.follower = follower
        self.acknowledged = 0
        self.failures: list[ClientError] = []
        self.longest_wait_s = 0.0
        self._stop = threading.Event()
        self._progress = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._crash: BaseException | None = None
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                before_s = time.monotonic()
                self._push_until_acknowledged()
                self.longest_wait_s = max(self.longest_wait_s, time.monotonic() - before_s)
                with self._progress:
                    self.acknowledged += BATCH
                    self._progress.notify_all()
        except BaseException as error:
            self._crash = error

    def _push_until_acknowledged(self) -> None:
        while True:
            try:
                self.client.push(chain(self.acknowledged + 1, BATCH))
                return
            except ClientError as failure:
                if failure.tag == "ServerAheadError" and failure.detail["minimumExpectedNum"] == self._last:
                    return  # the answer was lost, not the push: the leader recognises its own events on the pull
                if failure.tag not in RECONNECT:
                    raise
                self.failures.append(failure)

    @property
    def _last(self) -> int:
        """Number of the last event of the batch that is being pushed."""
        return self.acknowledged + BATCH

    def goes_on(self, limit_s: float = 40.0) -> None:
        """Wait until something was acknowledged that was pushed after this call."""
        with self._progress:
            wanted = self.acknowledged + 2 * BATCH
            assert self._progress.wait_for(lambda: self.acknowledged >= wanted, limit_s), (self._crash, self.failures)

    def finish(self) -> None:
        """Stop writing; the follower must have got everything that was acknowledged, once and in order."""
        self._stop.set()
        self._thread.join(40)
        assert self._crash is None, self._crash
        assert not self._thread.is_alive()
        assert self.longest_wait_s < PATIENCE_S
        self.follower.wait_for_numbers(range(1, self.acknowledged + 1), 40)
        assert {failure["_tag"] for failure in self.follower.failures} <= {"IsOfflineError"}
