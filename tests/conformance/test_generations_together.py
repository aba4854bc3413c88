"""A store is one log, whatever generation a client speaks."""

from __future__ import annotations

from .clients import Generation
from .conftest import MakeClient
from .events import chain, event, flatten, numbers
from .servers import RunningServer


def test_clients_of_all_generations_see_each_other(
    make_client: MakeClient, shared_server: RunningServer, store_id: str
) -> None:
    clients = [make_client(generation, shared_server.url, store_id) for generation in Generation]
    followers = [client.follow() for client in clients]
    for follower in followers:
        follower.wait_for_first_page()
    seq_num = 0
    for _ in range(3):
        for client in clients:
            client.push(chain(seq_num + 1, 2, clientId=client.generation.label))
            seq_num += 2
            for follower in followers:
                follower.wait_for_numbers(range(1, seq_num + 1))
    histories = [flatten(client.pull()) for client in clients]
    assert histories[0] == histories[1] == histories[2]
    for follower in followers:
        assert follower.events == histories[0]


def test_conflict_between_generations_is_told_to_each_in_its_own_way(
    make_client: MakeClient, shared_server: RunningServer, store_id: str
) -> None:
    old, ws, http = (make_client(generation, shared_server.url, store_id) for generation in Generation)
    old.push(chain(1, 3))
    for client in (ws, http):
        client.pull()
        refusal = client.refusal_of_push(chain(1, 1))
        assert refusal.tag == "ServerAheadError"
        assert (refusal.detail["minimumExpectedNum"], refusal.detail["providedNum"]) == (3, 0)
    ws.push(chain(4, 1))
    refusal = old.refusal_of_push(chain(4, 1))
    assert refusal.tag == "InvalidPushError"
    assert refusal.detail["reason"]["message"] == "Invalid parent event number. Received e3 but expected e4"
    old.push(chain(5, 1))
    assert numbers(http.pull()) == [1, 2, 3, 4, 5]


def test_args_are_the_same_for_every_generation(
    make_client: MakeClient, shared_server: RunningServer, store_id: str
) -> None:
    text = r'{"z":1e21,"a":[0.1,-0,"\ud83d"],"":null}'
    clients = [make_client(generation, shared_server.url, store_id) for generation in Generation]
    for seq_num, client in enumerate(clients, start=1):
        client.push([event(seq_num, seq_num - 1, args_text=text)])
    for client in clients:
        assert [each.args for each in flatten(client.pull())] == [clients[0].normalize(text)] * 3
