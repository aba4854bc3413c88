"""Programs beside real LiveStore clients: one log, in all directions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx
from websockets.sync.client import ClientConnection, connect

from .clients import Generation
from .conftest import MakeClient, StartServer
from .events import chain, flatten, numbers
from .next_client import next_client

PATIENCE_S = 60.0


def test_programs_and_clients_of_all_generations_share_a_log(
    make_client: MakeClient, start_server: StartServer, store_id: str
) -> None:
    server = start_server(LIVESYNC_API="true")
    path = f"/v1/stores/{quote(store_id, safe='')}/events"
    clients = [make_client(generation, server.url, store_id) for generation in Generation]
    followers = [client.follow() for client in clients]
    for follower in followers:
        follower.wait_for_first_page()
    with (
        httpx.Client(base_url=server.url, timeout=PATIENCE_S, trust_env=False) as http,
        dialect(server.url, path) as plain,
        next_client(server.url, store_id) as of_next,
    ):
        plain.send('{"type":"pull","live":true}')
        assert received(plain)["events"] == []
        head, seen = 0, []
        for client in clients:
            client.push(chain(head + 1, 2, clientId=client.generation.label))
            answer = http.post(path, json={"type": "noted", "data": {"by": "http"}, "id": f"http {head}"})
            assert answer.json()["events"][0]["seqNum"] == head + 3
            plain.send(json.dumps({"type": "push", "id": head, "events": [{"type": "noted", "data": {"by": "plain"}}]}))
            while (message := received(plain))["type"] != "ack":
                seen += [each["seqNum"] for each in message["events"]]
            assert message["events"][0]["seqNum"] == head + 4
            head += 4
            for follower in followers:
                follower.wait_for_numbers(range(1, head + 1))
            of_next.push(chain(head + 1, 1, clientId="next"))
            head += 1
            of_next.wait_for_numbers(head)
        assert of_next.numbers == list(range(1, head + 1))
        while len(seen) < head:
            seen += [each["seqNum"] for each in received(plain)["events"]]
        assert seen == list(range(1, head + 1))
        page = http.get(path).json()["events"]
        histories = [flatten(client.pull()) for client in clients]
        assert histories[0] == histories[1] == histories[2]
        assert [(each["seqNum"], each["type"], each["data"]) for each in page] == [
            (each.seq_num, each.name, json.loads(each.args or "null")) for each in histories[0]
        ]
        assert numbers(clients[0].pull()) == list(range(1, head + 1))
        # A client that did not hear of it is behind, as after any other push.
        refusal = clients[1].refusal_of_push(chain(head, 1))
        assert refusal.tag == "ServerAheadError"


@contextmanager
def dialect(url: str, path: str) -> Iterator[ClientConnection]:
    """A client of the plain dialect."""
    with connect(f"{url.replace('http', 'ws', 1)}{path}", proxy=None, open_timeout=PATIENCE_S) as socket:
        yield socket


def received(socket: ClientConnection) -> Any:
    """The next message."""
    return json.loads(socket.recv(timeout=PATIENCE_S))
