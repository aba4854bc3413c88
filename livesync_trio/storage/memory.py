"""Engine that keeps everything in memory: for tests, verified by the same suite as the databases.

Owns the logs of one process. Durable means here: until the engine is dropped; closing and opening it again keeps the
logs. It never pretends more than the contract promises, so that what passes on it passes on a database.
"""

from bisect import bisect_right
from collections.abc import Sequence

# Handles of one engine are used by several threads (base.py); nothing is started here.
from threading import Lock  # noqa: TID251

import attrs

from livesync_trio.errors import LogReplaced, StorageUnavailable
from livesync_trio.model import ROOT_SEQ_NUM, BackendId, LogState, StoredEvent, StoreId
from livesync_trio.storage.base import Append, Appended, HeadMoved, OpenStore, Outcome, Reset, Write
from livesync_trio.storage.chain import chained_events, is_expected, new_backend_id, state_after


@attrs.define
class _Log:
    """One log; `seq_nums[i]` is the number of `events[i]`, kept apart so that it can be bisected."""

    log_id: int
    backend_id: BackendId
    seq_nums: list[int] = attrs.Factory(list)
    events: list[StoredEvent] = attrs.Factory(list)

    @property
    def state(self) -> LogState:
        head = self.seq_nums[-1] if self.seq_nums else ROOT_SEQ_NUM
        return LogState(self.log_id, self.backend_id, head, len(self.events))


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


class MemoryEngine:
    """Keeps logs in memory (`base.Engine`)."""

    name = "memory"

    def __init__(self) -> None:
        self._data = _Data()

    def open(self) -> None:
        """Nothing to open."""

    def writer(self) -> "MemoryWriter":
        """A writing handle."""
        return MemoryWriter(self._data)

    def reader(self) -> "MemoryReader":
        """A reading handle."""
        return MemoryReader(self._data)

    def describe(self) -> str:
        """Where the data is."""
        return "memory, gone when the process ends"

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
            return [self._carry_out(write) for write in writes]

    def _carry_out(self, write: Write) -> Outcome | Exception:
        try:
            write.store_id.encode()  # as every database would
            match write:
                case OpenStore():
                    return self._opened(write.store_id).state
                case Append():
                    return self._append(write)
                case Reset():
                    return self._reset(write.store_id)
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
        added = list(chained_events(append))
        log = self._opened(append.store_id)
        if not is_expected(log.state, append.expected):
            return HeadMoved(log.state)
        log.seq_nums.extend(event.seq_num for event in added)
        log.events.extend(
            StoredEvent(event.seq_num, ordinal, event.json, append.created_at)
            for ordinal, event in enumerate(added, len(log.events) + 1)
        )
        return Appended(state_after(append))

    def _reset(self, store_id: StoreId) -> LogState:
        old = self._data.logs.get(store_id)
        if old is not None:
            del self._data.current[old.log_id]
            if old.events:
                self._data.replaced.append(old)
        return self._new_log(store_id).state

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

    def close(self) -> None:
        """Release the handle."""
        self._closed = True


def _check_open(closed: bool) -> None:
    """As a database would: a closed handle answers nothing."""
    if closed:
        raise StorageUnavailable("the handle is closed")
