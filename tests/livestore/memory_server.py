"""A server in memory, and a client for it that keeps to what `livesync_trio.client` promises of `Backend`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

import trio

from livesync_trio.client import BackendIdMismatch, Event, InvalidPush, Page, Position, ServerAhead, SyncError


class MemoryServer:
    """One log. It can be cut off, reset, made to refuse, and to lose its acknowledgements."""

    def __init__(self, page_events: int = 100) -> None:
        self.log: list[Event] = []
        self.backend_id = "first"
        self.page_events = page_events
        self.online = True
        self.refusal: SyncError | None = None
        self.lost_answers = 0
        self.resets_at_push = 0
        self.pushes: list[int] = []
        self._changed = trio.Event()

    @property
    def head(self) -> int:
        return self.log[-1].seq_num if self.log else 0

    def write(self, name: str, args: bytes) -> None:
        """Somebody else commits."""
        self.log.append(Event(self.head + 1, self.head, name, args, "other", "static"))
        self.tell()

    def reset(self) -> None:
        self.log, self.backend_id = [], self.backend_id + "'"
        self.tell()

    def tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def cut(self) -> None:
        self.online = False

    def restore(self) -> None:
        self.online = True
        self.tell()

    async def reachable(self) -> None:
        while not self.online:
            await self._changed.wait()

    async def changed(self) -> None:
        await self._changed.wait()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Any]:
        yield MemoryBackend(self)


class MemoryBackend:
    failure: SyncError | None = None

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    @property
    def is_connected(self) -> bool:
        return self._server.online

    def pull(self, after: Position, *, live: bool = True) -> MemoryPull:
        assert live
        return MemoryPull(self._server, after)

    async def push(self, events: Sequence[Event], *, backend_id: str | None = None) -> None:
        server = self._server
        await server.reachable()
        await trio.sleep(0.01)
        server.pushes.append(len(events))
        if server.refusal is not None:
            raise server.refusal
        if server.resets_at_push:
            server.resets_at_push -= 1
            server.reset()
        if backend_id not in (None, server.backend_id):
            raise BackendIdMismatch("another", server.backend_id, backend_id)
        if events[0].parent_seq_num != server.head:
            raise ServerAhead("ahead", server.head, events[0].parent_seq_num)
        server.log.extend(events)
        server.tell()
        if server.lost_answers:
            server.lost_answers -= 1
            raise InvalidPush("whatever the answer was")


class MemoryPull:
    def __init__(self, server: MemoryServer, after: Position) -> None:
        self._server, self._after, self._first = server, after, True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Page:
        server = self._server
        await trio.sleep(0.01)
        while True:
            await server.reachable()
            if self._after.backend_id not in (None, server.backend_id):
                raise BackendIdMismatch("another", server.backend_id, self._after.backend_id or "")
            news = [event for event in server.log if event.seq_num > self._after.seq_num]
            if news or self._first:
                break
            await server.changed()
        self._first = False
        events = tuple(news[: server.page_events])
        head = events[-1].seq_num if events else self._after.seq_num
        self._after = Position(head, server.backend_id)
        return Page(events, len(news) - len(events), server.backend_id, head)
