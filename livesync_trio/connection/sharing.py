"""A publication encoded once, whatever the number of its receivers (design.md, law 5).

What is made for the first receiver is kept in `Publication.encoded` for the others; only the request id in front
differs, and clients that started alike even share that.
"""

from collections.abc import Sequence

from livesync_trio.log.paging import pages
from livesync_trio.model import Publication
from livesync_trio.wire import rpc, v3
from livesync_trio.wire.events import PAGE_OVERHEAD_BYTES, RPC_ITEM_OVERHEAD_BYTES
from livesync_trio.wire.messages import RequestId


class SharedPage:
    """One encoded page, and the chunks made of it so far."""

    __slots__ = ("_chunks", "_response")

    def __init__(self, response: bytes) -> None:
        self._response = response
        self._chunks: dict[bytes, bytes] = {}

    def chunk(self, request_id: RequestId) -> bytes:
        """The page as a `Chunk` of a live pull."""
        made = self._chunks.get(request_id.json)
        if made is None:
            made = self._chunks[request_id.json] = rpc.chunk(request_id, self._response)
        return made


def rpc_pages(publication: Publication) -> Sequence[SharedPage]:
    """The publication in pages for 0.4 and next, each with `NoMore` (SPEC 3.3, 4.)."""
    made: Sequence[SharedPage] | None = publication.encoded.get("rpc")
    if made is None:
        cut = pages(publication.events, RPC_ITEM_OVERHEAD_BYTES, PAGE_OVERHEAD_BYTES)
        made = [SharedPage(rpc.page(page, 0, publication.state.backend_id)) for page in cut]
        publication.encoded["rpc"] = made
    return made


def v3_message(publication: Publication) -> bytes:
    """The publication as the one broadcast message of 0.3: the whole batch, nothing remaining (SPEC 5.3)."""
    made: bytes | None = publication.encoded.get("v3")
    if made is None:
        made = v3.pull_res(publication.events, 0, b"push", publication.request_id)
        publication.encoded["v3"] = made
    return made
