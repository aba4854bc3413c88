"""Keeps lines that repeat from filling the log, and the disk behind it.

A client that is refused comes back; one that does it on purpose comes back ten thousand times. Of each thing that one
source does, the first lines of a minute are written in full, the others are counted and told in one line.
"""

from typing import Final

import attrs
import trio

from livesync_trio.limits import REPEATED_LINES_MAX, REPEATED_LINES_PERIOD_S
from livesync_trio.telemetry.logs import get_logger

REPEATED_SOURCES_MAX: Final = 10_000
"""Addresses whose lines are counted at the same time, some 3 MB; beyond that they are counted together."""

_log = get_logger("telemetry")

EVERYBODY_ELSE = "everybody else"
"""Stands for all sources that came when too many were remembered already."""


@attrs.define
class _Period:
    """What one source did since `began_s`."""

    began_s: float
    lines: int = 0


class Flood:
    """Who has filled the log with what, lately. Used in the Trio thread."""

    def __init__(self) -> None:
        self._periods: dict[tuple[str, str], _Period] = {}

    def allows(self, source: str, what: str, now_s: float) -> bool:
        """Whether a line is to be written.

        Args:
            source: who is the cause: an address, a store.
            what: which kind of line it is.
            now_s: Trio's clock.
        """
        key = (source, what)
        period = self._periods.get(key)
        if period is None:
            if len(self._periods) >= REPEATED_SOURCES_MAX:
                key = (EVERYBODY_ELSE, what)
            period = self._periods.setdefault(key, _Period(now_s))
        elif now_s - period.began_s >= REPEATED_LINES_PERIOD_S:
            self._tell(key, period)
            period = self._periods[key] = _Period(now_s)
        period.lines += 1
        return period.lines <= REPEATED_LINES_MAX

    async def watch(self) -> None:
        """Tell what was left out, when its minute is over. Runs until cancelled, and then tells the rest."""
        try:
            while True:
                await trio.sleep(REPEATED_LINES_PERIOD_S / 4)
                self._sweep(trio.current_time())
        finally:
            self._sweep(float("inf"))

    def _sweep(self, now_s: float) -> None:
        for key, period in tuple(self._periods.items()):
            if now_s - period.began_s >= REPEATED_LINES_PERIOD_S:
                del self._periods[key]
                self._tell(key, period)

    def _tell(self, key: tuple[str, str], period: _Period) -> None:
        left_out = period.lines - REPEATED_LINES_MAX
        if left_out > 0:
            source, what = key
            _log.warning(
                "lines left out", source=source, what=what, left_out=left_out, period_s=REPEATED_LINES_PERIOD_S
            )
