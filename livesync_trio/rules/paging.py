"""How a run of events becomes pages (SPEC 3.5)."""

from collections.abc import Iterator, Sequence

from livesync_trio.limits import PAGE_MAX_BYTES, PAGE_MAX_EVENTS
from livesync_trio.model import StoredEvent


def pages(
    events: Sequence[StoredEvent], event_overhead_bytes: int, page_overhead_bytes: int
) -> Iterator[Sequence[StoredEvent]]:
    """Cut a run of events into pages of at most 100 events and 900,000 encoded bytes.

    Greedy: events are added until one limit would be exceeded. A single event above the limit is a page of its own.

    Args:
        events: the run; empty gives no page.
        event_overhead_bytes: bytes an event costs on a page beyond its text.
        page_overhead_bytes: bytes of a page beyond its events.
    """
    start, size = 0, page_overhead_bytes
    for index, event in enumerate(events):
        event_bytes = len(event.json) + event_overhead_bytes
        if index > start and (index - start == PAGE_MAX_EVENTS or size + event_bytes > PAGE_MAX_BYTES):
            yield events[start:index]
            start, size = index, page_overhead_bytes
        size += event_bytes
    if start < len(events):
        yield events[start:]
