"""The storage contract: what every engine promises to the actor above it.

Owns the protocol classes and the values that cross it; every engine passes `tests/storage/` unchanged. Storage is
synchronous and knows no Trio (invariant 8): a `Writer` is used by one thread, each `Reader` by one thread at a
time.

What an engine guarantees:

* A write is durable when `Writer.commit` returns, or has had no effect. Durable means: whoever opens the database next
  finds it. When what was written is not, or no longer, where the next one will look, `commit` raises.
* A database is used by one engine at a time, whatever name leads to it, unless it is a `SharedEngine`.
* `Append` compares log and head *inside* the transaction: two writers can never both win.
* Events come back byte for byte as they went in.
* A store's identity is made with it and lives until a reset, which gives a new identity and an empty log at once,
  whatever the length of the old log; the old rows go later (`Writer.clear_replaced`). The number of a log is never
  given out again. What takes its place stays as frozen as it was.
* A frozen store takes no events, whoever appends them, until it is thawed; it can be reset, deleted and replaced.
* What is not a whole log is refused with `StoreDamaged`; a hole is never served.
* Store ids are compared byte for byte.
* A record is a small document under a kind and a key, for what belongs to a server and not to a store. Only who knows
  its version replaces or deletes it, and no version is ever given out again.
"""

from collections.abc import Hashable, Sequence
from typing import Final, Literal, Protocol, runtime_checkable

import attrs
import msgspec

from livesync_trio.limits import RECORD_KEY_MAX_BYTES, RECORD_MAX_BYTES
from livesync_trio.model import BackendId, Batch, LogState, StoredEvent, StoreId


@attrs.frozen
class OpenStore:
    """Ask for the state of a store; it is created, with an identity, when it does not exist.

    Outcome: `LogState`, or `StoreDamaged` when what is stored is not a whole log.
    """

    store_id: StoreId


class Append(msgspec.Struct, frozen=True, gc=False):
    """Append a run of batches to a store, all of them or none. Outcome: `Appended` or `HeadMoved`.

    A store that does not exist is created, and the outcome is `HeadMoved` to its empty log. Batches that do not
    continue `expected` and each other are a fault of the caller: `ValueError`; so is an `Event.append_id` that the log
    has already, or that comes twice. Whoever asks `Reader.numbers_of` while `expected` is the log never meets that.

    Attributes:
        store_id: the store.
        expected: the log as the caller knows it; anything else in the database refuses the append.
        batches: one or more batches that continue `expected.head` and each other. Each brings its own `Batch.user`,
            which is stored with its events: pushes of several users may share one append.
        created_at: server time of the push for all of them, `YYYY-MM-DDTHH:MM:SS.mmmZ`.
    """

    store_id: StoreId
    expected: LogState
    batches: tuple[Batch, ...]
    created_at: str


@attrs.frozen
class Reset:
    """Give the store a new identity and an empty log; creates it when it does not exist. Outcome: the new `LogState`.

    Works on a damaged store, too: it is the way out for whoever has no backup.
    """

    store_id: StoreId


@attrs.frozen
class Delete:
    """Let there be no such store: its log is gone as by a reset, and so is its name. Outcome: `NoStore`.

    Whoever opens the store afterwards makes a new one. Works on a damaged store, and where there is none.
    """

    store_id: StoreId


@attrs.frozen
class Freeze:
    """Let a store take no more events, or take them again. Outcome: its `LogState`; `NoStore` where there is none."""

    store_id: StoreId
    frozen: bool


@attrs.frozen
class Adopt:
    """Let a log that was filled under another name take its place under the store's own, with an identity of its own.

    Outcome: `Appended`, or `HeadMoved` when either log is not the one that is expected: nothing was done then, and the
    state is that of `store_id`, or `staged` where there is no such store. A log that was in its place is replaced as by
    a reset. For import and restore, which thereby show a store as a whole or not at all, and to rename a store: that
    is the log that moves.

    Attributes:
        store_id: the store.
        staged_id: under which name the log stands now; there is none of this name afterwards.
        staged: that log.
        backend_id: its identity from now on.
        replacing: the log in its place now; None: there must be none. If it is frozen, the log that comes is, too.
        erases: whether nothing of the log that goes may be left in the database's files (`Writer.clear_replaced`).
    """

    store_id: StoreId
    staged_id: StoreId
    staged: LogState
    backend_id: BackendId
    replacing: LogState | None
    erases: bool = False


@attrs.frozen
class PutRecord:
    """Write, replace or delete one record. Outcome: `RecordStored` or `RecordMoved`.

    Attributes:
        kind: what sort of document it is: printable ASCII.
        key: its name among those of its kind, compared byte for byte; any Unicode.
        value: JSON text, UTF-8; None deletes the record.
        expected: version that the record has; `NO_RECORD`: there is none yet. Anything else in the database refuses it.

    Raises:
        ValueError: a fault of the caller: not such a kind, key or value, too long, or a deletion of nothing.
    """

    kind: str
    key: str
    value: bytes | None
    expected: int

    def __attrs_post_init__(self) -> None:
        """Refuse what some database could not keep."""
        if not (self.kind.isascii() and self.kind.isprintable() and self.kind):
            raise ValueError(f"{self.kind!r} is no kind of record")
        if len(self.kind) + len(self.key.encode()) > RECORD_KEY_MAX_BYTES:
            raise ValueError(f"the key of a record {self.kind} is too long")
        if self.value is None:
            if self.expected == NO_RECORD:
                raise ValueError("what is not there cannot be deleted")
        elif len(self.value) > RECORD_MAX_BYTES:
            raise ValueError(f"a record {self.kind} of {len(self.value)} bytes is too long")
        elif "\0" in self.value.decode():
            raise ValueError(f"a record {self.kind} is not JSON: it holds U+0000")


NO_RECORD: Final = 0
"""The version of a record that does not exist."""

StoreWrite = OpenStore | Append | Reset | Delete | Freeze | Adopt
Write = StoreWrite | PutRecord


def subject(write: Write) -> Hashable:
    """What a write changes: those of one subject stay in order."""
    return (write.kind, write.key) if isinstance(write, PutRecord) else write.store_id


class Appended(msgspec.Struct, frozen=True, gc=False):
    """The append is durable. `state` is the log after it."""

    state: LogState


@attrs.frozen
class HeadMoved:
    """Nothing was appended: the log is not the one the caller expected. `state` is what is durably there."""

    state: LogState


@attrs.frozen
class NoStore:
    """There is no store of this name, or no longer."""


StoreOutcome = LogState | Appended | HeadMoved | NoStore


@attrs.frozen
class Record:
    """A small document. `value` is JSON text; `version` is new with every write, and never that of anything before."""

    key: str
    value: bytes
    version: int


@attrs.frozen
class RecordStored:
    """The record is written, or deleted, durably. `version` is its version now; `NO_RECORD` once it is deleted."""

    version: int


@attrs.frozen
class RecordMoved:
    """Nothing was written: the record has not the version that was expected. `found` is what is there, if anything."""

    found: Record | None


Outcome = StoreOutcome | RecordStored | RecordMoved


@attrs.frozen
class StoreSummary:
    """What is kept about a store beside its events, so that asking for it costs the same however many there are.

    Attributes:
        store_id: the store.
        state: its log: number, identity, head, count of events.
        text_bytes: all texts of the log's events together, as stored.
        created_at: server time at which the log was made, by the first use of the store or its last reset;
            `YYYY-MM-DDTHH:MM:SS.mmmZ`.
        last_push_at: server time of the newest event, in the same form; None while there is none.
    """

    store_id: StoreId
    state: LogState
    text_bytes: int
    created_at: str
    last_push_at: str | None


StoreOrder = Literal["size", "head", "last push"]
"""By what stores are ranked: `text_bytes`, `head`, `last_push_at`."""

Rank = tuple[int | str, StoreId]
"""Where a store stands in a ranking: its number, or the time of its last push (empty: never), and its name."""


def rank_of(summary: StoreSummary, order: StoreOrder) -> Rank:
    """Where a store stands in a ranking."""
    by: dict[str, int | str] = {
        "size": summary.text_bytes,
        "head": summary.state.head,
        "last push": summary.last_push_at or "",
    }
    return by[order], summary.store_id


class Writer(Protocol):
    """The one handle that changes the database. Used by a single thread."""

    def commit(self, writes: Sequence[Write]) -> list[Outcome | Exception]:
        """Carry out writes of any stores in order, in one durable transaction where that is possible.

        Args:
            writes: one or more writes. Later ones see the effect of earlier ones.

        Returns:
            One outcome a write, in order. A write that failed on its own account stands as its exception and has had
            no effect; its neighbours are not affected. `StoreDamaged` needs an operator; `ValueError` is a fault of the
            caller.

        Raises:
            StorageUnavailable: nothing of this call is known to be durable. When the outcome of the transaction itself
                is unclear, the engine has read the heads again first and gives true outcomes instead; it raises only
                when they cannot be read. The caller must then read the state again before it relies on it.
        """

    def prove_writable(self) -> None:
        """Make something durable that changes nothing, to find out whether writing works.

        Raises:
            StorageUnavailable: it does not.
        """

    def clear_replaced(self, limit_events: int) -> int:
        """Delete up to `limit_events` rows of logs that were replaced. Returns how much was done; 0: nothing is left.

        Once `Reader.is_cleared` says so, an engine in a file has nothing left in its files of a log that was to be
        erased (`Adopt.erases`) either. 0 may mean that a reader holds that up. What only a database's own tools can do
        is left to the operator (docs/erasing.md).

        Raises:
            StorageUnavailable: try again later.
        """

    def close(self) -> None:
        """Release the handle."""


@runtime_checkable
class Rewriting(Protocol):
    """A writing handle whose clearing may write the whole database anew, for as long as that takes."""

    @property
    def rewrites(self) -> bool:
        """Whether the next `clear_replaced` does. Raises StorageUnavailable."""


class Reader(Protocol):
    """A handle that reads. Used by one thread at a time."""

    def read(self, log: LogState, after: int, up_to: int, limit_events: int, limit_bytes: int) -> list[StoredEvent]:
        """Events of one log in ascending order.

        Args:
            log: which log; only `log_id` matters.
            after: events with a greater number only.
            up_to: events up to and including this number only.
            limit_events: at most this many.
            limit_bytes: stop before the event whose text would exceed this many bytes in total; the first one
                is always given.

        Returns:
            The events; empty only when there is none in the range.

        Raises:
            LogReplaced: the store has another log by now.
            StoreDamaged: what is stored of the range has a hole, or is not what was written, as far as the engine can
                tell.
            StorageUnavailable: try again later.
        """

    def state(self, store_id: StoreId) -> LogState | None:
        """State of a store, None when it does not exist.

        Raises:
            StorageUnavailable: try again later.
        """

    def numbers_of(self, log: LogState, append_ids: Sequence[str]) -> dict[str, int]:
        """Numbers of those events of a log that were appended under one of these ids.

        Ids are compared byte for byte. A log that has been replaced, or is being cleared, has none.

        Args:
            log: which log; only `log_id` matters.
            append_ids: at most `limits.EVENTS_PER_PUSH_MAX` of them.

        Raises:
            StorageUnavailable: try again later.
        """

    def is_cleared(self, log: LogState) -> bool:
        """Whether a log is neither there nor left to be cleared (`Writer.clear_replaced`).

        Raises:
            StorageUnavailable: try again later.
        """

    def summary(self, store_id: StoreId) -> StoreSummary | None:
        """What is kept about a store, None when it does not exist.

        Raises:
            StoreDamaged: what is kept makes no sense.
            StorageUnavailable: try again later.
        """

    def stores(self, after: StoreId | None, limit: int, containing: str = "") -> list[StoreSummary]:
        """Stores in ascending order of their names' bytes (UTF-8).

        Args:
            after: stores whose name comes after this one only, which need not exist; None: from the beginning.
            limit: at most this many, 1 or more.
            containing: stores whose name has this text in it only, compared byte for byte. The search may look at
                every name behind `after`; without it the cost depends on `limit` alone.

        Returns:
            The stores; fewer than `limit` only when there are no more.

        Raises:
            ValueError: `after` or `containing` is not Unicode (a lone surrogate).
            StoreDamaged: what is kept of one of them makes no sense.
            StorageUnavailable: try again later.
        """

    def ranked(self, order: StoreOrder, after: Rank | None, limit: int, containing: str = "") -> list[StoreSummary]:
        """Stores with the largest, or latest, first; those that are equal in the order of `stores`.

        It looks at every store: for people, not for each request of a client.

        Args:
            order: by what.
            after: stores that come after this place only (`rank_of`); None: from the beginning.
            limit: at most this many, 1 or more.
            containing: as in `stores`.

        Returns, raises:
            As `stores`.
        """

    def record(self, kind: str, key: str) -> Record | None:
        """One record; None when there is none.

        Raises:
            ValueError: `key` is not Unicode (a lone surrogate).
            StorageUnavailable: try again later.
        """

    def records(self, kind: str, after: str | None, limit: int) -> list[Record]:
        """Records of a kind in ascending order of their keys' bytes (UTF-8).

        Args:
            kind: which sort.
            after: those whose key comes after this one only, which need not exist; None: from the beginning.
            limit: at most this many, 1 or more.

        Returns:
            The records; fewer than `limit` only when there are no more.

        Raises:
            ValueError: `after` is not Unicode.
            StorageUnavailable: try again later.
        """

    def close(self) -> None:
        """Release the handle."""


@runtime_checkable
class Sized(Protocol):
    """A reading handle of a database that is no file of this machine, and tells how large it is."""

    def database_bytes(self) -> int:
        """How much room the database takes where it is kept. Raises StorageUnavailable."""


class Engine(Protocol):
    """A database. Opened once by the application, which alone chooses the engine."""

    name: str
    """Short name for /health and the log: `sqlite`, `memory`, `postgresql`."""

    def open(self) -> None:
        """Open or create the database and check what must be true of it.

        Raises:
            StartupError: in use by another process, of a newer format, damaged, or not to be opened.
            StorageUnavailable: cannot be reached now; may be tried again.
        """

    def open_to_read(self) -> None:
        """Open what is there beside whoever uses it, and change nothing; of the handles, only readers may be used.

        Raises:
            StartupError: there is no database, or it is of another version.
            StorageUnavailable: cannot be reached now; may be tried again.
        """

    def writer(self) -> Writer:
        """The writing handle; called in the thread that will use it. Once, but several times of a `SharedEngine`."""

    def reader(self) -> Reader:
        """A new reading handle; may be called from any thread."""

    def snapshot(self) -> Reader:
        """A new reading handle whose answers are all of one moment: that of the first question.

        It keeps the database from tidying up while it is open. When it fails once, it is of no more use.
        """

    def describe(self) -> str:
        """Where the data is, for the operator; without secrets."""

    def stopping(self) -> None:
        """This server has begun to stop: who comes to take the database over may wait instead of being refused."""

    def close(self) -> None:
        """Release everything, after all writers and readers were closed."""
