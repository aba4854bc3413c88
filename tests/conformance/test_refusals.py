"""Pushes and pulls that must be refused, with the error the client knows how to act on."""

from __future__ import annotations

import re
from concurrent.futures import Future
from typing import Any

import pytest

from .clients import Generation, SyncClient
from .conftest import MakeClient
from .events import chain, event, flatten, numbers
from .node_driver import ClientError
from .servers import RunningServer

INVALID_PARENT = re.compile(r"Invalid parent event number\. Received e(-?\d+) but expected e(\d+)")


def assert_refused_for_the_head(refusal: ClientError, generation: Generation, *, head: int, parent: int) -> None:
    """The refusal of a push on a wrong parent, with both numbers right, in the generation's own form."""
    if generation is Generation.V03_WS:
        assert refusal.tag == "InvalidPushError"
        match = INVALID_PARENT.fullmatch(refusal.detail["reason"]["message"])
        assert match is not None, refusal.detail
        assert match.groups() == (str(parent), str(head))
    else:
        assert refusal.tag == "ServerAheadError"
        assert refusal.detail["minimumExpectedNum"] == head
        assert refusal.detail["providedNum"] == parent


@pytest.mark.parametrize("parent", [0, 1, 2, 4, 1000])
def test_push_on_a_parent_that_is_not_the_head(client: SyncClient, parent: int) -> None:
    client.push(chain(1, 3))
    client.pull()  # who is refused without ever having pulled is sent away after half a second (SPEC 3.6)
    refusal = client.refusal_of_push([event(2000, parent)])
    assert_refused_for_the_head(refusal, client.generation, head=3, parent=parent)
    assert numbers(client.pull()) == [1, 2, 3]
    client.push(chain(4, 1))


def test_first_push_of_an_empty_store_needs_the_root_as_parent(client: SyncClient) -> None:
    refusal = client.refusal_of_push([event(6, 5)])
    assert_refused_for_the_head(refusal, client.generation, head=0, parent=5)


def test_same_push_again_is_refused_and_not_stored_twice(client: SyncClient) -> None:
    client.push(chain(1, 2))
    client.pull()
    refusal = client.refusal_of_push(chain(1, 2))
    assert_refused_for_the_head(refusal, client.generation, head=2, parent=0)
    assert numbers(client.pull()) == [1, 2]


def test_loser_receives_the_events_it_lost_to(
    make_client: MakeClient, generation: Generation, shared_server: RunningServer, store_id: str
) -> None:
    winner, loser = (make_client(generation, shared_server.url, store_id) for _ in range(2))
    follower = loser.follow()
    follower.wait_for_first_page()
    winner.push(chain(1, 2))
    refusal = loser.refusal_of_push(chain(1, 1, clientId="loser"))
    assert_refused_for_the_head(refusal, generation, head=2, parent=0)
    follower.wait_for_numbers([1, 2])
    loser.push(chain(3, 1, clientId="loser"))
    assert [each.client_id for each in flatten(winner.pull())] == ["client-a", "client-a", "loser"]


def test_of_concurrent_pushes_on_one_parent_exactly_one_wins(
    make_client: MakeClient, generation: Generation, shared_server: RunningServer, store_id: str
) -> None:
    clients = [make_client(generation, shared_server.url, store_id) for _ in range(8)]
    for client in clients:
        client.pull()
    for round_number in range(1, 6):
        batches = [chain(round_number, 1, clientId=f"client-{index}") for index in range(len(clients))]
        pushes = [client.start_push(batch) for client, batch in zip(clients, batches, strict=True)]
        refusals = [refusal for refusal in map(outcome, pushes) if refusal is not None]
        assert len(refusals) == len(clients) - 1
        for refusal in refusals:
            assert_refused_for_the_head(refusal, generation, head=round_number, parent=round_number - 1)
        assert numbers(clients[0].pull()) == list(range(1, round_number + 1))


def outcome(push: Future[Any]) -> ClientError | None:
    """None for an acknowledged push, else its refusal."""
    try:
        push.result(30)
    except ClientError as refusal:
        return refusal
    return None


def test_pull_with_a_foreign_identity(
    make_client: MakeClient, generation_04: Generation, shared_server: RunningServer, store_id: str
) -> None:
    honest = make_client(generation_04, shared_server.url, store_id)
    honest.push(chain(1, 2))
    honest.pull()
    foreign = make_client(generation_04, shared_server.url, store_id, backendId="somebody-else")
    refusal = foreign.refusal_of_pull(cursor=1)
    assert refusal.tag == "BackendIdMismatchError"
    assert refusal.detail["received"] == "somebody-else"
    assert refusal.detail["expected"] == honest.identity()


def test_live_pull_with_a_foreign_identity(
    make_client: MakeClient, generation_04: Generation, shared_server: RunningServer, store_id: str
) -> None:
    foreign = make_client(generation_04, shared_server.url, store_id, backendId="somebody-else")
    follower = foreign.follow(cursor=1)
    follower.wait(lambda each: each.end is not None, "the end of the pull")
    assert follower.end is not None
    assert follower.end["_tag"] == "BackendIdMismatchError"


def test_push_with_a_foreign_identity(
    make_client: MakeClient, generation_04: Generation, shared_server: RunningServer, store_id: str
) -> None:
    foreign = make_client(generation_04, shared_server.url, store_id, backendId="somebody-else")
    # The identity is compared before the parent: this batch is wrong in both.
    refusal = foreign.refusal_of_push(chain(5, 1))
    assert refusal.tag == "BackendIdMismatchError"
    assert refusal.detail["received"] == "somebody-else"
    assert make_client(generation_04, shared_server.url, store_id).pull()[0].events == ()


def test_identity_is_the_same_for_every_client_and_differs_between_stores(
    make_client: MakeClient, generation_04: Generation, shared_server: RunningServer, store_id: str
) -> None:
    clients = [make_client(generation_04, shared_server.url, store) for store in (store_id, store_id, f"{store_id}-2")]
    for client in clients:
        client.pull()
    first, second, other = (client.identity() for client in clients)
    assert first is not None
    assert first == second != other


@pytest.mark.parametrize(
    "batch",
    [
        [event(2, 0), event(1, 2)],
        [event(1, 0), event(1, 1)],
        [event(1, 0), event(3, 2)],
        [event(0, 0)],
        [event(-1, 0)],
    ],
    ids=["descending", "duplicate", "not-chained", "parent-is-itself", "below-the-root"],
)
def test_batch_that_would_kill_every_reader_is_refused(client: SyncClient, batch: list[dict[str, Any]]) -> None:
    follower = client.follow()
    follower.wait_for_first_page()
    refusal = client.refusal_of_push(batch)
    assert refusal.tag in ("UnknownError", "InvalidPushError"), refusal.detail
    client.push(chain(1, 2))
    follower.wait_for_numbers([1, 2])
    assert numbers(client.pull()) == [1, 2]


@pytest.mark.parametrize("width", [1, 20])
def test_refused_batch_leaves_nothing_behind(client: SyncClient, width: int) -> None:
    client.push(chain(1, 1))
    client.refusal_of_push([*chain(2, width), event(1, width + 1)])
    assert numbers(client.pull()) == [1]
