"""Pages of history, read for whoever pulls and kept a while for the next one who pulls the same.

Owns what is kept. A log's past does not change, so a page once encoded serves every client (invariant 5). Kept are
the stretches from the beginning of a log on, one behind the other, because that is what each new client asks for; who
comes back asks for the little it missed, which is read for it alone. Used in the Trio thread only.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import trio

from livesync_trio.model import ROOT_SEQ_NUM, LogState, Page, StoredEvent
from livesync_trio.store.persistence import Readers

HISTORY_KEPT_MAX_BYTES: Final = 16 * 1024 * 1024
"""Encoded pages kept for the next new client: some 37,000 events of 450 bytes (docs/performance.md)."""

Render = Callable[[Sequence[StoredEvent]], Sequence[Page]]
"""Cuts events into pages and encodes them for one generation of clients. The same function gives the same pages."""

_Key = tuple[int, int, Render]
"""A stretch: number of the log, the event behind which it begins, its form."""
_LOG_ID: Final = 0


class History:
    """The past of all stores in pages."""

    def __init__(self, readers: Readers, kept_max_bytes: int = HISTORY_KEPT_MAX_BYTES) -> None:
        """`readers` read what is not kept; at most `kept_max_bytes` of encoded items are."""
        self._readers = readers
        self._kept_max_bytes = kept_max_bytes
        self._kept: OrderedDict[_Key, Sequence[Page]] = OrderedDict()  # the one asked for last stands last
        self._ends: set[_Key] = set()  # behind which events a kept stretch is to be continued
        self.kept_bytes = 0
        """Bytes of encoded items in memory."""

    async def pages(self, log: LogState, after: int, up_to: int, render: Render) -> Sequence[Page]:
        """The next pages of a log, bounded in events and bytes. Always a checkpoint.

        Args:
            log: which log.
            after: events with a greater number only.
            up_to: events up to and including this number only.
            render: the form of the pages.

        Returns:
            The pages; none only when there is no event in the range.

        Raises:
            LogReplaced, StoreDamaged, StorageUnavailable: as `Readers.read`, and only by what is not kept.
        """
        key = (log.log_id, after, render)
        kept = self._kept.get(key)
        if kept is not None and kept[-1].last_seq_num <= up_to:
            self._kept.move_to_end(key)
            await trio.lowlevel.checkpoint()
            return kept
        events = await self._readers.read(log, after, up_to)
        made = render(events)
        if made and made[-1].last_seq_num < up_to and (after == ROOT_SEQ_NUM or key in self._ends):
            self._keep(key, made)  # it ended at a limit, not at the head, so it is the same for everybody
        return made

    def _keep(self, key: _Key, made: Sequence[Page]) -> None:
        """Keep a stretch in place of those not asked for longest, unless these are of the same log.

        In a log that is larger than the room, each pull would drive out what the next one asks for first.
        """
        if key in self._kept:
            return
        size_bytes = _size_bytes(made)
        while self.kept_bytes + size_bytes > self._kept_max_bytes:
            oldest = next(iter(self._kept), None)
            if oldest is None or oldest[_LOG_ID] == key[_LOG_ID]:
                return
            self._drop(oldest)
        self._kept[key] = made
        self._ends.add(_end(key, made))
        self.kept_bytes += size_bytes

    def _drop(self, key: _Key) -> None:
        made = self._kept.pop(key)
        self._ends.discard(_end(key, made))
        self.kept_bytes -= _size_bytes(made)


def _end(key: _Key, made: Sequence[Page]) -> _Key:
    log_id, _, render = key
    return log_id, made[-1].last_seq_num, render


def _size_bytes(made: Sequence[Page]) -> int:
    return sum(len(page.items) for page in made)
