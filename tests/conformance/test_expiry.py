"""A token that expires while the real client's socket is open: it comes back with a fresh one, and loses nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import jwt
import pytest

from .authorizing_proxy import AuthorizingProxy
from .clients import Generation, SyncClient
from .conftest import MakeClient, StartServer
from .events import chain, numbers
from .node_driver import ClientError
from .waiting import eventually

SECRET = "a secret for tokens that is long enough"
SETTINGS = {"LIVESYNC_JWT_SECRET": SECRET, "LIVESYNC_JWT_LEEWAY_S": "0", "LIVESYNC_IDLE_LIMIT_S": "30"}

MakeProxy = Callable[[int, str], AuthorizingProxy]


def token(lifetime_s: float) -> str:
    """A token for every store."""
    return jwt.encode({"sub": "ann", "stores": ["*"], "exp": time.time() + lifetime_s}, SECRET)


@pytest.fixture
def make_authorizing_proxy() -> Iterator[MakeProxy]:
    made: list[AuthorizingProxy] = []

    def make(port: int, first_token: str) -> AuthorizingProxy:
        made.append(AuthorizingProxy(port, first_token))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


def test_0_4_comes_back_with_a_fresh_token(
    make_client: MakeClient, start_server: StartServer, store_id: str, make_authorizing_proxy: MakeProxy
) -> None:
    server = start_server(**SETTINGS)
    proxy = make_authorizing_proxy(server.port, token(3))
    client = make_client(Generation.V04_WS, f"{proxy.url}/expiring", store_id)
    follower = client.follow(resume=True)
    client.push(chain(1, 2))
    follower.wait_for_numbers([1, 2])
    proxy.token = token(600)
    follower.wait_for_failures(1, timeout_s=20)
    assert (
        follower.failures[0]["_tag"] == "IsOfflineError"
    )  # which the leader answers by pulling again (SPEC section 2)
    mine = [record for record in client.sockets("/expiring") if store_id in record["url"]]
    assert mine[0]["closed"]["code"] == 1008
    assert "expired" in mine[0]["closed"]["reason"]
    client.push(chain(3, 1))
    make_client(Generation.V04_WS, server.url, store_id, payload={"authToken": token(600)}).push(chain(4, 1))
    follower.wait_for_numbers([1, 2, 3, 4])
    assert follower.end is None


def test_0_4_without_a_fresh_token_stays_out_and_comes_back_when_it_has_one(
    make_client: MakeClient, start_server: StartServer, store_id: str, make_authorizing_proxy: MakeProxy
) -> None:
    server = start_server(**SETTINGS)
    proxy = make_authorizing_proxy(server.port, token(2))
    client = make_client(Generation.V04_WS, f"{proxy.url}/stale", store_id)
    follower = client.follow(resume=True)
    client.push(chain(1, 1))
    follower.wait_for_failures(1, timeout_s=20)
    eventually(lambda: proxy.connections >= 2, "a second attempt to connect")
    late = client.start_push(chain(2, 1))
    assert not late.done()
    entitled = make_client(Generation.V04_HTTP, server.url, store_id, payload={"authToken": token(600)})
    assert numbers(entitled.pull()) == [1]
    proxy.token = token(600)
    late.result(30)
    follower.wait_for_numbers([1, 2], timeout_s=30)


def test_0_4_over_http_is_told_and_may_try_again(
    make_client: MakeClient, start_server: StartServer, store_id: str
) -> None:
    server = start_server(**SETTINGS)
    client = make_client(Generation.V04_HTTP, server.url, store_id, payload={"authToken": token(2)})
    client.push(chain(1, 1))
    eventually(lambda: _expired(client), "the token expires")


def _expired(client: SyncClient) -> bool:
    try:
        client.pull()
    except ClientError as refusal:
        return refusal.tag == "UnknownError" and "expired" in refusal.detail["message"]
    return False


def test_0_3_stays_connected_and_is_told(
    make_client: MakeClient, start_server: StartServer, store_id: str, make_authorizing_proxy: MakeProxy
) -> None:
    server = start_server(**SETTINGS)
    proxy = make_authorizing_proxy(server.port, token(3))
    client = make_client(Generation.V03_WS, f"{proxy.url}/old", store_id)
    follower = client.follow()
    client.push(chain(1, 1))
    follower.wait_for_numbers([1])
    time.sleep(3)
    refusal = client.refusal_of_push(chain(2, 1))
    assert refusal.tag == "InvalidPushError"
    assert "expired" in refusal.detail["message"]
    make_client(Generation.V04_HTTP, server.url, store_id, payload={"authToken": token(600)}).push(chain(2, 1))
    follower.wait_for_numbers([1, 2])
    assert proxy.connections == 1
