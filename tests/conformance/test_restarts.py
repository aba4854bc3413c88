"""The server is stopped or killed under its clients and comes back: nobody has to do anything and nothing is lost."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from .clients import Generation, SyncClient
from .conftest import MakeClient, StartServer
from .events import JsonObject, chain, event, flatten, numbers
from .node_driver import ClientError
from .proxy import TcpProxy
from .waiting import eventually

RECONNECT_DEADLINE_S = 90.0

how_it_ends = pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)


def push_as_the_leader_does(
    client: SyncClient, batch: list[JsonObject], deadline_s: float = RECONNECT_DEADLINE_S
) -> None:
    """Push until acknowledged, again after every UnknownError or IsOfflineError (LeaderSyncProcessor)."""

    def acknowledged() -> bool:
        try:
            client.push(batch, timeout_s=deadline_s)
        except ClientError as failure:
            if failure.tag not in ("UnknownError", "IsOfflineError"):
                raise
            return False
        return True

    eventually(acknowledged, "the push is acknowledged", deadline_s)


@how_it_ends
def test_acknowledged_events_and_the_identity_survive(
    make_client: MakeClient, generation: Generation, start_server: StartServer, store_id: str, how: signal.Signals
) -> None:
    server = start_server()
    before = make_client(generation, server.url, store_id)
    before.push(chain(1, 120))
    before.pull()
    server.end(how)
    server.start()
    after = make_client(generation, server.url, store_id)
    assert numbers(after.pull()) == list(range(1, 121))
    assert after.identity() == before.identity()
    after.push(chain(121, 1))


def test_stopped_server_ends_cleanly_with_clients_connected(
    make_client: MakeClient, generation: Generation, start_server: StartServer, store_id: str
) -> None:
    server = start_server()
    client = make_client(generation, server.url, store_id)
    follower = client.follow()
    follower.wait_for_first_page()
    assert server.stop() == 0


@how_it_ends
def test_live_pull_comes_back_by_itself(
    make_client: MakeClient, start_server: StartServer, store_id: str, how: signal.Signals
) -> None:
    server = start_server()
    reader = make_client(Generation.V04_WS, server.url, store_id)
    follower = reader.follow(resume=True)
    make_client(Generation.V04_WS, server.url, store_id).push(chain(1, 3))
    follower.wait_for_numbers([1, 2, 3])
    server.end(how)
    follower.wait_for_failures(1)
    server.start()
    # Another client is back first and pushes what the reader has to catch up with.
    other = make_client(Generation.V04_HTTP, server.url, store_id)
    other.push(chain(4, 2))
    follower.wait_for_numbers([1, 2, 3, 4, 5], RECONNECT_DEADLINE_S)
    other.push(chain(6, 1))
    follower.wait_for_numbers([1, 2, 3, 4, 5, 6])
    assert {failure["_tag"] for failure in follower.failures} == {"IsOfflineError"}
    eventually(reader.is_connected, "the client says that it is connected")


@how_it_ends
def test_old_client_hears_broadcasts_again(
    make_client: MakeClient, start_server: StartServer, store_id: str, how: signal.Signals
) -> None:
    server = start_server()
    reader = make_client(Generation.V03_WS, server.url, store_id)
    follower = reader.follow()
    writer = make_client(Generation.V04_HTTP, server.url, store_id)
    writer.push(chain(1, 2))
    follower.wait_for_numbers([1, 2])
    server.end(how)
    eventually(lambda: not reader.is_connected(), "the client notices")
    server.start()
    eventually(reader.is_connected, "the client is connected again", RECONNECT_DEADLINE_S)
    # It never pulls again (SPEC 5.3): from now on it lives from what every socket of its store is told.
    writer.push(chain(3, 2))
    follower.wait_for_numbers([1, 2, 3, 4])
    reader.push(chain(5, 1))
    follower.wait_for_numbers([1, 2, 3, 4, 5])


@how_it_ends
def test_push_of_a_client_that_noticed_waits_for_the_server(
    make_client: MakeClient, start_server: StartServer, store_id: str, how: signal.Signals
) -> None:
    server = start_server()
    client = make_client(Generation.V04_WS, server.url, store_id)
    client.push(chain(1, 1))
    server.end(how)
    eventually(lambda: not client.is_connected(), "the client notices")
    push = client.start_push(chain(2, 3))
    server.start()
    push.result(RECONNECT_DEADLINE_S)
    assert numbers(client.pull()) == [1, 2, 3, 4]


@how_it_ends
def test_push_into_a_server_that_has_just_gone_succeeds_in_the_end(
    make_client: MakeClient, generation_04: Generation, start_server: StartServer, store_id: str, how: signal.Signals
) -> None:
    server = start_server()
    client = make_client(generation_04, server.url, store_id)
    client.push(chain(1, 1))
    server.end(how)
    push = client.start_push(chain(2, 3))
    server.start()
    # Over WebSocket it depends on whether the client had noticed: then the push waits for the next connection.
    failure = push.exception(RECONNECT_DEADLINE_S)
    if failure is not None:
        assert isinstance(failure, ClientError)
        assert failure.tag == "UnknownError"
        push_as_the_leader_does(client, chain(2, 3))
    assert numbers(client.pull()) == [1, 2, 3, 4]


def test_push_whose_acknowledgement_was_lost_is_recognised_by_content(
    make_client: MakeClient, start_server: StartServer, store_id: str, make_proxy: Callable[[int], TcpProxy]
) -> None:
    server = start_server()
    proxy = make_proxy(server.port)
    client = make_client(Generation.V04_WS, proxy.url, store_id)
    follower = client.follow(resume=True)
    follower.wait_for_first_page()
    watcher = make_client(Generation.V04_WS, server.url, store_id)
    watching = watcher.follow()
    watching.wait_for_first_page()

    proxy.deafen()
    push = client.start_push([event(1, 0, args={"b": 1, "a": 2})])
    watching.wait_for_numbers([1])
    assert not push.done()
    server.kill()
    proxy.cut()
    with pytest.raises(ClientError, match="UnknownError"):
        push.result(RECONNECT_DEADLINE_S)
    server.start()
    proxy.restore()

    # What the leader does next: the same push again, then its own event comes back on the pull and is recognised.
    refusal = client.refusal_of_push([event(1, 0, args={"b": 1, "a": 2})])
    assert (refusal.tag, refusal.detail["minimumExpectedNum"]) == ("ServerAheadError", 1)
    follower.wait_for_numbers([1], RECONNECT_DEADLINE_S)
    assert follower.events[0].args == '{"b":1,"a":2}'
    client.push(chain(2, 1))
    assert numbers(watcher.pull()) == [1, 2]


def test_kill_in_the_middle_of_pushing_loses_nothing_acknowledged(
    make_client: MakeClient, generation: Generation, start_server: StartServer, store_id: str
) -> None:
    server = start_server()
    writer = make_client(generation, server.url, store_id)
    writer.push(chain(1, 5))
    acknowledged = 5
    pushes = [writer.start_push(chain(first, 5)) for first in range(6, 306, 5)]
    pushes[10].result(30)
    server.kill()
    for push in pushes:
        if push.done() and push.exception() is None:
            acknowledged += 5
        else:
            break
    server.start()
    stored = flatten(make_client(generation, server.url, store_id).pull())
    assert [each.seq_num for each in stored] == list(range(1, len(stored) + 1))
    assert len(stored) >= acknowledged
    assert len(stored) % 5 == 0, "a batch was stored in part"
