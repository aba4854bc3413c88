"""A turn: a moment in which much happens at once in the Trio thread, and at whose end it is passed on together.

Made by whoever hears for all sockets (`transport.arrivals`). What gathers work in it (jobs for the writer thread, bytes
for peers) does it once at the end instead of once for each message.
"""

from collections.abc import Callable

import trio


class Turns:
    """The turns of a server."""

    __slots__ = ("_at_end", "_clock", "now_s", "under_way")

    def __init__(self) -> None:
        self._at_end: list[Callable[[], None]] = []
        self._clock: trio.abc.Clock | None = None
        self.under_way = False
        """Whether what is gathered now is passed on soon, at the end of this turn."""
        self.now_s = 0.0
        """When this turn began, on Trio's clock; 0 between turns. Asking Trio for each message takes three calls."""

    def at_end(self, function: Callable[[], None]) -> None:
        """Have a function called at the end of each turn, in the order asked for. It must neither wait nor raise."""
        self._at_end.append(function)

    def begin(self) -> None:
        """A turn begins."""
        if self._clock is None:
            self._clock = trio.lowlevel.current_clock()
        self.now_s = self._clock.current_time()
        self.under_way = True

    def end(self) -> None:
        """It ends: what was gathered is passed on."""
        self.under_way = False
        self.now_s = 0.0
        for function in self._at_end:
            function()
