"""The HTTP client's live pull: the same pull again and again, each from the last event it saw."""

from __future__ import annotations

from .clients import Generation
from .conftest import MakeClient
from .events import chain
from .servers import RunningServer


def test_every_poll_is_answered_with_a_page(
    make_client: MakeClient, shared_server: RunningServer, store_id: str
) -> None:
    client = make_client(Generation.V04_HTTP, shared_server.url, store_id)
    follower = client.follow()
    follower.wait(lambda each: len(each.pages) >= 5, "five polls of an empty store")
    client.push(chain(1, 2))
    follower.wait_for_numbers([1, 2])
    seen = len(follower.pages)
    follower.wait(lambda each: len(each.pages) >= seen + 3, "three polls with nothing new")
    client.push(chain(3, 250))
    follower.wait_for_numbers(range(1, 253))
    assert follower.end is None
    assert follower.failures == []


def test_polls_of_many_clients_see_the_same(
    make_client: MakeClient, shared_server: RunningServer, store_id: str
) -> None:
    clients = [make_client(Generation.V04_HTTP, shared_server.url, store_id) for _ in range(5)]
    followers = [client.follow() for client in clients]
    for number, client in enumerate(clients, start=1):
        client.push(chain(number, 1))
    for follower in followers:
        follower.wait_for_numbers([1, 2, 3, 4, 5])
