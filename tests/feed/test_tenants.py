"""Tenants cannot reach each other through any way into the feed: every way, with every kind of token."""

from __future__ import annotations

import http.client
import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.feed.client import DEADLINE_S, FeedClient
from tests.feed.conftest import SourceDatabase, new_source
from tests.feed.test_server import ADMIN, JWT_SECRET, FeedServer, feed_server
from tests.postgres.server import PostgresServer

TENANTS = ("acme", "beta")
PATHS = ("/api/sync", "/api/sync/ws")
SCHEMA = (
    "CREATE TABLE docs (id text PRIMARY KEY, org text NOT NULL, v text)",
    "CREATE TABLE secrets (id text PRIMARY KEY, v text)",
    "INSERT INTO docs VALUES ('acme-first', 'acme', 'a'), ('beta-first', 'beta', 'b')",
    "INSERT INTO secrets VALUES ('nobody-sees-this', 'x')",
)
ACCESS = {"public.docs": '"org = {org}"', "public.secrets": "false"}
PROXIES = {"LIVESYNC_TRUSTED_PROXIES": "127.0.0.1"}
WRITES = '[feed.writes]\n"public.docs" = true'
QUESTIONS = ("init", "status", "clients", "clients?clientId=acme-known", "lsn", "wait-for-initial-poll")
_numbers = itertools.count(1)


def token(org: str | None, secret: str = JWT_SECRET, **claims: Any) -> str:
    """Of a user who has the same name in every tenant; so only the claim tells them apart."""
    given = {"sub": f"user-of-{org}", "exp": int(time.time()) + 3600, **claims}
    return jwt.encode(given if org is None else {**given, "org": org}, secret, algorithm="HS256")


BAD_TOKENS: dict[str, Callable[[], str | None]] = {
    "none": lambda: None,
    "empty": lambda: "",
    "expired": lambda: token("acme", exp=int(time.time()) - 3600),
    "wrong secret": lambda: token("acme", "another-secret-that-is-long-enough-as-well"),
    "unsigned": lambda: jwt.encode({"sub": "x", "org": "acme", "exp": int(time.time()) + 3600}, "", algorithm="none"),
    "the admin secret": lambda: ADMIN,
}


@pytest.fixture(scope="module")
def database(source_server: PostgresServer) -> Iterator[SourceDatabase]:
    with new_source(source_server, *SCHEMA) as made:
        yield made


@pytest.fixture(scope="module")
def server(database: SourceDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedServer]:
    with feed_server(tmp_path_factory.mktemp("tenants"), database, ACCESS, WRITES, {**PROXIES}) as started:
        yield started


@pytest.fixture(scope="module")
def first_dialect(database: SourceDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedServer]:
    """The same for clients of March 2025: a dialect is a server's."""
    more = f'dialect = "first"\npublication = "livesync_first"\n{WRITES}'
    with feed_server(
        tmp_path_factory.mktemp("first"),
        database,
        ACCESS,
        more,
        {**PROXIES, "LIVESYNC_FEED_SLOT": f"first_{database.name}"},
    ) as started:
        yield started


@pytest.fixture(params=("current", "first"))
def either(request: pytest.FixtureRequest, server: FeedServer) -> FeedServer:
    """A server of each dialect."""
    return server if request.param == "current" else request.getfixturevalue("first_dialect")


@contextmanager
def following(server: FeedServer, org: str | None, client_id: str | None = None, **query: str) -> Iterator[FeedClient]:
    """A client with a tenant's token, which has its initial state or was closed."""
    client = FeedClient(server.url, client_id or f"{org}-{next(_numbers)}", token=token(org)).connect(**query)
    try:
        client.wait(lambda: client.state == "live" or client.closed)
        yield client
    finally:
        client.close()
        assert client.fault is None


def told(client: FeedClient) -> str:
    """Everything that a client was ever sent, but what it is called itself."""
    return json.dumps([{**message, "clientId": ""} for message in client.seen])


def status_of(server: FeedServer, path: str, bearer: str | None, client_id: str = "x") -> int:
    """With which status a WebSocket is answered."""
    query = {"clientId": client_id, "lsn": "0/0", **({} if bearer is None else {"auth": bearer})}
    try:
        with connect(f"{server.url.replace('http', 'ws')}{path}?{urlencode(query)}"):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def ask(server: FeedServer, method: str, what: str, bearer: str | None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.process.port, timeout=DEADLINE_S)
    number = next(_numbers)  # each from an address of its own: who guesses often is not listened to
    headers = {"X-Forwarded-For": f"198.51.{number // 256}.{number % 256}"}
    headers |= {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
    connection.request(method, f"/api/replication/{what}", headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


@pytest.mark.parametrize("own", TENANTS)
def test_initial_state_catch_up_and_live_are_of_the_own_tenant(
    database: SourceDatabase, either: FeedServer, own: str
) -> None:
    [other] = {*TENANTS} - {own}
    with following(either, own) as client:
        assert {row["org"] for row in client.rows["docs"].values()} == {own}
        live, away, moved = (f"{org_}-{next(_numbers)}" for org_ in ("live", "away", "moved"))
        rows = "INSERT INTO docs SELECT org || '-{0}', org, 'by-' || org FROM unnest(ARRAY['acme', 'beta']) org"
        database.run(rows.format(live))
        client.wait(lambda: f'["{own}-{live}"]' in client.rows["docs"])
        client.close()
        database.run(rows.format(away))
        either.barrier()
        client.connect()
        client.wait(lambda: f'["{own}-{away}"]' in client.rows["docs"])
        # a row that goes to the other tenant is gone, and nothing is said of where, or of what it is now
        database.run(
            f"INSERT INTO docs VALUES ('{moved}', '{own}', 'mine')",
            f"UPDATE docs SET org = '{other}', v = 'theirs-{moved}' WHERE id = '{moved}'",
            f"UPDATE docs SET v = 'still-theirs-{moved}' WHERE id = '{moved}'",
            f"INSERT INTO docs VALUES ('{moved}-end', '{own}', 'end')",
        )
        client.wait(lambda: f'["{moved}-end"]' in client.rows["docs"])
        assert f'["{moved}"]' not in client.rows["docs"]
        for word in (
            f"by-{other}",
            f"{other}-{live}",
            f"{other}-{away}",
            f"{other}-first",
            f"theirs-{moved}",
            "secrets",
        ):
            assert word not in told(client), word


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("bad", BAD_TOKENS)
def test_without_a_good_token_nothing_opens(either: FeedServer, path: str, bad: str) -> None:
    assert status_of(either, path, BAD_TOKENS[bad]()) == 401
    assert status_of(either, path, token("acme"), "good") == 101  # so it was the token


@pytest.mark.parametrize("org", [None, "ACME", "acme ", "acme' OR '1' = '1", "%", ""])
def test_a_tenant_that_is_none_has_no_rows(either: FeedServer, org: str | None) -> None:
    with following(either, org, f"nobody-{next(_numbers)}") as client:
        assert client.rows.get("docs", {}) == {}
        assert "-first" not in told(client)


def test_another_tenants_client_id_and_position_open_nothing(either: FeedServer) -> None:
    name = f"taken-{next(_numbers)}"
    with following(either, "acme", name) as acme:
        position = acme.lsn
        with following(either, "beta", name, lsn=position) as thief:
            assert thief.seen[-1]["code"] == "feed-refused"
            assert "acme" not in told(thief)
        acme.send(type="clt_heartbeat")
        acme.wait_for("srv_heartbeat")  # who was there first is not disturbed
        assert acme.closed is None
    with following(either, "beta", lsn=position) as other:
        assert "acme-" not in told(other)
        assert {row["org"] for row in other.rows["docs"].values()} == {"beta"}
    status, body = ask(either, "GET", f"clients?clientId={name}", ADMIN)
    assert (status, json.loads(body)["client"]["owner"]) == (200, "user-of-acme")


@pytest.mark.parametrize(
    "change",
    [
        {"operation": "update", "data": {"id": "acme-first", "v": "stolen"}},
        {"operation": "delete", "data": {"id": "acme-first"}},
        {"operation": "insert", "data": {"id": "acme-first", "org": "beta", "v": "stolen"}},
        {"operation": "insert", "data": {"id": "planted", "org": "acme", "v": "stolen"}},
        {"operation": "update", "data": {"id": "beta-first", "org": "acme"}},
        {"table": "secrets", "operation": "insert", "data": {"id": "planted", "v": "stolen"}},
        {"table": "secrets", "operation": "delete", "data": {"id": "nobody-sees-this"}},
    ],
    ids=["update", "delete", "insert-over", "insert", "give-away", "hidden-insert", "hidden-delete"],
)
def test_nothing_of_another_tenant_is_changed(
    database: SourceDatabase, either: FeedServer, change: dict[str, Any]
) -> None:
    everything = "SELECT id, org, v FROM docs UNION ALL SELECT id, '', v FROM secrets ORDER BY id"
    before = database.run(everything)
    with following(either, "beta") as client:
        client.send(type="clt_send_changes", changes=[{"table": "docs", **change}])
        answer = client.wait_for("srv_changes_applied")
        assert not answer["success"] or answer["conflicts"], answer
        assert "acme-first" not in told(client).replace(json.dumps(change["data"]["id"]), "")
    assert database.run(everything) == before


def test_what_operators_ask_is_closed_to_every_tenant(either: FeedServer) -> None:
    with following(either, "acme", f"acme-known-{next(_numbers)}") as known:
        for bearer in (None, "", token("acme"), token("beta"), "another"):
            for method, what in [
                *itertools.product(("GET", "POST"), QUESTIONS),
                ("DELETE", f"clients?clientId={known.client_id}"),
            ]:
                status, body = ask(either, method, what, bearer)
                assert status == 401, (method, what)
                assert "acme" not in body
