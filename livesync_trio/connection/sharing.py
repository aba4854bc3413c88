"""Events encoded once, whatever the number of their receivers (invariant 5): publications and pages of history.

What is made of a publication for the first receiver is kept in `Publication.encoded` for the others; only the request
id in front differs, and clients that started alike even share that. Pages of history are kept by `store.history`.
"""

from collections.abc import Callable, Sequence
from typing import Final

from livesync_trio.connection.channel import Message
from livesync_trio.limits import MESSAGE_WHOLE_MAX_BYTES
from livesync_trio.model import Page, Publication, StoredEvent
from livesync_trio.rules.paging import pages
from livesync_trio.wire import rpc, v3
from livesync_trio.wire.events import PAGE_OVERHEAD_BYTES, RPC_ITEM_OVERHEAD_BYTES, rpc_items, v3_items
from livesync_trio.wire.messages import RequestId


class SharedPage:
    """One encoded page, and the chunks made of it so far."""

    __slots__ = ("_chunks", "_response")

    def __init__(self, response: bytes) -> None:
        self._response = response
        self._chunks: dict[bytes, bytes] = {}

    def chunk(self, request_id: RequestId) -> Message:
        """The page as a `Chunk` of a live pull; a large one in parts, so that it is there once however many get it."""
        if len(self._response) > MESSAGE_WHOLE_MAX_BYTES:
            head, tail = rpc.chunk(request_id, _HERE).split(_HERE)
            return head, self._response, tail
        made = self._chunks.get(request_id.json)
        if made is None:
            made = self._chunks[request_id.json] = rpc.chunk(request_id, self._response)
        return made


def rpc_pages(publication: Publication) -> Sequence[SharedPage]:
    """The publication in pages for 0.4 and next, each with `NoMore` (SPEC 3.3, 4.)."""
    made: Sequence[SharedPage] | None = publication.encoded.get("rpc")
    if made is None:
        cut = pages(publication.events, RPC_ITEM_OVERHEAD_BYTES, PAGE_OVERHEAD_BYTES)
        made = [SharedPage(rpc.page(rpc_items(page), 0, publication.state.backend_id)) for page in cut]
        publication.encoded["rpc"] = made
    return made


def filled(empty: bytes, items: bytes) -> Message:
    """A message with a page of history, made of the same message with none.

    Large items stay a buffer of their own, which others may hold as well: they are not copied until they are sent.
    """
    at = empty.index(_BATCH) + len(_BATCH)
    parts = (empty[:at], items, empty[at:])
    return parts if len(items) > MESSAGE_WHOLE_MAX_BYTES else b"".join(parts)


_BATCH: Final = b'"batch":['
_HERE: Final = b"\0"
"""Stands in no JSON text."""


def rpc_history(events: Sequence[StoredEvent]) -> list[Page]:
    """Pages of history for 0.4 and next."""
    return _history(events, rpc_items)


def v3_history(events: Sequence[StoredEvent]) -> list[Page]:
    """Pages of history for 0.3."""
    return _history(events, v3_items)


def _history(events: Sequence[StoredEvent], items: Callable[[Sequence[StoredEvent]], bytes]) -> list[Page]:
    cut = pages(events, RPC_ITEM_OVERHEAD_BYTES, PAGE_OVERHEAD_BYTES)
    return [Page(items(page), page[-1].seq_num, page[-1].ordinal) for page in cut]


def v3_message(publication: Publication) -> bytes:
    """The publication as the one broadcast message of 0.3: the whole batch, nothing remaining (SPEC 5.3)."""
    made: bytes | None = publication.encoded.get("v3")
    if made is None:
        made = v3.broadcast(v3_items(publication.events), publication.request_id)
        publication.encoded["v3"] = made
    return made
