"""Writes logs into an SQLite file: many appends of many stores as one statement, one transaction, one fsync.

Owns the one connection that changes the file. There are two ways in:

* All events of a group are *one* INSERT: the trigger of the schema compares and moves each head. A group of appends
  only, which is nearly every group, is nothing but that statement, which autocommit makes a transaction. Python's
  `sqlite3` gives up the interpreter lock around every call and, under a busy Trio thread, waits milliseconds to get it
  back; one call for a group instead of one a row is three to five times as fast there (decision 0003).
* A group of which something was refused goes write by write inside one transaction, each behind a savepoint, so that a
  bad one has no effect and takes no neighbour with it.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from livesync_trio.errors import StorageFull, StorageUnavailable, StoreDamaged
from livesync_trio.limits import SQLITE_WRITER_CACHE_KIB, SQLITE_WRITER_STATEMENTS
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import (
    NO_RECORD,
    Adopt,
    Append,
    Appended,
    Delete,
    Freeze,
    HeadMoved,
    NoStore,
    OpenStore,
    Outcome,
    PutRecord,
    RecordStored,
    Reset,
    StoreOutcome,
    Write,
    subject,
)
from livesync_trio.storage.chain import Ends, check_whole, is_expected, new_backend_id, state_after
from livesync_trio.storage.sqlite.connection import Connector, translated
from livesync_trio.storage.sqlite.insert import statements
from livesync_trio.storage.sqlite.known import KnownLogs
from livesync_trio.storage.sqlite.reader import state_of
from livesync_trio.storage.sqlite.records import found, put
from livesync_trio.storage.sqlite.replacing import adopt, clear_rows, cut_wal, nothing_left, remove, rewrite, rewrites
from livesync_trio.storage.sqlite.side_files import Foreign, Lost

SQLITE_FILE_CHECK_S: Final = 1.0
"""How often the writer looks whether the index of the WAL is still found under its name. No event depends on it; the
database and the WAL are looked at with every commit (decision 0003)."""

SQLITE_REWRITE_PAUSE_S: Final = 600.0
"""After the file could not be written anew for want of room, until it is tried again."""

_CREATE_STORE: Final = "INSERT INTO livesync_7_stores (store_id, backend_id, frozen) VALUES (?, ?, ?)"
_FREEZE: Final = "UPDATE livesync_7_stores SET frozen = ? WHERE store_id = ?"

# Two questions, each answered by one end of the index; asked together, min() and max() walk through all of it.
_ENDS_OF_LOG: Final = """
    SELECT * FROM
        (SELECT parent_seq_num, ordinal FROM livesync_7_events WHERE log_id = :log_id ORDER BY seq_num LIMIT 1),
        (SELECT seq_num, ordinal FROM livesync_7_events WHERE log_id = :log_id ORDER BY seq_num DESC LIMIT 1)
"""

_ID_INDEX: Final = "livesync_7_events.append_id"
"""What SQLite names when an id is there already."""


class SqliteWriter:
    """Changes logs (`base.Writer`)."""

    def __init__(self, connector: Connector) -> None:
        """Open the connection.

        Raises:
            StorageUnavailable: the file cannot be opened now.
        """
        self._connector = connector
        self._connection: sqlite3.Connection | None = None
        self._known = KnownLogs()
        self._in_place = True  # as far as is known
        self._index_checked_s = 0.0
        self._rewrite_again_s = 0.0  # before this moment the file is not written anew
        with self._translating():
            self._open()

    # --- the contract -----------------------------------------------------------------------------------------------

    def commit(self, writes: Sequence[Write]) -> list[Outcome | Exception]:
        """Carry out writes of any stores in order; see the contract."""
        outcomes: list[Outcome | Exception] = []
        first = writes[0]
        if len(writes) == 1 and isinstance(first, Append):
            appends = [first]
        else:
            appends = [write for write in writes if isinstance(write, Append)]
        try:
            if not self._in_place:
                self._check_files()
            connection = self._connection or self._open()
            try:
                if not self._all_at_once(connection, writes, appends, outcomes):
                    self._one_by_one(connection, writes, outcomes)
            except sqlite3.Error:
                if len(outcomes) < len(writes) or not self._became_durable(writes, outcomes):
                    raise
            self._check_files()  # what is not in the files that will be opened next time is not acknowledged
        except sqlite3.Error as error:
            raise self._failed(error) from error
        if len(appends) < len(writes):  # an append makes no log
            self._known.learn(writes, outcomes)
        return outcomes

    def prove_writable(self) -> None:
        """Write a page that stays as it is; see the contract."""
        with self._translating():
            self._check_files()
            connection = self._open()
            with _transaction(connection):
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                connection.execute(f"PRAGMA user_version = {version:d}")

    def clear_replaced(self, limit_events: int) -> int:
        """Delete rows of replaced logs; see the contract."""
        with self._translating():
            self._check_files()
            connection = self._open()
            if nothing_left(connection):
                return 0  # the usual case, asked every second, writes nothing
            with _transaction(connection):
                cleared = clear_rows(connection, limit_events)
            if cleared or nothing_left(connection):
                return cleared
            if rewrites(connection):
                if time.monotonic() < self._rewrite_again_s or not self._rewrite(connection):
                    return 0
                self._check_files()
            return int(cut_wal(connection))

    @property
    def rewrites(self) -> bool:
        """See `base.Rewriting`."""
        if time.monotonic() < self._rewrite_again_s:
            return False
        with self._translating():
            return rewrites(self._open())

    def _rewrite(self, connection: sqlite3.Connection) -> bool:
        """Write the file anew. False: there is no room, which is no trouble for anybody else; later there may be."""
        try:
            rewrite(connection)
        except sqlite3.Error as error:
            if not isinstance(translated(error, self._connector.path), StorageFull):
                raise
            self._rewrite_again_s = time.monotonic() + SQLITE_REWRITE_PAUSE_S
            return False
        return True

    def close(self) -> None:
        """Move everything into the database file itself and release the handle."""
        if self._connection is not None:
            with suppress(sqlite3.Error, Foreign):  # it is all in the WAL anyway; what is not ours goes nowhere
                with suppress(Lost):
                    self._connector.beside.check()
                self._connection.execute("PRAGMA busy_timeout = 0")  # a backup tool that reads shall not hold us up
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._drop()

    # --- the two ways in --------------------------------------------------------------------------------------------

    def _all_at_once(
        self,
        connection: sqlite3.Connection,
        writes: Sequence[Write],
        appends: Sequence[Append],
        outcomes: list[Outcome | Exception],
    ) -> bool:
        """Try the group with all its events in one INSERT. False: nothing was done, go one by one.

        Args:
            connection: to write with.
            writes: the group.
            appends: those among them that are appends.
            outcomes: to be filled.
        """
        only_appends = len(appends) == len(writes)
        if not only_appends:
            appended = {write.store_id for write in appends}
            others = [write for write in writes if not isinstance(write, Append | PutRecord)]
            if any(isinstance(write, Adopt) or write.store_id in appended for write in others):
                return False  # what an append of a store finds may depend on what is done to the store before it
        try:
            for append in appends:
                if not self._known.fits(connection, append):
                    return False
            inserts = statements(appends)
            if only_appends and len(inserts) == 1:
                if len(appends) == 1:
                    outcomes.append(Appended(state_after(appends[0])))
                else:
                    outcomes += [Appended(state_after(append)) for append in appends]
                connection.execute(*inserts[0])
            else:
                with _transaction(connection):
                    outcomes.extend(
                        Appended(state_after(write)) if isinstance(write, Append) else _carry_out(connection, write)
                        for write in writes
                    )
                    for insert in inserts:
                        connection.execute(*insert)
        except Exception as error:
            if self._own_failure(error) is None:
                raise
            outcomes.clear()
            return False
        return True

    def _one_by_one(
        self, connection: sqlite3.Connection, writes: Sequence[Write], outcomes: list[Outcome | Exception]
    ) -> None:
        """Carry out the writes in one transaction, so that one that fails has no effect and the others have theirs."""
        with _transaction(connection):
            for write in writes:
                connection.execute("SAVEPOINT write")
                try:
                    outcome: Outcome | Exception = _carry_out(connection, write)
                except Exception as error:
                    failure = self._own_failure(error)
                    if failure is None:
                        raise
                    connection.execute("ROLLBACK TO write")
                    outcome = failure
                connection.execute("RELEASE write")
                outcomes.append(outcome)

    def _check_files(self) -> None:
        """See that what was written is where it will be looked for; a few microseconds.

        Raises:
            StorageUnavailable: it is not. As long as that is so, nothing more is written.
        """
        self._in_place = False
        try:
            self._connector.check_files()
        except StorageUnavailable as error:
            self._known.forget()
            if isinstance(error, Lost):
                raise StorageUnavailable(f"{error}. {self._saved()}: restart the server.") from error
            raise
        self._in_place = True
        if time.monotonic() - self._index_checked_s > SQLITE_FILE_CHECK_S:
            self._connector.beside.check_index()
            self._index_checked_s = time.monotonic()

    def _saved(self) -> str:
        """Move what is in a WAL that nobody will find into the database file, as far as possible; how that went."""
        try:
            if self._connection is not None:
                blocked, in_wal, moved = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if not blocked and in_wal == moved:
                    return "All that was acknowledged is in the database file"
        except sqlite3.Error:
            pass
        return "What was acknowledged last is not in the database file yet"

    # --- when the database fails ------------------------------------------------------------------------------------

    def _became_durable(self, writes: Sequence[Write], outcomes: Sequence[Outcome | Exception]) -> bool:
        """Whether a transaction whose COMMIT failed is in the database all the same, asked on a new connection.

        SQLite takes back what it could not commit. But when even that fails, a new connection may find the transaction
        whole in the WAL, which was perhaps never synced: the checkpoint syncs it.
        """
        self._drop()
        final = {subject(write): (write, outcome) for write, outcome in zip(writes, outcomes, strict=True)}
        try:
            connection = self._open()
            if not all(_is_there(connection, write, outcome) for write, outcome in final.values()):
                return False
            (blocked, _, _) = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        except sqlite3.Error:
            return False
        return not blocked

    def _own_failure(self, error: Exception) -> Exception | None:
        """What a single write failed with, when that is no fault of the database as a whole; else None."""
        match error:
            case StoreDamaged() | ValueError() | OverflowError():
                return error  # a store id that is not Unicode is a ValueError, too
            case sqlite3.IntegrityError():
                return StoreDamaged(f"A store is damaged ({error}): restore a backup.")
            case sqlite3.DataError():
                return ValueError(str(error))
            case sqlite3.Error():
                failure = translated(error, self._connector.path)
                return failure if isinstance(failure, StoreDamaged) else None
        return None

    @contextmanager
    def _translating(self) -> Iterator[None]:
        """Turn an error of the whole database into `StorageUnavailable`; the next call begins with a new connection."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> Exception:
        """What an error of the whole database is for the caller; the next call begins with a new connection."""
        self._drop()
        failure = translated(error, self._connector.path)
        if isinstance(failure, StoreDamaged):  # not of one store alone
            return StorageUnavailable(str(failure))
        return failure or error

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connector.connect(SQLITE_WRITER_CACHE_KIB, SQLITE_WRITER_STATEMENTS)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()  # rolls back what was under way
            self._connection = None
            self._known.forget()


# --- single writes, inside a transaction ---------------------------------------------------------------------------


def _carry_out(connection: sqlite3.Connection, write: Write) -> Outcome:
    match write:
        case OpenStore():
            return _open_store(connection, write.store_id)
        case Append():
            return _append(connection, write)
        case Reset():
            state = state_of(connection, write.store_id)
            remove(connection, write.store_id)
            return _create(connection, write.store_id, frozen=state is not None and state.frozen)
        case Delete():
            remove(connection, write.store_id)
            return NoStore()
        case Freeze():
            connection.execute(_FREEZE, (write.frozen, write.store_id))
            return state_of(connection, write.store_id) or NoStore()
        case Adopt():
            return adopt(connection, write)
        case PutRecord():
            return put(connection, write)


def _is_there(connection: sqlite3.Connection, write: Write, outcome: Outcome | Exception) -> bool:
    """Whether the database is as an outcome says."""
    match write, outcome:
        case PutRecord(), RecordStored():
            record = found(connection, write.kind, write.key)
            return outcome.version == (NO_RECORD if record is None else record.version)
        case OpenStore() | Append() | Reset() | Adopt() | Freeze(), LogState():
            return state_of(connection, write.store_id) == outcome
        case OpenStore() | Append() | Reset() | Adopt(), Appended() | HeadMoved():
            return state_of(connection, write.store_id) == outcome.state
        case Delete() | Freeze(), NoStore():
            return state_of(connection, write.store_id) is None
    return True  # nothing was written for it


def _open_store(connection: sqlite3.Connection, store_id: StoreId) -> LogState:
    state = state_of(connection, store_id)
    if state is None:
        return _create(connection, store_id)
    ends = connection.execute(_ENDS_OF_LOG, {"log_id": state.log_id}).fetchone()
    check_whole(store_id, state, None if ends is None else Ends(*ends))
    return state


def _create(connection: sqlite3.Connection, store_id: StoreId, *, frozen: bool = False) -> LogState:
    backend_id = new_backend_id()
    log_id = connection.execute(_CREATE_STORE, (store_id, backend_id, frozen)).lastrowid
    assert log_id is not None
    return LogState(log_id, backend_id, 0, 0, frozen)


def _append(connection: sqlite3.Connection, append: Append) -> StoreOutcome:
    inserts = statements([append])
    state = state_of(connection, append.store_id) or _create(connection, append.store_id)
    if not is_expected(state, append.expected):
        return HeadMoved(state)
    try:
        for insert in inserts:
            connection.execute(*insert)
    except sqlite3.IntegrityError as error:
        if _ID_INDEX in str(error):
            raise ValueError(f"the log has an event of one of these ids already ({error})") from error
        raise StoreDamaged(
            f"Store {append.store_id!r} is damaged: it holds events beyond its head e{state.head} ({error}). "
            "Restore a backup, or reset the store."
        ) from error
    return Appended(state_after(append))


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that takes the right to write at its beginning; rolled back when the block raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):  # closing the connection rolls back as well
                connection.execute("ROLLBACK")
        raise
