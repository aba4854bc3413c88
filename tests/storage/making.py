"""Events, batches and appends for the tests of storage, and a database with its handles."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from livesync_trio.limits import READ_MAX_BYTES, READ_MAX_EVENTS, SEQ_NUM_MAX
from livesync_trio.model import ROOT_SEQ_NUM, Batch, Event, LogState, StoredEvent, StoreId
from livesync_trio.storage.base import Append, Appended, Engine, HeadMoved, OpenStore, Outcome, Reset, Write

CREATED_AT = "2026-11-20T12:34:56.789Z"


def event_json(seq_num: int, parent_seq_num: int, args: bytes = b"null") -> bytes:
    """The text that is kept, as `wire.events` writes it."""
    return b'{"name":"todoAdded","args":%b,"seqNum":%d,"parentSeqNum":%d,"clientId":"c","sessionId":"s"}' % (
        args,
        seq_num,
        parent_seq_num,
    )


def chain(*seq_nums: int, after: int = ROOT_SEQ_NUM, args: bytes = b"null") -> Batch:
    """A batch of events with these numbers that continues `after`."""
    return Batch(
        tuple(
            Event(number, parent, event_json(number, parent, args)) for parent, number in pairwise((after, *seq_nums))
        )
    )


def run_of(events: int, after: int = ROOT_SEQ_NUM, args: bytes = b"null") -> Batch:
    """A batch of `events` consecutive events that continues `after`."""
    return chain(*range(after + 1, after + events + 1), after=after, args=args)


def append(store: str, expected: LogState, *batches: Batch, created_at: str = CREATED_AT) -> Append:
    return Append(StoreId(store), expected, batches, created_at)


def open_store(store: str) -> OpenStore:
    return OpenStore(StoreId(store))


def reset(store: str) -> Reset:
    return Reset(StoreId(store))


class Database:
    """A database under test: an engine, one writer, one reader; and what a restart of the server does to them."""

    def __init__(self, make_engine: Callable[[], Engine]) -> None:
        """`make_engine` gives an engine on the same data each time."""
        self._make_engine = make_engine
        self.start()

    def start(self) -> None:
        self.engine = self._make_engine()
        self.engine.open()
        self.writer = self.engine.writer()
        self.reader = self.engine.reader()

    def another_engine(self) -> Engine:
        """One more on the same data, not opened."""
        return self._make_engine()

    def stop(self) -> None:
        self.reader.close()
        self.writer.close()
        self.engine.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    # --- writes that must succeed --------------------------------------------------------------------------------

    def commit(self, *writes: Write) -> list[Outcome | Exception]:
        return self.writer.commit(writes)

    def one(self, write: Write) -> Outcome:
        (outcome,) = self.writer.commit([write])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def open(self, store: str) -> LogState:
        state = self.one(open_store(store))
        assert isinstance(state, LogState)
        return state

    def append(self, store: str, expected: LogState, *batches: Batch, created_at: str = CREATED_AT) -> LogState:
        outcome = self.one(append(store, expected, *batches, created_at=created_at))
        assert isinstance(outcome, Appended)
        return outcome.state

    def refused(self, store: str, expected: LogState, *batches: Batch) -> LogState:
        """An append that must be refused; the state it was told."""
        outcome = self.one(append(store, expected, *batches))
        assert isinstance(outcome, HeadMoved)
        return outcome.state

    def reset(self, store: str) -> LogState:
        state = self.one(reset(store))
        assert isinstance(state, LogState)
        return state

    def filled(self, store: str, *batches: Batch) -> LogState:
        return self.append(store, self.open(store), *batches)

    # --- reads ---------------------------------------------------------------------------------------------------

    def read(
        self,
        log: LogState,
        after: int = ROOT_SEQ_NUM,
        up_to: int = SEQ_NUM_MAX,
        limit_events: int = READ_MAX_EVENTS,
        limit_bytes: int = READ_MAX_BYTES,
    ) -> list[StoredEvent]:
        return self.reader.read(log, after, up_to, limit_events, limit_bytes)

    def numbers(
        self,
        log: LogState,
        after: int = ROOT_SEQ_NUM,
        up_to: int = SEQ_NUM_MAX,
        limit_events: int = READ_MAX_EVENTS,
        limit_bytes: int = READ_MAX_BYTES,
    ) -> list[int]:
        return [event.seq_num for event in self.read(log, after, up_to, limit_events, limit_bytes)]

    def state(self, store: str) -> LogState | None:
        return self.reader.state(StoreId(store))


def stored(batches: Sequence[Batch], created_at: str = CREATED_AT) -> list[StoredEvent]:
    """What a log that consists of these batches gives back."""
    events = [event for batch in batches for event in batch.events]
    return [StoredEvent(event.seq_num, i, event.json, created_at) for i, event in enumerate(events, 1)]
