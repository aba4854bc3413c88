"""Several writer threads for an engine that writes with several connections at once (decision 0004)."""

from collections.abc import Sequence

from livesync_trio.storage import base
from livesync_trio.store.persistence import Writer


class SharedOut:
    """Writers of which each has its own stores and records, so that the writes of one of them stay in order.

    Implements `persistence.Writer`.
    """

    def __init__(self, writers: Sequence[Writer]) -> None:
        self._writers = tuple(writers)

    @property
    def healthy(self) -> bool:
        """Whether all of them are."""
        return all(writer.healthy for writer in self._writers)

    @property
    def alive(self) -> bool:
        """Whether all of them are."""
        return all(writer.alive for writer in self._writers)

    @property
    def turn_age_s(self) -> float:
        """Of the one that takes longest."""
        return max(writer.turn_age_s for writer in self._writers)

    def start(self) -> None:
        """See `persistence.Writer`."""
        for writer in self._writers:
            writer.start()

    async def stop(self) -> None:
        """See `persistence.Writer`."""
        for writer in self._writers:
            await writer.stop()

    async def commit(self, write: base.Write) -> base.Outcome:
        """See `persistence.Writer`."""
        return await self._writers[hash(base.subject(write)) % len(self._writers)].commit(write)
