"""The ring behind the plots: each second one row of numbers, read from counters that exist anyway.

Nobody who counts knows of it. Whoever listens is sent the newest row as it comes: it is encoded once for all of them,
and one that is slow misses rows instead of collecting them.
"""

import os
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec
import trio

from livesync_trio.admin.process import COLUMNS, Series
from livesync_trio.admin.server_view import ServerView
from livesync_trio.errors import StorageUnavailable
from livesync_trio.storage.base import Reader, Sized
from livesync_trio.telemetry import recent_lines

STEP_S: Final = 1.0
"""Between two rows."""

MEASURE_S: Final = 30.0
"""Between two questions for the size of a database that is no file."""

ROWS: Final = 900
"""Rows that are kept: 15 minutes, some 0.5 MB."""

GENERATIONS: Final = ("0.3", "0.4", "next", "plain")
"""Those with a column of their own; the others share one."""

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_STATM: Final = Path("/proc/self/statm")
_MS: Final = 1000.0

Row = tuple[float | None, ...]


@attrs.frozen
class _Reading:
    """Counters at one moment."""

    at: float
    counts: tuple[int, ...]
    refusals: Counter[str]
    commits: tuple[int, ...]
    probes: int
    delays_s: float
    cpu_s: float


class Recorder:
    """The ring, and the one task that fills it."""

    def __init__(self, server: ServerView, database: Path | None, now_s: Callable[[], float] = time.time) -> None:
        """Nothing is recorded before `run`.

        Args:
            server: what is looked at.
            database: the file whose size is told; None: it is no file, and the database is asked (`measure`).
            now_s: tells Unix time.
        """
        self.rows: deque[Row] = deque(maxlen=ROWS)
        self.streams = 0
        """Streams that were let in and have not ended."""
        self._refusals: deque[Counter[str]] = deque(maxlen=ROWS)
        self._server = server
        self._database = database
        self._now_s = now_s
        self._asked_bytes: int | None = None
        self._before = self._read()
        self._came = trio.lowlevel.ParkingLot()
        self._message = b""

    async def run(self) -> None:
        """Record until cancelled."""
        while True:
            await trio.sleep(STEP_S)
            self.record()

    async def measure(self) -> None:
        """Ask the database for its size now and then, while somebody looks, until cancelled."""
        while True:
            if self.streams:
                with suppress(StorageUnavailable):
                    self._asked_bytes = await self._server.readers.ask(_database_bytes)
                await trio.sleep(MEASURE_S)
            else:
                self._asked_bytes = None  # it would be old when somebody looks again
                await trio.sleep(STEP_S)

    def record(self) -> None:
        """Take one row, and tell whoever listens."""
        before, self._before = self._before, self._read()
        self.rows.append(self._row(before, self._before))
        self._refusals.append(self._before.refusals - before.refusals)
        if self._came:
            self._message = self._encoded()
            self._came.unpark_all()

    def kept(self, after: float) -> Series:
        """What is kept, behind a moment of Unix time."""
        total: Counter[str] = Counter()
        for refused in self._refusals:
            total.update(refused)
        rows = [row for row in self.rows if (row[0] or 0) > after]
        return Series(step_seconds=STEP_S, columns=COLUMNS, rows=rows, refusals=dict(total.most_common()))

    async def follow(self) -> AsyncGenerator[bytes, None]:
        """Rows as they come, as server-sent events, until the server ends."""
        ending = _Leaving(self._came)
        self._server.tails[ending] = None
        try:
            yield self._encoded()
            while True:
                if not (ending.soon or self._server.ending):
                    await self._came.park()
                if ending.soon or self._server.ending:
                    break
                yield self._message
            yield b"event: end\ndata: {}\n\n"
        finally:
            self._server.tails.pop(ending, None)

    def _encoded(self) -> bytes:
        """The newest row and how the server is, as a message."""
        _, health = self._server.health()
        told: dict[str, Any] = {
            "row": self.rows[-1] if self.rows else None,
            "status": health["status"],
            "connections": health["connections"],
            "storesActive": health["stores_active"],
            "logLines": recent_lines.total,
            "startedAt": round(self._now_s() - (trio.current_time() - self._server.started_s)),
        }
        return b"data: %b\n\n" % msgspec.json.encode(told)

    def _read(self) -> _Reading:
        counters = self._server.counters
        loop, websocket, http = counters.loop_delay_seconds, counters.websocket, counters.http
        return _Reading(
            at=self._now_s(),
            counts=(
                counters.pushes_accepted + counters.appends_accepted,
                counters.events_accepted,
                websocket.received_bytes + http.received_bytes,
                websocket.sent_bytes + http.sent_bytes,
                counters.refusals.total(),
            ),
            refusals=Counter(counters.refusals),
            commits=tuple(counters.commit_seconds.counts),
            probes=sum(loop.counts),
            delays_s=loop.total,
            cpu_s=time.process_time(),
        )

    def _row(self, before: _Reading, now: _Reading) -> Row:
        passed_s = max(now.at - before.at, 0.001)  # a clock may be set
        commits = [new - old for new, old in zip(now.commits, before.commits, strict=True)]
        bounds = self._server.counters.commit_seconds.bounds
        probes = now.probes - before.probes
        peers = Counter(peer.generation for peer in self._server.peers)
        known = [peers[generation] for generation in GENERATIONS]
        return (
            round(now.at, 1),
            *(round((new - old) / passed_s, 1) for new, old in zip(now.counts, before.counts, strict=True)),
            *known,
            peers.total() - sum(known),
            quantile_ms(bounds, commits, 0.5),
            quantile_ms(bounds, commits, 0.99),
            round(_MS * (now.delays_s - before.delays_s) / probes, 2) if probes else None,
            round(100 * (now.cpu_s - before.cpu_s) / passed_s, 1),
            _memory_bytes(),
            self._asked_bytes if self._database is None else _size_of(self._database, ""),
            _size_of(self._database, "-wal"),
        )


class _Leaving:
    """A listener, as the server tells it to leave (`server_view.Ending`)."""

    __slots__ = ("_lot", "soon")

    def __init__(self, lot: trio.lowlevel.ParkingLot) -> None:
        self.soon = False
        self._lot = lot

    def end_soon(self) -> None:
        """Take leave."""
        self.soon = True
        self._lot.unpark_all()


def quantile_ms(bounds: Sequence[float], counts: Sequence[int], wanted: float) -> float | None:
    """A quantile of what a histogram of seconds counted, in milliseconds; None when it counted nothing.

    Values are taken to be spread evenly within their bucket; above the last bound, that bound is told.
    """
    rank = wanted * sum(counts)
    if not rank:
        return None
    below = 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count >= rank:
            return round(_MS * (below + (bound - below) * rank / count), 3)
        rank -= count
        below = bound
    return _MS * below


def _database_bytes(reader: Reader) -> int | None:
    return reader.database_bytes() if isinstance(reader, Sized) else None


def _memory_bytes() -> int | None:
    """What of this process is in memory; None where Linux does not tell."""
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES
    except OSError:
        return None


def _size_of(path: Path | None, suffix: str) -> int | None:
    if path is None:
        return None
    try:
        return path.with_name(path.name + suffix).stat().st_size
    except OSError:
        return None
