"""What is pushed comes back: whole, in order, from any cursor, and live."""

from __future__ import annotations

import pytest

from .clients import Generation, SyncClient
from .conftest import MakeClient
from .events import Page, PulledEvent, chain, event, flatten, numbers
from .servers import RunningServer

PAGE_LIMIT_EVENTS = 100


def assert_pages_add_up(pages: list[Page]) -> None:
    """Every page says truly how much follows it, none is over the limit, and only the last says that it is the last."""
    follows = sum(len(page.events) for page in pages)
    for page in pages:
        follows -= len(page.events)
        assert len(page.events) <= PAGE_LIMIT_EVENTS
        assert page.remaining == follows
    assert [page.remaining for page in pages].count(0) == 1


def test_pull_of_an_empty_store_is_one_empty_page(client: SyncClient) -> None:
    assert client.pull() == [Page(events=(), remaining=0)]


def test_pushed_event_comes_back_as_it_was(client: SyncClient) -> None:
    client.push([event(1, 0, name="v1.Thing", args={"b": 1, "a": [True, None]}, clientId="c-1", sessionId="s 2")])
    [pulled] = flatten(client.pull())
    assert pulled == PulledEvent("v1.Thing", '{"b":1,"a":[true,null]}', 1, 0, "c-1", "s 2", pulled.created_at)
    assert pulled.created_at is not None


def test_events_of_one_push_have_one_time(client: SyncClient) -> None:
    client.push(chain(1, 3))
    assert len({pulled.created_at for pulled in flatten(client.pull())}) == 1


def test_pull_with_cursor_gives_what_follows_it(client: SyncClient) -> None:
    client.push(chain(1, 10))
    assert numbers(client.pull()) == list(range(1, 11))
    assert numbers(client.pull(cursor=4)) == [5, 6, 7, 8, 9, 10]
    assert client.pull(cursor=10) == [Page(events=(), remaining=0)]


def test_pull_with_cursor_above_the_head(client: SyncClient) -> None:
    """Who names the identity of the log has events that it lost, and starts over (0010); 0.3 knows no identities."""
    client.push(chain(1, 2))
    client.pull()
    if client.generation is Generation.V03_WS:
        assert client.pull(cursor=99) == [Page(events=(), remaining=0)]
    else:
        refusal = client.refusal_of_pull(cursor=99)
        assert refusal.tag == "BackendIdMismatchError"
        assert refusal.detail["expected"] == refusal.detail["received"] == client.identity()


@pytest.mark.parametrize("count", [99, 100, 101, 250, 1000])
def test_long_pull_comes_in_pages_that_add_up(client: SyncClient, count: int) -> None:
    for first in range(1, count + 1, PAGE_LIMIT_EVENTS):
        client.push(chain(first, min(PAGE_LIMIT_EVENTS, count + 1 - first)))
    pages = client.pull()
    assert numbers(pages) == list(range(1, count + 1))
    assert_pages_add_up(pages)


def test_paginated_pull_with_cursor_adds_up(client: SyncClient) -> None:
    client.push(chain(1, 250))
    client.pull()
    pages = client.pull(cursor=20)
    assert numbers(pages) == list(range(21, 251))
    assert_pages_add_up(pages)


def test_250_events_in_one_call(client: SyncClient) -> None:
    follower = client.follow()
    client.push(chain(1, 250))
    follower.wait_for_numbers(range(1, 251))
    assert numbers(client.pull()) == list(range(1, 251))


def test_gaps_between_sequence_numbers_are_legal(client: SyncClient) -> None:
    client.push([event(100, 0)])
    client.push([event(20_000, 100), event(20_005, 20_000)])
    pulled = flatten(client.pull())
    assert [(each.seq_num, each.parent_seq_num) for each in pulled] == [(100, 0), (20_000, 100), (20_005, 20_000)]
    assert numbers(client.pull(cursor=100)) == [20_000, 20_005]


def test_empty_batch_is_accepted_and_changes_nothing(client: SyncClient) -> None:
    client.push([])
    client.push(chain(1, 1))
    client.push([])
    assert numbers(client.pull()) == [1]


def test_push_is_seen_live_by_every_client(
    make_client: MakeClient, generation: Generation, shared_server: RunningServer, store_id: str
) -> None:
    first, second = (make_client(generation, shared_server.url, store_id) for _ in range(2))
    followers = [first.follow(), second.follow()]
    for follower in followers:
        follower.wait_for_first_page()
    first.push(chain(1, 2))
    second.push(chain(3, 1))
    first.push(chain(4, 3))
    for follower in followers:
        follower.wait_for_numbers(range(1, 7))


def test_live_pull_gives_history_then_what_is_pushed(
    make_client: MakeClient, generation: Generation, shared_server: RunningServer, store_id: str
) -> None:
    writer, reader = (make_client(generation, shared_server.url, store_id) for _ in range(2))
    writer.push(chain(1, 150))
    reader.pull()
    follower = reader.follow(cursor=30)
    writer.push(chain(151, 5))
    writer.push(chain(156, 120))
    follower.wait_for_numbers(range(31, 276))
    assert follower.end is None


def test_live_pull_started_while_others_push_has_no_gap_and_no_duplicate(
    make_client: MakeClient, generation: Generation, shared_server: RunningServer, store_id: str
) -> None:
    writer = make_client(generation, shared_server.url, store_id)
    writer.push(chain(1, 500))
    followers = []
    for first in range(501, 601, 10):
        pushing = writer.start_push(chain(first, 10))
        followers.append(make_client(generation, shared_server.url, store_id).follow())
        pushing.result(30)
    for follower in followers:
        follower.wait_for_numbers(range(1, 601))


def test_stopped_live_pull_leaves_the_client_usable(
    make_client: MakeClient, shared_server: RunningServer, store_id: str
) -> None:
    client = make_client(Generation.V04_WS, shared_server.url, store_id)
    follower = client.follow()
    follower.wait_for_first_page()
    follower.stop()
    client.push(chain(1, 3))
    assert numbers(client.pull()) == [1, 2, 3]
    again = client.follow(cursor=1)
    again.wait_for_numbers([2, 3])
    assert follower.events == []
