"""Stores: which there are, how each is and how it grew."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from livesync_trio.admin.declaring import PAGE, Answer, Caller, Limit, Request, StoreName, Time, refused
from livesync_trio.admin.server_view import ServerView
from livesync_trio.connection.pushing import NewIds
from livesync_trio.errors import Kind, Refusal
from livesync_trio.limits import READ_MAX_BYTES
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import Rank, Reader, StoreOrder, StoreSummary, rank_of
from livesync_trio.wire.plain import drafts_of_json
from livesync_trio.wire.reading import Unreadable

Sort = Literal["name", "size", "head", "lastPush", "connections"]
_DIGITS_MAX: Final = 19
_ORDERS: Final[dict[str, StoreOrder]] = {"size": "size", "head": "head", "lastPush": "last push"}


class ListStores(Request, frozen=True):
    """Which stores."""

    containing: Annotated[str, Meta(description="Stores whose name has this text in it only.")] = ""
    after: Annotated[str, Meta(description="Stores behind this place only; what `next` said.")] = ""
    sort: Annotated[
        Sort,
        Meta(
            description="By name, or the largest, longest, latest or most used first. `after` is a name, or what "
            "`next` said. Sorted by connections, only stores with a connection to this server are listed."
        ),
    ] = "name"
    limit: Limit = PAGE


class ShowStore(Request, frozen=True):
    """Which store."""

    store_id: StoreName


class Store(Answer, frozen=True):
    """One store."""

    store_id: str
    head: int
    backend_id: str
    events: int
    bytes: int
    created_at: Time
    last_push_at: Time | None
    frozen: bool
    active: bool
    peers: int


class StorePage(Answer, frozen=True):
    """Some stores, and where the next page begins."""

    stores: list[Store]
    next: str | None


class AppendTest(Request, frozen=True):
    """A test event for a store: its name, and its args as JSON."""

    store_id: str
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    args: msgspec.Raw


class AppendedTest(Answer, frozen=True):
    """The event is durable."""

    store_id: str
    seq_num: int


async def list_stores(server: ServerView, asked: ListStores, _caller: Caller) -> StorePage:
    """Stores in the order of their names, or by what they hold, page by page."""
    connected = _connected(server)
    if asked.sort == "connections":
        ranked = sorted((-count, name) for name, count in connected.items() if asked.containing in name)
        place = _place(asked.after)
        names = [name for count, name in ranked if place is None or (count, name) > (-int(place[0]), place[1])]
        found = await server.readers.ask(lambda reader: _summaries(reader, names[: asked.limit + 1]))
    elif asked.sort == "name":
        after = StoreId(asked.after) if asked.after else None
        found = await server.readers.ask(lambda reader: reader.stores(after, asked.limit + 1, asked.containing))
    else:
        order, behind = _ORDERS[asked.sort], _place(asked.after)
        found = await server.readers.ask(
            lambda reader: reader.ranked(order, behind, asked.limit + 1, asked.containing),
        )
    shown = found[: asked.limit]
    more = _place_of(shown[-1], asked.sort, connected) if len(found) > asked.limit else None
    return StorePage(stores=[_told(server, summary, connected) for summary in shown], next=more)


def _place_of(summary: StoreSummary, sort: Sort, connected: Mapping[str, int]) -> str:
    """Where the next page begins."""
    if sort == "name":
        return summary.store_id
    value = connected[summary.store_id] if sort == "connections" else rank_of(summary, _ORDERS[sort])[0]
    return f"{value}/{summary.store_id}"


def _place(after: str) -> Rank | None:
    """What `_place_of` wrote."""
    value, _, name = after.partition("/")
    if not after:
        return None
    return int(value) if value.isascii() and value.isdigit() and len(value) < _DIGITS_MAX else value, StoreId(name)


def _summaries(reader: Reader, names: Iterable[str]) -> list[StoreSummary]:
    """Those that have been written to; a store that was only connected to is not there yet."""
    found = (reader.summary(StoreId(name)) for name in names)
    return [summary for summary in found if summary is not None]


async def show_store(server: ServerView, asked: ShowStore, _caller: Caller) -> Store | Refusal:
    """One store."""
    store_id = StoreId(asked.store_id)
    summary = await server.readers.ask(lambda reader: reader.summary(store_id))
    return unknown(store_id) if summary is None else _told(server, summary, _connected(server))


async def append_test(server: ServerView, asked: AppendTest, caller: Caller) -> AppendedTest | Refusal:
    """Append an event to a store that exists, as a program would by the HTTP API; every client gets it."""
    store_id = StoreId(asked.store_id)
    if await state_of(server, store_id) is None:
        return unknown(store_id)
    body = msgspec.json.encode({"type": asked.name, "data": asked.args, "clientId": "console"})
    try:
        drafts = drafts_of_json(body, None, NewIds())
    except Unreadable as error:
        return refused(f"The event cannot be read: {error}.")
    server.audit.record("append", store=store_id, address=caller.address, user=caller.user, via="control plane")
    answer = await server.open_store(store_id).append(drafts, None, None, server)
    if isinstance(answer, Refusal):
        return answer
    return AppendedTest(store_id=store_id, seq_num=answer.seq_nums[0])


async def state_of(server: ServerView, store_id: StoreId) -> LogState | None:
    """What the database holds of a store; None when there is none, which asking its actor would create."""
    return await server.readers.ask(lambda reader: reader.state(store_id))


def unknown(store_id: str) -> Refusal:
    """There is no such store."""
    return Refusal(Kind.NO_SUCH_STORE, f"There is no store {store_id[:80]!r}.")


def _connected(server: ServerView) -> Counter[str]:
    """Peers of this server by store."""
    return Counter(peer.label for peer in server.peers)


def _told(server: ServerView, summary: StoreSummary, connected: Counter[str]) -> Store:
    state = summary.state
    return Store(
        store_id=summary.store_id,
        head=state.head,
        backend_id=state.backend_id,
        events=state.event_count,
        bytes=summary.text_bytes,
        created_at=summary.created_at,
        last_push_at=summary.last_push_at,
        frozen=state.frozen,
        active=server.active(summary.store_id),
        peers=connected[summary.store_id],
    )


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
