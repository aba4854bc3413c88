"""The clients connect, are answered, and believe so."""

from __future__ import annotations

import pytest

from .clients import Generation
from .conftest import MakeClient
from .events import chain, numbers
from .servers import RunningServer
from .waiting import eventually

# The 0.4 client's `connect` waits for the next Pong. It misses the first when the server is quick: so the next is soon.
PING_OFTEN = {"ping": {"requestInterval": 400, "requestTimeout": 5000}}


def test_client_connects(
    make_client: MakeClient, generation: Generation, shared_server: RunningServer, store_id: str
) -> None:
    client = make_client(generation, shared_server.url, store_id, options=PING_OFTEN)
    client.connect()
    eventually(client.is_connected, "the client says that it is connected")


def test_ping_is_answered_again_and_again(
    make_client: MakeClient, generation_04: Generation, shared_server: RunningServer, store_id: str
) -> None:
    client = make_client(generation_04, shared_server.url, store_id, options=PING_OFTEN)
    assert client.connect() is True
    for _ in range(3):
        client.ping()
        assert client.is_connected()


@pytest.mark.parametrize("payload", [None, {"authToken": "sesame ö +&=%"}, "text", 0, [1, {"a": None}]], ids=repr)
def test_any_payload_connects_when_nobody_checks_it(
    make_client: MakeClient, generation: Generation, shared_server: RunningServer, store_id: str, payload: object
) -> None:
    client = make_client(generation, shared_server.url, store_id, payload=payload)
    client.push(chain(1, 1))
    assert numbers(client.pull()) == [1]


@pytest.mark.parametrize("odd", ["st/ö 50%+&=?#", "𝔘𝔫𝔦/💥", "a" * 300, "eventlog_7_x; DROP TABLE events"])
def test_store_ids_are_taken_as_they_are(
    make_client: MakeClient, generation: Generation, shared_server: RunningServer, store_id: str, odd: str
) -> None:
    if generation is Generation.V04_HTTP and not odd.isascii():
        pytest.skip("this client puts the store id into a header, where it does not fit (SPEC 3.7)")
    first = make_client(generation, shared_server.url, f"{store_id}-{odd}")
    first.push(chain(1, 2))
    assert numbers(first.pull()) == [1, 2]


def test_similar_store_ids_are_different_stores(
    make_client: MakeClient, generation: Generation, shared_server: RunningServer, store_id: str
) -> None:
    ids = [f"{store_id}{end}" for end in ("-b", "_b", ".b", "-B", "-b ", "\u00e9", "e\u0301")]
    if generation is Generation.V04_HTTP:
        # fetch trims header values and cannot send what is outside Latin-1.
        ids = ids[:4]
    clients = [make_client(generation, shared_server.url, each) for each in ids]
    for count, client in enumerate(clients, start=1):
        client.push(chain(1, count))
    assert [len(numbers(client.pull())) for client in clients] == list(range(1, len(ids) + 1))


def test_url_may_have_a_path(
    make_client: MakeClient, generation: Generation, shared_server: RunningServer, store_id: str
) -> None:
    behind_path = make_client(generation, f"{shared_server.url}/some/path", store_id)
    behind_path.push(chain(1, 1))
    plain = make_client(generation, shared_server.url, store_id)
    assert numbers(plain.pull()) == [1]
