"""Events of a store as a page of JSON, or all of them as lines of it; read in a reader thread, so much at a time."""

import gzip
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Final

import attrs
import msgspec
import trio
from msgspec import UNSET

from livesync_trio.api.declaring import CutShort, Whole
from livesync_trio.api.headers import etag
from livesync_trio.api.server import ApiServer
from livesync_trio.api.structs import ListEvents
from livesync_trio.errors import LogReplaced, Refusal, StorageUnavailable, StoreDamaged
from livesync_trio.limits import API_PAGE, API_PAGE_BYTES, GZIP_LEVEL, GZIP_MIN_BYTES, READ_MAX_BYTES, READ_MAX_EVENTS
from livesync_trio.model import LogState, Publication, StoredEvent, StoreId
from livesync_trio.storage.base import Reader
from livesync_trio.store.commands import Registered
from livesync_trio.store.handle import StoreHandle
from livesync_trio.wire.choice import Choice
from livesync_trio.wire.plain import plain_lines, plain_text

GZIP: Final = ("content-encoding", "gzip")
_GZIP_WINDOW: Final = 31
"""zlib's way to ask for the frame of gzip."""


@attrs.frozen
class Page:
    """A page as it is sent.

    Attributes:
        state: the store when it was read.
        events: how many there are.
        seen: number of the last event that was looked at.
        body: JSON, perhaps compressed.
    """

    state: LogState
    events: int
    seen: int
    body: bytes

    @property
    def at_head(self) -> bool:
        """Whether there is nothing behind it."""
        return self.seen >= self.state.head


def choice(asked: ListEvents) -> Choice:
    """Which events are wanted."""
    return Choice(asked.type or None, None, None, asked.since or None, asked.until or None)


def page(reader: Reader, store_id: StoreId, asked: ListEvents, compressed: bool) -> Page | None:
    """Read a page, in a reader thread. None: there is no such store.

    A page may be empty although another one follows: each looks at a bounded part of the log.

    Raises:
        LogReplaced, StoreDamaged, StorageUnavailable: as `Reader.read`.
    """
    state = reader.state(store_id)
    if state is None:
        return None
    limit = API_PAGE if asked.limit is UNSET else asked.limit
    taken: list[bytes] = []
    wanted, size_bytes, seen = choice(asked), 0, asked.after
    for event in reader.read(state, asked.after, state.head, READ_MAX_EVENTS, API_PAGE_BYTES):
        if wanted.takes(event):
            text = plain_text(event)
            if taken and size_bytes + len(text) > API_PAGE_BYTES:
                break
            taken.append(text)
            size_bytes += len(text)
        seen = event.seq_num
        if len(taken) == limit:
            break
    body = b'{"events":[%b],"next":%b,"head":%d,"backendId":%b}' % (
        b",".join(taken),
        b"null" if seen >= state.head else b"%d" % seen,
        state.head,
        msgspec.json.encode(state.backend_id.encode(errors="replace").decode()),
    )
    return Page(state, len(taken), seen, gzip.compress(body, GZIP_LEVEL, mtime=0) if compressed else body)


def answer(found: Page, *, compressed: bool) -> Whole:
    """A page as an answer."""
    return Whole(found.body, etag=etag(found.state.cursor), headers=[GZIP] if compressed else [])


def squeezed(whole: Whole, *, wanted: bool) -> Whole:
    """A small answer compressed, where that is worth it."""
    if not wanted or len(whole.body) < GZIP_MIN_BYTES:
        return whole
    return attrs.evolve(whole, body=gzip.compress(whole.body, GZIP_LEVEL, mtime=0), headers=[*whole.headers, GZIP])


# --- waiting for something new ---------------------------------------------------------------------------------------


class Arrival:
    """Waits for the next change of a store (`followers.Follower`): it takes nothing, and is let go with the first."""

    def __init__(self) -> None:
        self._came = trio.Event()

    def offer(self, _publication: Publication) -> bool:
        """There is something."""
        self._came.set()
        return False

    def dropped(self) -> None:
        """There may be something."""
        self._came.set()

    def replaced(self, _state: LogState) -> None:
        """There is another log."""
        self._came.set()

    def gone(self) -> None:
        """There is none."""
        self._came.set()

    def end_soon(self) -> None:
        """The server shuts down."""
        self._came.set()

    async def wait_behind(self, handle: StoreHandle, state: LogState) -> Refusal | None:
        """Wait until the store is no longer in this state, as far as anybody knows."""
        registered = await handle.register(state.cursor, self)
        try:
            if isinstance(registered, Registered) and registered.following:
                await self._came.wait()
        finally:
            handle.leave(self)
        return registered if isinstance(registered, Refusal) else None


# --- the whole log ---------------------------------------------------------------------------------------------------


async def lines(
    server: ApiServer, state: LogState, asked: ListEvents, limit: int | None, *, compressed: bool
) -> AsyncGenerator[bytes, None]:
    """All events behind a number, up to the head `state`, as lines; one reading at a time is held in memory.

    Raises:
        CutShort: the log cannot be read to its end.
    """
    sending, seen, left = server.shared.memory.sending, asked.after, limit
    wanted, squeeze = choice(asked), zlib.compressobj(GZIP_LEVEL, wbits=_GZIP_WINDOW) if compressed else None

    def part(reader: Reader) -> tuple[bytes, int, int | None]:
        """The next reading: its lines, the number of its last event, how many may still come."""
        events = reader.read(state, seen, state.head, READ_MAX_EVENTS, READ_MAX_BYTES)
        taken = [event for event in events if wanted.takes(event)][:left]
        text = plain_lines(taken)
        more = None if left is None else left - len(taken)
        return text if squeeze is None else squeeze.compress(text), events[-1].seq_num, more

    while seen < state.head and left != 0:
        held_bytes = 0
        try:
            async with sending.reading():
                await sending.wait_for(READ_MAX_BYTES)
                held_bytes = READ_MAX_BYTES
                text, seen, left = await server.readers.ask(part)
                more_bytes = max(0, len(text) - held_bytes)  # a single event may be larger
                sending.take(more_bytes)
                held_bytes += more_bytes
            yield text
        except (LogReplaced, StorageUnavailable, StoreDamaged, IndexError) as error:
            raise CutShort(str(error)) from error
        finally:
            sending.give_back(held_bytes)
    if squeeze is not None:
        yield squeeze.flush()


Read = Callable[[Reader], Page | None]


def reading(store_id: StoreId, asked: ListEvents, *, compressed: bool) -> Read:
    """What a reader thread is asked for a page."""
    return partial(page, store_id=store_id, asked=asked, compressed=compressed)


def wanted_only(asked: ListEvents, events: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
    """Those of the events that are wanted."""
    wanted = choice(asked)
    return [event for event in events if wanted.takes(event)]
