"""How a run of events becomes pages (SPEC 3.5)."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from livesync_trio.limits import PAGE_MAX_BYTES, PAGE_MAX_EVENTS
from livesync_trio.model import StoredEvent
from livesync_trio.wire.events import pages

texts = cache(lambda size: b"x" * size)


def event(number: int, size: int) -> StoredEvent:
    return StoredEvent(number, number, texts(size), "")


sizes = st.one_of(
    st.integers(0, 300),
    st.sampled_from([0, 1, 299_999, 300_000, 449_000, 450_000, 899_000, 899_999, 900_000, 900_001, 1024 * 1024]),
)
runs = st.lists(st.tuples(sizes, st.sampled_from([1, 1, 2, 3, 98, 99, 100, 101, 130])), max_size=4).map(
    lambda groups: [
        event(number, size) for number, size in enumerate([size for size, count in groups for _ in range(count)], 1)
    ]
)
overheads = st.integers(0, 1000)


def size_of(page: list[StoredEvent], event_overhead: int, page_overhead: int) -> int:
    return page_overhead + sum(len(event.json) + event_overhead for event in page)


@given(runs, overheads, overheads)
def test_the_pages_together_are_the_run_and_none_is_empty(run: list[StoredEvent], each: int, once: int) -> None:
    cut = [list(page) for page in pages(run, each, once)]
    assert [event for page in cut for event in page] == run
    assert all(cut)


@given(runs, overheads, overheads)
def test_a_page_keeps_the_limits_unless_it_is_a_single_event(run: list[StoredEvent], each: int, once: int) -> None:
    for page in pages(run, each, once):
        assert len(page) <= PAGE_MAX_EVENTS == 100
        assert len(page) == 1 or size_of(list(page), each, once) <= PAGE_MAX_BYTES == 900_000


@given(runs, overheads, overheads)
def test_a_page_is_as_full_as_it_can_be(run: list[StoredEvent], each: int, once: int) -> None:
    cut = [list(page) for page in pages(run, each, once)]
    for page, following in pairwise(cut):
        fuller = [*page, following[0]]
        assert len(fuller) > PAGE_MAX_EVENTS or size_of(fuller, each, once) > PAGE_MAX_BYTES


def test_nothing_gives_no_page() -> None:
    assert list(pages([], 100, 100)) == []


def test_uniform_pages() -> None:
    assert [len(page) for page in pages([event(n, 10) for n in range(250)], 100, 512)] == [100, 100, 50]


def test_exactly_the_limit_fits_and_one_byte_more_does_not() -> None:
    half = (PAGE_MAX_BYTES - 500) // 2 - 50
    assert [len(page) for page in pages([event(1, half), event(2, half)], 50, 500)] == [2]
    assert [len(page) for page in pages([event(1, half), event(2, half + 1)], 50, 500)] == [1, 1]
    large = event(3, PAGE_MAX_BYTES)
    assert [len(page) for page in pages([large, event(1, half), event(2, half)], 50, 500)] == [1, 2]
    assert [len(page) for page in pages([large, event(1, half), event(2, half + 1)], 50, 500)] == [1, 1, 1]


def test_a_large_event_is_a_page_of_its_own_wherever_it_stands() -> None:
    large, small = 1024 * 1024, 10
    run = [event(n, size) for n, size in enumerate([small, large, small, large, large, small])]
    assert [len(page) for page in pages(run, 100, 500)] == [1, 1, 1, 1, 1, 1]
