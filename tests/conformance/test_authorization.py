"""A server with ``AUTH_TOKEN`` lets in whoever sends it as ``payload.authToken``, and nobody else."""

from __future__ import annotations

import pytest

from .clients import Generation
from .conftest import MakeClient, StartServer
from .events import chain, numbers
from .servers import RunningServer
from .waiting import eventually

TOKEN = "a token + ö / that % is not a placeholder"
WRONG_PAYLOADS = [{"authToken": "wrong"}, {"authToken": None}, {"token": TOKEN}, TOKEN, None]


@pytest.fixture(scope="module")
def guarded_server(start_shared_server: StartServer) -> RunningServer:
    """A server that asks for ``TOKEN``."""
    return start_shared_server(AUTH_TOKEN=TOKEN)


def test_right_token_is_let_in(
    make_client: MakeClient, generation: Generation, guarded_server: RunningServer, store_id: str
) -> None:
    client = make_client(generation, guarded_server.url, store_id, payload={"authToken": TOKEN})
    client.push(chain(1, 2))
    assert numbers(client.pull()) == [1, 2]


@pytest.mark.parametrize("payload", WRONG_PAYLOADS, ids=["wrong", "null", "other-key", "not-an-object", "null-payload"])
def test_wrong_token_is_kept_out_over_http(
    make_client: MakeClient, guarded_server: RunningServer, store_id: str, payload: object
) -> None:
    client = make_client(Generation.V04_HTTP, guarded_server.url, store_id, payload=payload)
    for refusal in (client.refusal_of_pull(), client.refusal_of_push(chain(1, 1))):
        assert refusal.tag == "UnknownError"
        assert "token" in refusal.detail["message"].lower()
        assert TOKEN not in str(refusal.detail)


@pytest.mark.parametrize("websocket_generation", [Generation.V03_WS, Generation.V04_WS], ids=lambda each: each.label)
def test_wrong_token_is_kept_out_over_websocket(
    make_client: MakeClient, guarded_server: RunningServer, store_id: str, websocket_generation: Generation
) -> None:
    options = {"ping": {"requestTimeout": 500}}
    client = make_client(
        websocket_generation, guarded_server.url, store_id, payload={"authToken": "wrong"}, options=options
    )
    push = client.start_push(chain(1, 1))
    # These clients cannot see why an upgrade was refused: they try again for ever, and must never get through.
    eventually(lambda: len(client.sockets(store_id)) >= 2, "a second attempt to connect")
    assert all(not record["opened"] for record in client.sockets(store_id))
    assert not client.connect()
    assert not push.done()
    entitled = make_client(Generation.V04_HTTP, guarded_server.url, store_id, payload={"authToken": TOKEN})
    assert numbers(entitled.pull()) == []
