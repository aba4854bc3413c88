"""A store's whole log, read step by step for somebody who waits: checked, or written out as an export.

Owns how such a walk is divided. A step is a bounded question to one of the control plane's readers; whoever stops
listening ends the walk with it, and nothing goes on behind their back.
"""

from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import aclosing
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from livesync_trio.admin.declaring import JSON_LINES, Caller, Request, StoreName, Stream
from livesync_trio.admin.server_view import ServerView
from livesync_trio.admin.stores import unknown
from livesync_trio.archive.jsonl import Header, Sections
from livesync_trio.archive.reading import log_entries
from livesync_trio.archive.verifying import look_through
from livesync_trio.errors import Kind, LogReplaced, Refusal, StorageUnavailable, StoreDamaged
from livesync_trio.model import LogState, StoredEvent, StoreId
from livesync_trio.storage.base import Reader, StoreSummary
from livesync_trio.telemetry import get_logger

WALKS_MAX: Final = 4
"""Walks at the same time; each takes a reader for a step now and then."""

CHUNK_BYTES: Final = 256 * 1024
"""Of an export, sent at once."""

_log = get_logger("admin")
_T = TypeVar("_T")
_BUSY: Final = Refusal(Kind.TOO_MANY_REQUESTS, f"{WALKS_MAX} stores are being read as a whole already. Wait for one.")


class WalkStore(Request, frozen=True):
    """Which store."""

    store_id: StoreName


async def verify_store(server: ServerView, asked: WalkStore, caller: Caller) -> Stream | Refusal:
    """Check every invariant of a store's log, as `livesync verify` does: progress, then a verdict, as events."""
    summary = await _begun(server, StoreId(asked.store_id), caller)
    return summary if isinstance(summary, Refusal) else Stream(_verified(server, summary))


async def export_store(server: ServerView, asked: WalkStore, caller: Caller) -> Stream | Refusal:
    """A store as a file that `livesync restore` and `livesync import` read.

    The log up to the head of this moment. Only a file that ends with a line `endOfFile` is whole.
    """
    summary = await _begun(server, StoreId(asked.store_id), caller)
    if isinstance(summary, Refusal):
        return summary
    store_id = summary.store_id
    server.audit.record("export", store=store_id, address=caller.address, user=caller.user, via="control plane")
    name = quote(f"{store_id[:80]}.jsonl".encode(errors="replace"), safe="")
    caller.answer_headers.append(("content-disposition", f"attachment; filename*=UTF-8''{name}"))
    return Stream(_exported(server, summary), JSON_LINES)


async def _begun(server: ServerView, store_id: StoreId, caller: Caller) -> StoreSummary | Refusal:
    """What is to be walked through, once there is room for it, which is given back when the answer has ended."""
    summary = await server.readers.ask(lambda reader: reader.summary(store_id))
    if summary is None:
        return unknown(store_id)
    if server.walks >= WALKS_MAX:
        return _BUSY

    def ended() -> None:
        server.walks -= 1

    server.walks += 1
    caller.until_answered.callback(ended)
    return summary


async def _verified(server: ServerView, summary: StoreSummary) -> AsyncGenerator[bytes, None]:
    total = summary.state.event_count
    verdict: list[str | None] = []

    def steps(reader: Reader) -> Generator[int, None, None]:
        verdict.append((yield from look_through(reader, summary)))

    problem: str | None
    try:
        async with aclosing(_steps(server, steps)) as pauses:
            async for done in pauses:
                yield b"data: %b\n\n" % msgspec.json.encode({"done": done, "total": total})
        [problem] = verdict
    except LogReplaced:
        problem = "The store was reset or replaced meanwhile. Verify it again."
    except StorageUnavailable as error:
        problem = f"The database cannot be read: {str(error).rstrip('.')}."
    told = {"storeId": summary.store_id, "events": total, "head": summary.state.head, "problem": problem}
    yield b"event: verdict\ndata: %b\n\n" % msgspec.json.encode(told)


async def _exported(server: ServerView, summary: StoreSummary) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(_steps(server, lambda reader: _chunks(reader, summary.store_id, summary.state))) as chunks:
            async for chunk in chunks:
                yield chunk
    except (LogReplaced, StorageUnavailable, StoreDamaged) as error:
        _log.error("export ended early", store=summary.store_id, reason=str(error))


def _chunks(reader: Reader, store_id: StoreId, log: LogState) -> Iterator[bytes]:
    sections, header = Sections(), Header(store_id, log.backend_id, log.head, log.event_count)
    pending = bytearray(sections.begin(header))
    for entry in log_entries(reader, store_id, log):
        pending += sections.entry(entry)
        if len(pending) >= CHUNK_BYTES:
            yield bytes(pending)
            pending.clear()
    yield bytes(pending) + sections.end(header) + sections.file_end()


class _Lent:
    """A reader that is another one in each step; the walk between the steps keeps none."""

    handle: Reader

    def read(self, *range_: Any) -> list[StoredEvent]:
        return self.handle.read(*range_)


async def _steps(server: ServerView, walk: Callable[[Reader], Iterator[_T]]) -> AsyncGenerator[_T, None]:
    """What a walk gives, each of it fetched in a reader's thread."""
    lent = _Lent()
    steps = walk(lent)  # type: ignore[arg-type] # a walk through a log reads, and asks nothing else
    over = object()

    def step(handle: Reader) -> Any:
        lent.handle = handle
        return next(steps, over)

    while (given := await server.readers.ask(step)) is not over:
        yield given
