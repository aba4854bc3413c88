"""What becomes of those who wait when a database thread ends, and when storage counts as well again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from livesync_trio.errors import StorageUnavailable
from livesync_trio.model import BackendId, Batch, Event, LogState, StoreId
from livesync_trio.storage import base
from livesync_trio.store import readers as database
from livesync_trio.store import writer as module
from livesync_trio.store.readers import ThreadReaders
from livesync_trio.store.writer import ThreadWriter

STATE = LogState(1, BackendId("backend"), 0, 0)
APPEND = base.Append(StoreId("s"), STATE, (Batch((Event(1, 0, b"{}"),)),), "2026-11-20T00:00:00.000Z")
LIMIT_S = 60.0


class Disk:
    """A handle that does what it is told."""

    def __init__(self) -> None:
        self.inside, self.let_go = threading.Event(), threading.Event()
        self.let_go.set()
        self.error: BaseException | None = None
        self.proofs = 0

    def commit(self, writes: Sequence[base.Write]) -> list[base.Outcome | Exception]:
        self.inside.set()
        self.let_go.wait(LIMIT_S)
        if self.error is not None and any(not isinstance(write, base.OpenStore) for write in writes):
            raise self.error
        return [base.Appended(STATE) if isinstance(write, base.Append) else STATE for write in writes]

    def prove_writable(self) -> None:
        self.proofs += 1
        if self.error is not None:
            raise self.error

    def clear_replaced(self, _: int) -> int:
        return 0

    def close(self) -> None:
        pass


async def becomes(condition: Callable[[], bool]) -> None:
    with trio.fail_after(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - another thread makes it true
            await trio.sleep(0.005)


async def test_a_thread_that_ends_answers_everybody_and_later_ones_are_refused_at_once() -> None:
    disk = Disk()
    disk.let_go.clear()
    disk.error = SystemExit("a library that thinks it is a program")
    writer = ThreadWriter(lambda: disk)
    writer.start()
    refused: list[str] = []

    async def commit(write: base.Write) -> None:
        try:
            await writer.commit(write)
        except StorageUnavailable as error:
            refused.append(str(error))

    with structlog.testing.capture_logs() as logs, trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(commit, APPEND)
            await trio.to_thread.run_sync(disk.inside.wait)
            for _ in range(3):
                nursery.start_soon(commit, APPEND)
            await trio.testing.wait_all_tasks_blocked()
            disk.let_go.set()
        await commit(APPEND)
        assert len(refused) == 5
        assert (writer.healthy, writer.alive) == (False, False)
        assert database.hangs(writer)
        await writer.stop()
    assert [line["event"] for line in logs] == ["the database thread has ended"]


async def test_reading_does_not_make_a_full_disk_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLEAR_INTERVAL_S", 0.005)
    monkeypatch.setattr(module, "STORAGE_RECOVERY_S", 0.0)
    disk = Disk()
    writer = ThreadWriter(lambda: disk)
    writer.start()
    seen: list[bool] = []
    with structlog.testing.capture_logs() as logs:
        disk.error = StorageUnavailable("no room left on the disk")
        for _ in range(20):
            with pytest.raises(StorageUnavailable):
                await writer.commit(APPEND)
            seen.append(writer.healthy)
            await writer.commit(base.OpenStore(StoreId("s")))
            seen.append(writer.healthy)
            proofs = disk.proofs
            await becomes(lambda known=proofs: disk.proofs > known)  # type: ignore[misc]
            seen.append(writer.healthy)
        assert not any(seen)
        disk.error = None
        await becomes(lambda: writer.healthy)
        await writer.stop()
    lines = [line for line in logs if line["log_level"] != "debug"]
    assert [line["event"] for line in lines] == ["storage cannot be written", "storage can be written again"]
    assert lines[0]["reason"] == "no room left on the disk"
    assert "exc_info" not in lines[0]  # a traceback says nothing about a disk


async def test_small_writes_between_large_ones_that_fail_make_nothing_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLEAR_INTERVAL_S", 0.005)
    disk = Disk()
    writer = ThreadWriter(lambda: disk)
    writer.start()
    disk.error = StorageUnavailable("no room left on the disk")
    with pytest.raises(StorageUnavailable):
        await writer.commit(APPEND)
    disk.error = None
    await becomes(lambda: disk.proofs > 3)
    assert not writer.healthy
    await writer.commit(APPEND)
    assert writer.healthy
    await writer.stop()


async def test_a_reader_that_ends_its_thread_refuses_the_question_only() -> None:
    class Ending:
        def state(self, _: StoreId) -> Any:
            raise SystemExit

        def close(self) -> None:
            pass

    readers = ThreadReaders(Ending, 1)  # type: ignore[arg-type]
    with pytest.raises(StorageUnavailable):
        await readers.open()
    with pytest.raises(StorageUnavailable):
        await readers.ask(lambda handle: handle.state(StoreId("s")))
    assert not readers.healthy


class Told:
    """A writer and a reader that are as they are told to be."""

    alive = healthy = works = True
    turn_age_s = 0.0

    def state(self, _: StoreId) -> None:
        if not self.works:
            raise StorageUnavailable("no connection")

    def close(self) -> None:
        pass


async def test_a_hanging_transaction_and_failing_reads_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "STORAGE_WATCH_S", 0.005)
    told = Told()
    readers = ThreadReaders(lambda: told, 1)  # type: ignore[arg-type, return-value]
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            watch: Any = database.watch
            nursery.start_soon(watch, told, readers)
            told.turn_age_s, told.works = 78.0, False
            with pytest.raises(StorageUnavailable):
                await readers.ask(lambda handle: handle.state(StoreId("s")))
            await becomes(lambda: len(logs) == 2)
            assert not readers.healthy
            told.turn_age_s, told.works = 0.0, True
            await becomes(lambda: len(logs) == 4)
            assert readers.healthy
            nursery.cancel_scope.cancel()
    assert {line["event"] for line in logs[:2]} == {"a database thread hangs", "storage cannot be read"}
    assert {line["event"] for line in logs[2:]} == {"the database thread goes on", "storage can be read again"}
