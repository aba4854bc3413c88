"""The writer for a database that other servers use as well, and that takes several writes at once (decision 0004)."""

from collections.abc import Sequence

from livesync_trio.storage import base
from livesync_trio.store.persistence import BulkWriter, Done
from livesync_trio.store.shared.telling import Telling


class SharedWriter:
    """Several writers, of which each has its own stores, so that the writes of one store stay in order.

    What became durable is noted for the other servers. Implements `persistence.Writer`.
    """

    def __init__(self, writers: Sequence[BulkWriter], telling: Telling) -> None:
        """`telling`: where stores are noted that have changed."""
        self._writers = tuple(writers)
        self._telling = telling

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

    async def commit_all(self, appends: Sequence[base.Append]) -> list[base.Outcome | Exception]:
        """See `persistence.BulkWriter`. Nobody is told: no server follows a log that is still coming in."""
        return await self._of(appends[0]).commit_all(appends)

    def submit(self, write: base.Write, done: Done) -> None:
        """See `persistence.Writer`. What is durable is told right after."""

        def told(outcome: base.Outcome | Exception) -> None:
            if not isinstance(outcome, Exception):
                self._note(write, outcome)
            done(outcome)

        self._of(write).submit(write, told)

    async def commit(self, write: base.Write) -> base.Outcome:
        """See `persistence.Writer`. What is durable now is told right after."""
        outcome = await self._of(write).commit(write)
        self._note(write, outcome)
        return outcome

    def _of(self, write: base.Write) -> BulkWriter:
        return self._writers[hash(base.subject(write)) % len(self._writers)]

    def _note(self, write: base.Write, outcome: base.Outcome) -> None:
        if isinstance(write, base.PutRecord):
            return  # whoever reads records looks for himself
        if isinstance(outcome, base.Appended) or isinstance(write, base.Reset | base.Delete | base.Freeze):
            self._telling.changed(write.store_id)
        if isinstance(write, base.Adopt):
            self._telling.changed(write.staged_id)  # a store of this name may have been renamed
