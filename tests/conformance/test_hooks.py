"""The user's own functions refuse single requests, with their own words, and nothing else happens."""

from __future__ import annotations

from .clients import Generation, SyncClient
from .conftest import MakeClient
from .events import chain, event, numbers
from .node_driver import ClientError
from .servers import RunningServer
from .waiting import eventually


def assert_says(refusal: ClientError, words: str) -> None:
    """The client was told why, in the hook's words, in whatever form its generation has."""
    assert refusal.tag in ("UnknownError", "InvalidPushError", "InvalidPullError")
    assert words in refusal.detail["message"]
    assert "Traceback" not in str(refusal.detail)


def test_refused_push_tells_the_reason_and_stores_nothing(
    make_client: MakeClient, generation: Generation, hooked_server: RunningServer, store_id: str
) -> None:
    client = make_client(generation, hooked_server.url, store_id)
    follower = client.follow()
    follower.wait_for_first_page()
    refusal = client.refusal_of_push([event(1, 0), event(2, 1, name="forbidden")])
    assert_says(refusal, "event 2 is forbidden")
    client.push(chain(1, 2))
    follower.wait_for_numbers([1, 2])
    assert numbers(client.pull()) == [1, 2]


def test_refused_push_blocks_nobody(
    make_client: MakeClient, generation: Generation, hooked_server: RunningServer, store_id: str
) -> None:
    bad, good = (make_client(generation, hooked_server.url, store_id) for _ in range(2))
    for number in range(1, 6):
        bad.refusal_of_push([event(number, number - 1, name="forbidden")])
        good.push(chain(number, 1))
    assert numbers(bad.pull()) == [1, 2, 3, 4, 5]


def test_push_hook_knows_the_payload_on_every_transport(
    make_client: MakeClient, generation: Generation, hooked_server: RunningServer, store_id: str
) -> None:
    client = make_client(generation, hooked_server.url, store_id, payload={"readOnly": True})
    assert_says(client.refusal_of_push(chain(1, 1)), "read only")
    assert numbers(client.pull()) == []


def test_refused_pull_tells_the_reason(
    make_client: MakeClient, generation: Generation, hooked_server: RunningServer, store_id: str
) -> None:
    client = make_client(generation, hooked_server.url, store_id, payload={"writeOnly": True})
    client.push(chain(1, 1))
    assert_says(client.refusal_of_pull(), "write only")
    client.push(chain(2, 1))
    assert numbers(make_client(generation, hooked_server.url, store_id).pull()) == [1, 2]


def test_refused_live_pull_ends_with_the_reason(
    make_client: MakeClient, generation: Generation, hooked_server: RunningServer, store_id: str
) -> None:
    client = make_client(generation, hooked_server.url, store_id, payload={"writeOnly": True})
    follower = client.follow()
    follower.wait(lambda each: each.end is not None, "the end of the pull")
    assert follower.end is not None
    assert_says(ClientError(follower.end), "write only")


def test_connection_hook_binds_a_ticket_to_its_store(
    make_client: MakeClient, generation: Generation, hooked_server: RunningServer, store_id: str
) -> None:
    private = f"private-{store_id}"
    entitled = make_client(generation, hooked_server.url, private, payload={"ticket": private})
    entitled.push(chain(1, 1))
    assert numbers(entitled.pull()) == [1]
    intruder = make_client(generation, f"{hooked_server.url}/intruder", private, payload={"ticket": "private-other"})
    if generation is Generation.V04_HTTP:
        assert_says(intruder.refusal_of_pull(), "this ticket is for another store")
    else:
        push = intruder.start_push(chain(2, 1))
        eventually(lambda: len(attempts(intruder, private)) >= 2, "a second attempt to connect")
        assert all(not record["opened"] for record in attempts(intruder, private))
        assert not push.done()
    assert numbers(entitled.pull()) == [1]


def attempts(intruder: SyncClient, store: str) -> list[dict[str, object]]:
    """The intruder's own sockets (its URL has a path of its own)."""
    return [record for record in intruder.sockets("/intruder") if store in str(record["url"])]
