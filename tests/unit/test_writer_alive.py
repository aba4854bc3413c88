"""When the database thread counts as lost, which only a restart helps."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import trio

from livesync_trio.errors import StorageUnavailable
from livesync_trio.storage import base
from livesync_trio.store import writer as module
from livesync_trio.store.writer import ThreadWriter


class Handle:
    """Stands still in the database until it is let go."""

    def __init__(self) -> None:
        self.inside, self.let_go = threading.Event(), threading.Event()
        self.error: BaseException | None = None

    def commit(self, writes: Sequence[base.Write]) -> list[base.Outcome | Exception]:
        return [StorageUnavailable("not asked here") for _ in writes]

    def prove_writable(self) -> None:
        pass

    def clear_replaced(self, _: int) -> bool:
        self.inside.set()
        self.let_go.wait()
        if self.error is not None:
            raise self.error
        return False

    def close(self) -> None:
        pass


async def test_a_thread_that_hangs_in_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLEAR_INTERVAL_S", 0.01)
    handle = Handle()
    writer = ThreadWriter(lambda: handle)
    writer.start()
    await trio.to_thread.run_sync(handle.inside.wait)
    assert writer.alive
    monkeypatch.setattr(module, "WRITER_HUNG_S", 0.0)
    assert not writer.alive
    handle.let_go.set()
    await writer.stop()
    assert writer.alive


async def test_a_database_that_is_down_is_no_such_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLEAR_INTERVAL_S", 0.01)
    handle = Handle()
    handle.error = StorageUnavailable("down")
    handle.let_go.set()
    writer = ThreadWriter(lambda: handle)
    writer.start()
    await trio.to_thread.run_sync(handle.inside.wait)
    handle.inside.clear()
    await trio.to_thread.run_sync(handle.inside.wait)  # it has tried again
    assert (writer.healthy, writer.alive) == (False, True)
    await writer.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLEAR_INTERVAL_S", 0.01)
    handle = Handle()
    handle.error = SystemExit()
    writer = ThreadWriter(lambda: handle)
    writer.start()
    await trio.to_thread.run_sync(handle.inside.wait)
    thread = writer._thread
    assert thread is not None
    handle.let_go.set()
    await trio.to_thread.run_sync(thread.join)
    assert not writer.alive
    await writer.stop()
