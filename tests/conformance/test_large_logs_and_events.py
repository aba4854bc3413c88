"""Ten thousand events, and events of a megabyte."""

from __future__ import annotations

import json
from typing import Literal

import pytest

from .clients import Generation
from .conftest import MakeClient
from .events import JsonObject, PulledEvent, chain, event, flatten, numbers
from .node_driver import CALL_DEADLINE_S
from .servers import RunningServer

LONG_DEADLINE_S = 4 * CALL_DEADLINE_S

# What the 0.4 client allows for the JSON of one request.
REQUEST_LIMIT_BYTES = 900_000


def event_of(size_bytes: int, seq_num: int, parent_seq_num: int) -> JsonObject:
    """An event whose JSON is ``size_bytes`` long."""
    empty = event(seq_num, parent_seq_num, args={"text": ""})
    missing = size_bytes - len(json.dumps(empty, separators=(",", ":")))
    return event(seq_num, parent_seq_num, args={"text": "x" * missing})


def largest_event_bytes(store_id: str) -> int:
    """The longest event a 0.4 client without an identity pushes to this store.

    The page that carries it back is longer than its request was, and so over the 900,000 bytes a server puts on a page:
    it has to be sent all the same. The reference server stores it and can never deliver it (SPEC 7, no. 4).
    """
    request = {"storeId": store_id, "batch": [], "backendId": {"_id": "Option", "_tag": "None"}}
    return REQUEST_LIMIT_BYTES - len(json.dumps(request, separators=(",", ":")))


def is_same(pulled: PulledEvent, pushed: JsonObject) -> bool:
    """Whether ``args`` came back as they were; compared here, since pytest would print the difference at length."""
    return pulled.args == json.dumps(pushed["args"], separators=(",", ":"))


def test_10_000_events_are_pushed_and_pulled(
    make_client: MakeClient, generation: Generation, shared_server: RunningServer, store_id: str
) -> None:
    count = 10_000
    writer, reader = (make_client(generation, shared_server.url, store_id) for _ in range(2))
    follower = reader.follow()
    follower.wait_for_first_page()
    # The 0.4 client splits what it is given; 0.3 sends a batch as it is, whatever its length.
    per_call = 1000 if generation is Generation.V03_WS else count
    for first in range(1, count + 1, per_call):
        writer.push(chain(first, per_call), timeout_s=LONG_DEADLINE_S)
    follower.wait_for_numbers(range(1, count + 1), timeout_s=LONG_DEADLINE_S)
    assert numbers(writer.pull(timeout_s=LONG_DEADLINE_S)) == list(range(1, count + 1))
    assert numbers(writer.pull(cursor=count - 5)) == list(range(count - 4, count + 1))


@pytest.mark.parametrize("size_bytes", [300_000, 890_000, "largest"])
def test_large_event_arrives_live_and_later(
    make_client: MakeClient,
    generation: Generation,
    shared_server: RunningServer,
    store_id: str,
    size_bytes: int | Literal["largest"],
) -> None:
    writer, reader = (make_client(generation, shared_server.url, store_id) for _ in range(2))
    follower = reader.follow()
    follower.wait_for_first_page()
    large = event_of(largest_event_bytes(store_id) if size_bytes == "largest" else size_bytes, 2, 1)
    writer.push(chain(1, 1))
    writer.push([large])
    writer.push(chain(3, 1))
    follower.wait_for_numbers([1, 2, 3])
    pulled = flatten(writer.pull())
    assert [each.seq_num for each in pulled] == [1, 2, 3]
    assert is_same(pulled[1], large)
    assert is_same(follower.events[1], large)
    assert numbers(writer.pull(cursor=1)) == [2, 3]


def test_3_mb_event_of_the_client_without_a_limit(
    make_client: MakeClient, shared_server: RunningServer, store_id: str
) -> None:
    old, new = (make_client(each, shared_server.url, store_id) for each in (Generation.V03_WS, Generation.V04_WS))
    large = event_of(3_000_000, 1, 0)
    follower = new.follow()
    follower.wait_for_first_page()
    old.push([large])
    follower.wait_for_numbers([1])
    for client in (old, new):
        [pulled] = flatten(client.pull())
        assert is_same(pulled, large)


def test_batch_of_several_large_events(
    make_client: MakeClient, generation: Generation, shared_server: RunningServer, store_id: str
) -> None:
    writer, reader = (make_client(generation, shared_server.url, store_id) for _ in range(2))
    follower = reader.follow()
    follower.wait_for_first_page()
    batch = [event_of(300_000, number, number - 1) for number in range(1, 11)]
    writer.push(batch)
    follower.wait_for_numbers(range(1, 11))
    pulled = flatten(writer.pull())
    assert [each.seq_num for each in pulled] == list(range(1, 11))
    assert all(map(is_same, pulled, batch))
    assert all(map(is_same, follower.events, batch))


def test_event_the_client_itself_refuses_changes_nothing(
    make_client: MakeClient, generation_04: Generation, shared_server: RunningServer, store_id: str
) -> None:
    client = make_client(generation_04, shared_server.url, store_id)
    refusal = client.refusal_of_push([event_of(largest_event_bytes(store_id) + 1, 1, 0)])
    assert refusal.tag == "UnknownError"
    assert "OversizeChunkItemError" in json.dumps(refusal.detail)
    client.push(chain(1, 1))
    assert numbers(client.pull()) == [1]
