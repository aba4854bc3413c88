"""What actors need of the storage below them: one way to write, one way to read, both awaited.

`writer.ThreadWriter` and `readers.ThreadReaders` carry this out in threads; the tests carry it out in the Trio
thread, so that their clock and scheduler stay deterministic.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from livesync_trio.model import LogState, StoredEvent, StoreId
from livesync_trio.storage import base

Done = Callable[[base.Outcome | Exception], None]
"""Takes the outcome of a write. Must neither wait nor raise."""


class Writer(Protocol):
    """Makes writes durable, for all actors."""

    @property
    def healthy(self) -> bool:
        """False from a write that failed until something was durable again; reading is no proof."""

    @property
    def alive(self) -> bool:
        """Whether it goes on by itself: false once its thread has ended or hangs in one transaction (`WRITER_HUNG_S`).

        A database that is down is no such thing; a process that says false here is helped by a restart only.
        """

    @property
    def turn_age_s(self) -> float:
        """For how long the transaction under way has lasted, in seconds; 0 when there is none."""

    def start(self) -> None:
        """Begin; called once, inside Trio."""

    async def stop(self) -> None:
        """Finish what was begun and end. Not cancellable."""

    def submit(self, write: base.Write, done: Done) -> None:
        """Carry out one write durably, and call `done` in the Trio thread with what `commit` would give or raise.

        Raises:
            StorageUnavailable: it has ended and takes nothing; `done` is not called.
        """

    async def commit(self, write: base.Write) -> base.Outcome:
        """Carry out one write durably. Not cancellable (invariant 1): its outcome is awaited.

        Raises:
            StorageUnavailable: nothing is known to be durable; read the state again before relying on it.
            Exception: whatever else the engine raised for this write alone, which then had no effect.
        """


class BulkWriter(Writer, Protocol):
    """A writer through which a whole log comes in."""

    async def commit_all(self, appends: Sequence[base.Append]) -> list[base.Outcome | Exception]:
        """Carry out one or more appends to one store in order, in as few transactions as may be. Not cancellable.

        Returns:
            What came of each, as `base.Writer.commit`; `StorageUnavailable` where nothing is known to be durable.

        Raises:
            StorageUnavailable: nothing was carried out.
        """


class Readers(Protocol):
    """Reads history, for any number of pulls."""

    async def read(self, log: LogState, after: int, up_to: int) -> list[StoredEvent]:
        """The next events of a log, bounded in number and bytes; empty only when there is none in the range.

        Raises:
            LogReplaced: the store has another log by now; register again.
            StorageUnavailable: try again later.
        """

    async def numbers_of(self, log: LogState, append_ids: Sequence[str]) -> dict[str, int]:
        """Numbers of events of a log by their ids. Raises as `base.Reader.numbers_of`."""

    async def summary(self, store_id: StoreId) -> base.StoreSummary | None:
        """What is kept about a store beside its events. Raises as `base.Reader.summary`."""

    def close(self) -> None:
        """Release everything; called when nobody reads any more."""
