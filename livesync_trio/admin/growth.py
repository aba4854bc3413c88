"""How a store grew: when its log had how many events."""

from typing import Final

from livesync_trio.admin.declaring import Answer, Caller, Request, StoreName, Time
from livesync_trio.admin.server_view import ServerView
from livesync_trio.admin.stores import unknown
from livesync_trio.errors import Refusal
from livesync_trio.limits import READ_MAX_BYTES
from livesync_trio.model import StoreId
from livesync_trio.storage.base import Reader

GROWTH_POINTS: Final = 60
"""Events that are looked at, spread evenly over the log: it costs the same however long that is."""


class AskGrowth(Request, frozen=True):
    """Of which store."""

    store_id: StoreName


class GrowthPoint(Answer, frozen=True):
    """The log had so many events when this one was pushed."""

    at: Time
    seq_num: int
    events: int


class Growth(Answer, frozen=True):
    """Points from the first event to the last."""

    points: list[GrowthPoint]


async def show_growth(server: ServerView, asked: AskGrowth, _caller: Caller) -> Growth | Refusal:
    """How a store grew, by up to 61 of its events."""
    store_id = StoreId(asked.store_id)
    points = await server.readers.ask(lambda reader: _points(reader, store_id))
    return unknown(store_id) if points is None else Growth(points=points)


def _points(reader: Reader, store_id: StoreId) -> list[GrowthPoint] | None:
    state = reader.state(store_id)
    if state is None:
        return None
    points: list[GrowthPoint] = []
    for number in sorted({1 + (state.head - 1) * step // GROWTH_POINTS for step in range(GROWTH_POINTS + 1)}):
        seen = points[-1].seq_num if points else 0
        if number <= seen or number > state.head:
            continue  # numbers may lie far apart
        [event] = reader.read(state, number - 1, state.head, 1, READ_MAX_BYTES)
        points.append(GrowthPoint(at=event.created_at, seq_num=event.seq_num, events=event.ordinal))
    return points
