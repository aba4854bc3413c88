"""How tasks of a program learn that something about its store has changed."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar
from weakref import WeakSet

import attrs
import trio

T = TypeVar("T")


class Live(AsyncIterator[T]):
    """What comes now, and what comes later. May be left at any moment: nothing has to be closed."""

    def __init__(self, take: Callable[[], Awaitable[T | None]]) -> None:
        """`take` waits for the next one; None when there will be no other."""
        self._take = take

    async def __anext__(self) -> T:
        await trio.lowlevel.checkpoint()
        one = await self._take()
        if one is None:
            raise StopAsyncIteration
        return one


@attrs.define(eq=False)
class Watcher:
    """A query somebody waits for.

    Attributes:
        tables: those it reads.
        is_stale: whether one of them has changed since it was last read.
    """

    tables: frozenset[str]
    is_stale: bool = True


class Notices:
    """Wakes whoever waits, who then looks for itself: news that nobody has taken yet is told once."""

    def __init__(self) -> None:
        self._event = trio.Event()
        self._watchers = WeakSet[Watcher]()

    def watcher(self, tables: frozenset[str]) -> Watcher:
        """Somebody watches these tables, for as long as it keeps what it gets."""
        watcher = Watcher(tables)
        self._watchers.add(watcher)
        return watcher

    def tell(self, changed_tables: Iterable[str] = ()) -> None:
        """Something has changed, these tables among it."""
        changed = frozenset(changed_tables)
        for watcher in self._watchers:
            if not watcher.is_stale and not changed.isdisjoint(watcher.tables):
                watcher.is_stale = True
        self._event.set()
        self._event = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds."""
        while not condition():
            await self._event.wait()
