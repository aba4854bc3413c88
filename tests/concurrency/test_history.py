"""`store.history`: what is read once for a new client is not read again for the next, and memory stays bounded."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from livesync_trio.errors import LogReplaced
from livesync_trio.model import BackendId, LogState, Page, StoredEvent, StoreId
from livesync_trio.storage import base
from livesync_trio.store.history import History

AT_ONCE = 10
EVENT_BYTES = 100
A, B = (LogState(number, BackendId("x"), 95, 95) for number in (1, 2))


class CountingReaders:
    """A log of 95 events, ten at a time."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.replaced = False

    async def read(self, log: LogState, after: int, up_to: int) -> list[StoredEvent]:
        self.asked.append((log.log_id, after))
        if self.replaced:
            raise LogReplaced
        last = min(up_to, after + AT_ONCE)
        return [StoredEvent(number, number, b"x" * EVENT_BYTES, "") for number in range(after + 1, last + 1)]

    async def numbers_of(self, log: LogState, append_ids: Sequence[str]) -> dict[str, int]:
        raise AssertionError("nobody asks")

    async def summary(self, store_id: StoreId) -> base.StoreSummary | None:
        raise AssertionError("nobody asks")

    def close(self) -> None:
        pass


def plain(events: Sequence[StoredEvent]) -> list[Page]:
    """Pages of four events."""
    runs = [events[start : start + 4] for start in range(0, len(events), 4)]
    return [Page(b"".join(event.json for event in run), run[-1].seq_num, run[-1].ordinal) for run in runs]


def other(events: Sequence[StoredEvent]) -> list[Page]:
    """Another generation's."""
    return plain(events)


async def pull(history: History, log: LogState = A, after: int = 0, up_to: int = 95) -> list[int]:
    """Last numbers of the pages up to the end."""
    ends = []
    while after < up_to:
        pages = await history.pages(log, after, up_to, plain)
        ends += [page.last_seq_num for page in pages]
        after = ends[-1]
    return ends


async def test_the_second_new_client_costs_one_read() -> None:
    readers = CountingReaders()
    history = History(readers)
    first = await pull(history)
    assert first == [end for start in range(0, 90, 10) for end in (start + 4, start + 8, start + 10)] + [94, 95]
    assert len(readers.asked) == 10
    assert await pull(history) == first
    assert readers.asked[10:] == [(1, 90)]  # the tail grows, so it is read each time
    assert history.kept_bytes == 90 * EVENT_BYTES


async def test_who_comes_back_is_read_for_alone() -> None:
    readers = CountingReaders()
    history = History(readers)
    assert (await pull(history, after=5))[-1] == (await pull(history, after=5))[-1] == 95
    assert len(readers.asked) == 18
    assert history.kept_bytes == 0


async def test_nothing_beyond_what_was_registered() -> None:
    """A pull registered at an older head must not be told of more, though it is kept."""
    readers = CountingReaders()
    history = History(readers)
    await pull(history)
    assert await pull(history, up_to=15) == [4, 8, 10, 14, 15]
    assert await pull(history, up_to=20) == [4, 8, 10, 14, 18, 20]
    assert readers.asked[10:] == [(1, 10)]


async def test_each_generation_has_its_own_form() -> None:
    readers = CountingReaders()
    history = History(readers)
    await history.pages(A, 0, 95, plain)
    await history.pages(A, 0, 95, other)
    assert len(readers.asked) == 2


async def test_a_reset_log_is_another_one() -> None:
    readers = CountingReaders()
    history = History(readers)
    await history.pages(A, 0, 95, plain)
    readers.replaced = True
    with pytest.raises(LogReplaced):
        await history.pages(B, 0, 95, plain)


async def test_memory_is_bounded_and_the_least_wanted_log_goes() -> None:
    readers = CountingReaders()
    history = History(readers, kept_max_bytes=50 * EVENT_BYTES)
    await pull(history, A)
    assert history.kept_bytes == 50 * EVENT_BYTES
    before = len(readers.asked)
    await pull(history, A)
    assert len(readers.asked) == before + 5  # its beginning was not driven out by its own end
    await pull(history, B)
    assert history.kept_bytes == 50 * EVENT_BYTES
    before = len(readers.asked)
    await pull(history, B)
    assert len(readers.asked) == before + 5
    await pull(history, A)
    assert len(readers.asked) == before + 5 + 10
