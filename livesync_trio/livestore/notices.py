"""How tasks of a program learn that something about its store has changed."""

from collections.abc import Callable, Iterable

import attrs
import trio


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
        self.watchers: set[Watcher] = set()

    def tell(self, changed_tables: Iterable[str] = ()) -> None:
        """Something has changed, these tables among it."""
        changed = frozenset(changed_tables)
        for watcher in self.watchers:
            if not watcher.is_stale and not changed.isdisjoint(watcher.tables):
                watcher.is_stale = True
        self._event.set()
        self._event = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds."""
        while not condition():
            await self._event.wait()
