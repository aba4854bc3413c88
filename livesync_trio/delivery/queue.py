"""Which stores have something to deliver, and when each is to be tried next.

Owns the queue of one webhook. A store is in it once, whatever happens to it; stores that are due are served in turn, so
that a long log holds up no other. It is bounded: what finds no room is found again by comparing heads and cursors.
"""

import heapq
import itertools
import math

import attrs
import trio

from livesync_trio.model import StoreId


@attrs.define
class _Item:
    """A store. `turn` is that of its entry in the queue; None while somebody works on it."""

    since_s: float
    turn: int | None = None
    again: bool = False
    waited: bool = False


class DeliveryQueue:
    """The stores of one webhook that are behind. Used in the Trio thread only."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: dict[StoreId, _Item] = {}  # in the order in which they fell behind
        self._queue: list[tuple[float, int, StoreId]] = []
        self._turns = itertools.count()
        self._news = trio.Event()
        self._closed = False
        self.missed = trio.Event()
        """Set when a store found no room."""

    def __len__(self) -> int:
        return len(self._items)

    @property
    def lag_s(self) -> float:
        """For how long the store that is longest behind has been so; 0 when none is."""
        oldest = next(iter(self._items.values()), None)
        return 0.0 if oldest is None else trio.current_time() - oldest.since_s

    def put(self, store_id: StoreId) -> None:
        """A store may have something new. One that waits for its next attempt goes on waiting."""
        item = self._items.get(store_id)
        if item is not None:
            item.again = True
        elif len(self._items) >= self._limit:
            self.missed.set()
        else:
            item = self._items[store_id] = _Item(trio.current_time())
            self._enter(store_id, item, trio.current_time())

    def close(self) -> None:
        """Give no more stores out."""
        self._closed = True
        self._tell()

    async def take(self) -> tuple[StoreId, bool] | None:
        """Wait for a store that is due: which, and whether it has waited here since its last attempt. None: closed."""
        while not self._closed:
            due_s = self._queue[0][0] if self._queue else math.inf
            if due_s <= trio.current_time():
                _, turn, store_id = heapq.heappop(self._queue)
                item = self._items[store_id]
                assert item.turn == turn
                item.turn, item.again = None, False
                return store_id, item.waited
            with trio.move_on_at(due_s):
                await self._news.wait()
        return None

    def caught_up(self, store_id: StoreId) -> None:
        """Nothing is left to deliver of a store that was taken, unless something came meanwhile."""
        item = self._items[store_id]
        if item.again:
            self.next_turn(store_id)
        else:
            del self._items[store_id]

    def next_turn(self, store_id: StoreId) -> None:
        """There is more of a store that was taken: it is due when the others have had their turn."""
        item = self._items.pop(store_id)
        item.since_s, item.waited = trio.current_time(), False
        self._items[store_id] = item
        self._enter(store_id, item, trio.current_time())

    def later(self, store_id: StoreId, pause_s: float) -> None:
        """A store that was taken is to be tried again after a pause."""
        item = self._items[store_id]
        item.waited = True
        self._enter(store_id, item, trio.current_time() + pause_s)

    def _enter(self, store_id: StoreId, item: _Item, due_s: float) -> None:
        item.turn = next(self._turns)
        heapq.heappush(self._queue, (due_s, item.turn, store_id))
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()
