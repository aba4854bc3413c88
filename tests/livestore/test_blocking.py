"""A store without Trio: from threads, from asyncio, closed while somebody waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from livesync_trio.livestore import BadEvent, BlockingStore, StoreClosed, StoreError, StoreInUse, open_store_blocking

from . import notebook
from .notebook import NoteWritten

TITLES = "SELECT title FROM notes ORDER BY title"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlockingStore]:
    with open_store_blocking(tmp_path / "a.db", notebook.make_schema(), store_id="s") as opened:
        yield opened


def titles(store: BlockingStore) -> list[str]:
    return [row["title"] for row in store.query(TITLES)]


def test_every_thread_may_use_it(store: BlockingStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: store.commit(NoteWritten(str(number))), range(40)))
    assert len(titles(store)) == 40
    assert (store.sync_status.head, store.sync_status.pending) == (40, 40)


def test_asyncio_programs_call_it_in_threads(store: BlockingStore) -> None:
    async def main() -> list[dict[str, Any]]:
        await asyncio.gather(*[asyncio.to_thread(store.commit, NoteWritten(str(number))) for number in range(5)])
        return await asyncio.to_thread(store.query, TITLES)

    assert asyncio.run(main()) == [{"title": str(number)} for number in range(5)]


def test_watching_gives_rows_whenever_they_change(store: BlockingStore) -> None:
    rows = store.watch(TITLES)
    assert next(rows) == []
    store.commit(NoteWritten("a"))
    assert next(rows) == [{"title": "a"}]


def test_errors_are_those_of_the_store(store: BlockingStore, tmp_path: Path) -> None:
    with pytest.raises(StoreInUse):
        open_store_blocking(tmp_path / "a.db", notebook.make_schema(), store_id="s")
    with pytest.raises(BadEvent):
        store.commit(NoteWritten(7))  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="without a server"):
        store.synced()


def test_waiting_ends_after_the_time_given(tmp_path: Path) -> None:
    with open_store_blocking(
        tmp_path / "b.db", notebook.make_schema(), store_id="s", url="ws://127.0.0.1:1"
    ) as offline:
        offline.commit(NoteWritten("a"))
        with pytest.raises(TimeoutError, match="pending=1"):
            offline.synced(timeout_s=0.01)


def test_closing_lets_go_who_waits_and_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    store = open_store_blocking(tmp_path / "a.db", notebook.make_schema(), store_id="s", url="ws://127.0.0.1:1")
    store.commit(NoteWritten("a"))
    watching, reached = store.watch(TITLES), threading.Event()

    def watch() -> int:
        count = 0
        for _ in watching:
            count += 1
            reached.set()
        return count

    def wait() -> None:
        with pytest.raises(StoreClosed):
            store.synced()

    with ThreadPoolExecutor(2) as threads:
        watched, waited = threads.submit(watch), threads.submit(wait)
        assert reached.wait(20)
        store.close()
        assert watched.result(20) == 1
        waited.result(20)
    store.close()
    with pytest.raises(StoreClosed):
        store.commit(NoteWritten("b"))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("livestore")]
    assert threading.active_count() <= before + 4, "Trio keeps idle threads for a while"
    with open_store_blocking(tmp_path / "a.db", notebook.make_schema(), store_id="s") as again:
        assert titles(again) == ["a"]
