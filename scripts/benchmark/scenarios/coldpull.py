"""A new client, and another, and another, pulls a whole log."""

from typing import Final

from scripts.benchmark.clients import Puller
from scripts.benchmark.measuring import Figures, Ground, window
from scripts.benchmark.scenarios.pushing import fill
from scripts.benchmark.sockets import BenchError, Loop

LOG_EVENTS: Final = 20_000
"""Length of the log (issue 5)."""


def coldpull(ground: Ground) -> Figures:
    """A new client pulls 20,000 events; then the next one does."""
    return pulling(ground, ground.scaled(LOG_EVENTS))


def pulling(ground: Ground, events: int) -> Figures:
    """Pull a log of any length, again and again."""
    loop = Loop()
    fill(loop, ground.address, "cold", events)
    pulls = _Pulls(ground, loop, events)
    figures = window(ground, loop, "events", pulls.events, after_each=pulls.go_on)
    loop.run_until(lambda: pulls.current.done, "the last pull")
    pulls.check()
    figures.more["log_events"] = events
    return figures


class _Pulls:
    """One pull after the other, each by a client of its own."""

    def __init__(self, ground: Ground, loop: Loop, events: int) -> None:
        self._ground, self._loop, self._length = ground, loop, events
        self._before = 0
        self._open()

    def _open(self) -> None:
        self.current = Puller(self._ground.address, "cold")
        self._loop.add(self.current)

    def events(self) -> int:
        """Events that have come so far, in all pulls."""
        return self._before + self.current.events

    def go_on(self) -> None:
        """Begin the next pull when the present one is done."""
        if self.current.done:
            self.check()
            self._before += self.current.events
            self._loop.drop(self.current)
            self._open()

    def check(self) -> None:
        """A pull must bring the whole log."""
        if self.current.events != self._length:
            raise BenchError(f"a pull of {self._length} events brought {self.current.events}")
