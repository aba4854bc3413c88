"""Engine that keeps everything in memory: for tests, verified by the same suite as the databases.

Owns the logs of one process. Durable means here: until the engine is dropped; closing and opening it again keeps the
logs. It never pretends more than the contract promises, so that what passes on it passes on a database.
"""

from bisect import bisect_right
from collections.abc import Sequence
from heapq import nsmallest

# Handles of one engine are used by several threads (base.py); nothing is started here.
from threading import Lock  # noqa: TID251

import attrs

from livesync_trio.errors import LogReplaced, StorageUnavailable
from livesync_trio.model import ROOT_SEQ_NUM, BackendId, LogState, StoredEvent, StoreId
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
    Rank,
    Record,
    RecordMoved,
    RecordStored,
    Reset,
    StoreOrder,
    StoreSummary,
    StoreWrite,
    Write,
    rank_of,
)
from livesync_trio.storage.chain import (
    adopted,
    chained_events,
    check_new_ids,
    is_expected,
    new_backend_id,
    server_time,
    state_after,
)


@attrs.define
class _Log:
    """One log; `seq_nums[i]` is the number of `events[i]`, kept apart so that it can be bisected."""

    log_id: int
    backend_id: BackendId
    seq_nums: list[int] = attrs.Factory(list)
    events: list[StoredEvent] = attrs.Factory(list)
    append_ids: dict[str, int] = attrs.Factory(dict)
    text_bytes: int = 0
    created_at: str = attrs.Factory(server_time)
    frozen: bool = False

    @property
    def state(self) -> LogState:
        head = self.seq_nums[-1] if self.seq_nums else ROOT_SEQ_NUM
        return LogState(self.log_id, self.backend_id, head, len(self.events), self.frozen)

    def copy(self) -> "_Log":
        return attrs.evolve(
            self, seq_nums=list(self.seq_nums), events=list(self.events), append_ids=dict(self.append_ids)
        )

    def summary(self, store_id: StoreId) -> StoreSummary:
        last_push_at = self.events[-1].created_at if self.events else None
        return StoreSummary(store_id, self.state, self.text_bytes, self.created_at, last_push_at)


@attrs.define
class _Data:
    """What all handles of an engine share. Everything in it is used with `lock` held."""

    lock: Lock = attrs.Factory(Lock)
    logs: dict[StoreId, _Log] = attrs.Factory(dict)
    current: dict[int, _Log] = attrs.Factory(dict)
    """The same logs by number; a log that is not in here has been replaced."""
    replaced: list[_Log] = attrs.Factory(list)
    """Logs that wait to be cleared; none is empty."""
    last_log_id: int = 0
    records: dict[str, dict[str, Record]] = attrs.Factory(dict)
    """By kind and key."""
    last_version: int = 0


class MemoryEngine:
    """Keeps logs in memory (`base.Engine`)."""

    name = "memory"

    def __init__(self) -> None:
        self._data = _Data()

    def open(self) -> None:
        """Nothing to open."""

    def open_to_read(self) -> None:
        """Nothing to open."""

    def writer(self) -> "MemoryWriter":
        """A writing handle."""
        return MemoryWriter(self._data)

    def reader(self) -> "MemoryReader":
        """A reading handle."""
        return MemoryReader(self._data)

    def snapshot(self) -> "MemoryReader":
        """A reading handle on a copy."""
        with self._data.lock:
            logs = {store_id: log.copy() for store_id, log in self._data.logs.items()}
            records = {kind: dict(found) for kind, found in self._data.records.items()}
        current = {log.log_id: log for log in logs.values()}
        return MemoryReader(_Data(logs=logs, current=current, records=records))

    def describe(self) -> str:
        """Where the data is."""
        return "memory, gone when the process ends"

    def stopping(self) -> None:
        """Nobody else can come."""

    def close(self) -> None:
        """Nothing to release."""


class MemoryWriter:
    """Changes the logs (`base.Writer`)."""

    def __init__(self, data: _Data) -> None:
        self._data = data
        self._closed = False

    def commit(self, writes: Sequence[Write]) -> list[Outcome | Exception]:
        """Carry out writes in order; see the contract."""
        _check_open(self._closed)
        with self._data.lock:
            return [self._put(write) if isinstance(write, PutRecord) else self._carry_out(write) for write in writes]

    def _put(self, put: PutRecord) -> RecordStored | RecordMoved:
        data = self._data
        records = data.records.setdefault(put.kind, {})
        found = records.get(put.key)
        if put.expected != (NO_RECORD if found is None else found.version):
            return RecordMoved(found)
        if put.value is None:
            del records[put.key]
            return RecordStored(NO_RECORD)
        data.last_version += 1
        records[put.key] = Record(put.key, put.value, data.last_version)
        return RecordStored(data.last_version)

    def _carry_out(self, write: StoreWrite) -> Outcome | Exception:
        try:
            _check_text(write.store_id)
            match write:
                case OpenStore():
                    return self._opened(write.store_id).state
                case Append():
                    return self._append(write)
                case Reset():
                    return self._reset(write.store_id)
                case Delete():
                    self._remove(write.store_id)
                    return NoStore()
                case Freeze():
                    return self._freeze(write)
                case Adopt():
                    return self._adopt(write)
        except ValueError as error:
            return error

    def _opened(self, store_id: StoreId) -> _Log:
        return self._data.logs.get(store_id) or self._new_log(store_id)

    def _new_log(self, store_id: StoreId) -> _Log:
        data = self._data
        data.last_log_id += 1
        log = data.logs[store_id] = data.current[data.last_log_id] = _Log(data.last_log_id, new_backend_id())
        return log

    def _append(self, append: Append) -> Outcome:
        added = chained_events(append)
        users = [batch.user for batch in append.batches for _ in batch.events]
        numbers = {event.append_id: event.seq_num for event in added if event.append_id is not None}
        _check_text("".join([*filter(None, users), *numbers]))
        log = self._opened(append.store_id)
        if not is_expected(log.state, append.expected):
            return HeadMoved(log.state)
        check_new_ids(added, log.append_ids)
        log.append_ids |= numbers
        log.seq_nums.extend(event.seq_num for event in added)
        log.events.extend(
            StoredEvent(event.seq_num, ordinal, event.json, append.created_at, user, event.append_id)
            for ordinal, (event, user) in enumerate(zip(added, users, strict=True), len(log.events) + 1)
        )
        log.text_bytes += sum(batch.size_bytes for batch in append.batches)
        return Appended(state_after(append))

    def _reset(self, store_id: StoreId) -> LogState:
        old = self._remove(store_id)
        log = self._new_log(store_id)
        log.frozen = old is not None and old.frozen
        return log.state

    def _freeze(self, freeze: Freeze) -> Outcome:
        log = self._data.logs.get(freeze.store_id)
        if log is None:
            return NoStore()
        log.frozen = freeze.frozen
        return log.state

    def _adopt(self, adopt: Adopt) -> Outcome:
        data = self._data
        found, staged = data.logs.get(adopt.store_id), data.logs.get(adopt.staged_id)
        state = None if found is None else found.state
        if state != adopt.replacing or staged is None or staged.state != adopt.staged:
            return HeadMoved(state or adopt.staged)
        self._remove(adopt.store_id)
        data.logs[adopt.store_id] = data.logs.pop(adopt.staged_id)
        after = adopted(adopt)
        staged.backend_id, staged.frozen = after.backend_id, after.frozen
        return Appended(after)

    def _remove(self, store_id: StoreId) -> _Log | None:
        old = self._data.logs.pop(store_id, None)
        if old is not None:
            del self._data.current[old.log_id]
            if old.events:
                self._data.replaced.append(old)
        return old

    def prove_writable(self) -> None:
        """Memory can be written."""
        _check_open(self._closed)

    def clear_replaced(self, limit_events: int) -> int:
        """Delete events of replaced logs; see the contract."""
        _check_open(self._closed)
        cleared = 0
        with self._data.lock:
            replaced = self._data.replaced
            while replaced and cleared < limit_events:
                events = replaced[0].events
                gone = min(limit_events - cleared, len(events))
                del events[:gone]
                cleared += gone
                if not events:
                    del replaced[0]
        return cleared

    def close(self) -> None:
        """Release the handle."""
        self._closed = True


class MemoryReader:
    """Reads the logs (`base.Reader`)."""

    def __init__(self, data: _Data) -> None:
        self._data = data
        self._closed = False

    def read(self, log: LogState, after: int, up_to: int, limit_events: int, limit_bytes: int) -> list[StoredEvent]:
        """Events of one log in ascending order; see the contract."""
        _check_open(self._closed)
        with self._data.lock:
            found = self._data.current.get(log.log_id)
            if found is None:
                raise LogReplaced(f"log {log.log_id} has been replaced")
            start = bisect_right(found.seq_nums, after)
            end = min(bisect_right(found.seq_nums, up_to, start), start + limit_events)
            events: list[StoredEvent] = []
            for event in found.events[start:end]:
                limit_bytes -= len(event.json)
                if limit_bytes < 0 and events:
                    break
                events.append(event)
            return events

    def state(self, store_id: StoreId) -> LogState | None:
        """State of a store; see the contract."""
        _check_open(self._closed)
        with self._data.lock:
            log = self._data.logs.get(store_id)
            return None if log is None else log.state

    def numbers_of(self, log: LogState, append_ids: Sequence[str]) -> dict[str, int]:
        """Numbers of events by their ids; see the contract."""
        _check_open(self._closed)
        with self._data.lock:
            found = self._data.current.get(log.log_id)
            known = {} if found is None else found.append_ids
            return {append_id: known[append_id] for append_id in append_ids if append_id in known}

    def is_cleared(self, log: LogState) -> bool:
        """Whether nothing is left of a log; see the contract."""
        _check_open(self._closed)
        with self._data.lock:
            replaced = any(old.log_id == log.log_id for old in self._data.replaced)
            return log.log_id not in self._data.current and not replaced

    def summary(self, store_id: StoreId) -> StoreSummary | None:
        """What is kept about a store; see the contract."""
        _check_open(self._closed)
        with self._data.lock:
            log = self._data.logs.get(store_id)
            return None if log is None else log.summary(store_id)

    def stores(self, after: StoreId | None, limit: int, containing: str = "") -> list[StoreSummary]:
        """Stores in ascending order; see the contract."""
        _check_open(self._closed)
        _check_text(containing)
        behind = None if after is None else after.encode()
        with self._data.lock:
            names = [store_id for store_id in self._data.logs if containing in store_id]
            names = [store_id for store_id in names if behind is None or store_id.encode() > behind]
            names = nsmallest(limit, names, key=str.encode)
            return [self._data.logs[store_id].summary(store_id) for store_id in names]

    def ranked(self, order: StoreOrder, after: Rank | None, limit: int, containing: str = "") -> list[StoreSummary]:
        """Stores by rank; see the contract."""
        _check_open(self._closed)
        _check_text(containing)
        with self._data.lock:
            found = [log.summary(name) for name, log in self._data.logs.items() if containing in name]
        found.sort(key=lambda summary: summary.store_id.encode())
        found.sort(key=lambda summary: rank_of(summary, order)[0], reverse=True)
        if after is not None:
            value, name = after[0], after[1].encode()
            found = [one for one in found if _behind(rank_of(one, order), value, name)]
        return found[:limit]

    def record(self, kind: str, key: str) -> Record | None:
        """One record; see the contract."""
        _check_open(self._closed)
        _check_text(key)
        with self._data.lock:
            return self._data.records.get(kind, {}).get(key)

    def records(self, kind: str, after: str | None, limit: int) -> list[Record]:
        """Records of a kind in ascending order; see the contract."""
        _check_open(self._closed)
        behind = None if after is None else after.encode()
        with self._data.lock:
            found = self._data.records.get(kind, {})
            keys = [key for key in found if behind is None or key.encode() > behind]
            return [found[key] for key in nsmallest(limit, keys, key=str.encode)]

    def close(self) -> None:
        """Release the handle."""
        self._closed = True


def _check_text(text: str) -> None:
    """As every database would: what is not Unicode is refused with ValueError."""
    text.encode()


def _check_open(closed: bool) -> None:
    """As a database would: a closed handle answers nothing."""
    if closed:
        raise StorageUnavailable("the handle is closed")


def _behind(rank: Rank, value: int | str, name: bytes) -> bool:
    """Whether a place in a ranking comes after another one."""
    own, named = rank
    assert isinstance(own, int) is isinstance(value, int)
    return own < value or (own == value and named.encode() > name)  # type: ignore[operator]
