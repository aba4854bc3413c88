"""Behind real Caddy, as docs/hardening.md says: every client works, through restarts and over two servers."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from . import caddy as caddy_program
from .caddy import Caddy
from .clients import Generation
from .conftest import MakeClient, StartServer
from .events import chain, numbers
from .servers import REPOSITORY, ServerProcess

StartCaddy = Callable[[str], Caddy]

ADDRESSES_HOOK = """
from pathlib import Path

def validate_payload(payload, context):
    with Path("addresses").open("a") as file:
        file.write(f"{context.client_address}\\n")
"""

BALANCED = """
  request_header X-Store-Id {{query.storeId}}
  reverse_proxy 127.0.0.1:{0} 127.0.0.1:{1} {{
    lb_policy header X-Store-Id
  }}
"""


@pytest.fixture
def start_caddy(tmp_path: Path) -> Iterator[StartCaddy]:
    """Starts Caddy with one site. Without Caddy: skipped, said loudly; under ``CI=true`` a failure."""
    if caddy_program.missing():
        reason = "NOT RUN BEHIND A PROXY: caddy not found (apt-get install caddy)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    started: list[Caddy] = []

    def start(site: str) -> Caddy:
        directory = tmp_path / f"caddy-{len(started)}"
        directory.mkdir()
        started.append(Caddy(directory, site))
        return started[-1]

    yield start
    for each in started:
        each.close()


def in_front_of(server: ServerProcess) -> str:
    """The site that the documentation shows."""
    page = (REPOSITORY / "docs/hardening.md").read_text()
    site = re.search(r"^sync\.example\.org \{\n(.*?)^\}", page, re.MULTILINE | re.DOTALL)
    assert site is not None
    return site[1].replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")


def test_a_push_over_http_while_the_server_is_away_is_tried_again(
    make_client: MakeClient, start_server: StartServer, start_caddy: StartCaddy, store_id: str
) -> None:
    """The client dies of an error without a body, as Caddy's own are; of one with a text it makes one to try again."""
    server = start_server()
    client = make_client(Generation.V04_HTTP, start_caddy(in_front_of(server)).url, store_id)
    client.push(chain(1, 1))
    server.stop()
    assert client.refusal_of_push(chain(2, 1)).tag == "UnknownError"
    server.start()
    client.push(chain(2, 1))


def test_every_client_works_through_it(
    make_client: MakeClient, generation: Generation, start_server: StartServer, start_caddy: StartCaddy, store_id: str
) -> None:
    proxy = start_caddy(in_front_of(start_server()))
    writer = make_client(generation, proxy.url, store_id)
    follower = make_client(generation, proxy.url, store_id).follow()
    follower.wait_for_first_page()
    writer.push(chain(1, 50))
    writer.push(chain(51, 1))
    follower.wait_for_numbers(range(1, 52))
    assert numbers(writer.pull()) == list(range(1, 52))


def test_requests_share_a_pool_of_connections(
    make_client: MakeClient, start_server: StartServer, start_caddy: StartCaddy, store_id: str, tmp_path: Path
) -> None:
    hook = tmp_path / "rules.py"
    hook.write_text(ADDRESSES_HOOK)
    server = start_server(LIVESYNC_HOOKS=str(hook))
    proxy = start_caddy(in_front_of(server))
    over_http = make_client(Generation.V04_HTTP, proxy.url, store_id)
    for number in range(1, 11):
        over_http.push(chain(number, 1))
    addresses = addresses_in(server)
    assert len(addresses) >= 10
    assert len(set(addresses)) < len(addresses) / 2, "Caddy did not reuse its connections, so this shows nothing"
    # Caddy 2.6 takes a fresh connection for an upgrade; one on a used connection is in tests/bad_input.
    over_ws = make_client(Generation.V04_WS, proxy.url, store_id)
    assert numbers(over_ws.pull()) == list(range(1, 11))
    over_http.push(chain(11, 1))


def addresses_in(server: ServerProcess) -> list[str]:
    return (server._directory / "addresses").read_text().splitlines()


def test_a_client_is_seen_with_its_own_address_and_not_the_one_it_wrote(
    start_server: StartServer, start_caddy: StartCaddy, tmp_path: Path
) -> None:
    hook = tmp_path / "rules.py"
    hook.write_text(ADDRESSES_HOOK)
    server = start_server(LIVESYNC_HOOKS=str(hook), LIVESYNC_TRUSTED_PROXIES="loopback")
    proxy = start_caddy(in_front_of(server))
    for header in ("X-Forwarded-For", "Forwarded"):
        request = urllib.request.Request(
            f"{proxy.url}/?storeId=s&transport=http", b"{}", {header: "192.0.2.66, for=192.0.2.66"}
        )
        with pytest.raises(OSError, match="400"):
            urllib.request.urlopen(request, timeout=5)
    assert addresses_in(server) == ["127.0.0.1"] * 2


@pytest.mark.parametrize("websocket_generation", [Generation.V04_WS], ids=lambda each: each.label)
def test_a_restart_of_the_server_behind_it_is_survived(
    make_client: MakeClient,
    start_server: StartServer,
    start_caddy: StartCaddy,
    store_id: str,
    websocket_generation: Generation,
) -> None:
    server = start_server()
    proxy = start_caddy(in_front_of(server))
    client = make_client(websocket_generation, f"{proxy.url}/restart", store_id)
    over_http = make_client(Generation.V04_HTTP, proxy.url, store_id)
    follower = client.follow(resume=True)
    client.push(chain(1, 1))
    over_http.push(chain(2, 1))
    follower.wait_for_numbers([1, 2])
    for how, last in ((server.stop, 3), (server.kill, 4)):
        how()
        assert proxy.status("/health") == 502
        server.start()
        over_http.push(chain(last, 1))  # on a pooled connection that the old process has taken to its grave
        follower.wait_for_numbers(range(1, last + 1), timeout_s=30)
    mine = [record for record in client.sockets("/restart") if store_id in record["url"]]
    assert mine[0]["closed"]["code"] == 1012  # told through the proxy
    assert {failure["_tag"] for failure in follower.failures} == {"IsOfflineError"}


def test_stores_are_balanced_over_two_servers_and_each_stays_with_one(
    make_client: MakeClient, start_server: StartServer, start_caddy: StartCaddy, store_id: str
) -> None:
    servers = [start_server(), start_server()]
    proxy = start_caddy(BALANCED.format(*(server.port for server in servers)))

    def active() -> list[int]:
        answers = [urllib.request.urlopen(f"{server.url}/health", timeout=5) for server in servers]
        return [json.load(answer)["stores_active"] for answer in answers]

    stores: list[str] = []
    while len(stores) < 8 or (not all(active()) and len(stores) < 40):  # where one goes is chance
        stores.append(store := f"{store_id}-{len(stores)}")
        over_ws = make_client(Generation.V04_WS, proxy.url, store, payload={"any": store})
        follower = over_ws.follow()
        follower.wait_for_first_page()
        over_http = make_client(Generation.V04_HTTP, proxy.url, store)
        over_http.push(chain(1, 1))
        over_ws.push(chain(2, 1))
        follower.wait_for_numbers([1, 2])
        assert numbers(over_http.pull()) == [1, 2]
    assert sum(active()) == len(stores)
    assert all(active()), f"all stores went to one server: {active()}"
