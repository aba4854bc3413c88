"""The registry of clients, shared by two real servers on one PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from livesync_trio.feed.clients import KIND
from tests.feed.client import FeedClient, position_of
from tests.feed.conftest import SourceDatabase, new_source
from tests.feed.test_server import ACCESS, SCHEMA, FeedServer, token
from tests.postgres.server import PostgresServer


@pytest.fixture(scope="module")
def database(source_server: PostgresServer) -> Iterator[SourceDatabase]:
    with new_source(source_server) as made:
        made.run(*SCHEMA)
        made.server.run(f"CREATE DATABASE {made.name}_own")
        yield made


@pytest.fixture(scope="module")
def servers(
    database: SourceDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[FeedServer, FeedServer]]:
    started: list[FeedServer] = []
    own = database.server.url(database=f"{database.name}_own")
    try:
        for name in ("one", "two"):
            directory = tmp_path_factory.mktemp(name)
            started.append(FeedServer(directory, database, ACCESS, "", {"DATABASE_URL": own}))
        yield started[0], started[1]
    finally:
        for server in started:
            server.process.stop_if_ours()


def registered(server: FeedServer, client_id: str) -> dict[str, Any] | None:
    status, answer = server.ask(f"clients?clientId={client_id}")
    assert status in (200, 404)
    return answer["client"] if status == 200 else None


def live(server: FeedServer, client_id: str, user: str = "ann", **query: str) -> FeedClient:
    client = FeedClient(server.url, client_id, token=token(user)).connect(**query)
    client.wait(lambda: client.state == "live" or client.closed)
    return client


def test_what_one_server_registers_the_other_knows(
    database: SourceDatabase, servers: tuple[FeedServer, FeedServer]
) -> None:
    one, two = servers
    client = live(one, "walks")
    found = registered(two, "walks")
    assert found is not None
    assert (found["owner"], found["active"]) == ("ann", True)
    assert "walks" in [each["clientId"] for each in two.ask("clients")[1]["clients"]]
    # while it is away, something happens; it goes on at the other server, which knows what it has acknowledged
    client.close()
    database.run("UPDATE users SET name = 'Ann B.' WHERE id = 'ann'")
    two.barrier()
    back = live(two, "walks", lsn=client.lsn)
    assert [message["type"] for message in back.seen if message["type"].startswith("srv_init")] == []
    assert back.rows["users"]['["ann"]']["name"] == "Ann B."
    moved = registered(one, "walks")
    assert moved is not None
    assert position_of(moved["lsn"]) >= position_of(back.lsn)
    assert moved["lastSeen"] >= found["lastSeen"]
    back.close()


def test_an_id_is_bound_on_every_server(servers: tuple[FeedServer, FeedServer]) -> None:
    one, two = servers
    live(one, "mine").close()
    thief = live(two, "mine", "bob")
    assert thief.seen[-1]["code"] == "feed-refused"
    thief.close()
    found = registered(one, "mine")
    assert found is not None
    assert found["owner"] == "ann"


def test_who_is_unregistered_on_one_server_begins_anew_on_the_other(servers: tuple[FeedServer, FeedServer]) -> None:
    one, two = servers
    client = live(one, "leaves")
    client.close()
    one.wait_until(lambda: (registered(one, "leaves") or {"active": True})["active"] is False)  # it has been noted
    assert two.ask("clients?clientId=leaves", method="DELETE", secret=None)[0] == 401
    assert two.ask("clients", method="DELETE")[0] == 400
    assert two.ask("lsn", method="DELETE")[0] == 405
    assert two.ask("clients?clientId=leaves", method="DELETE")[0] == 200
    assert two.ask("clients?clientId=leaves", method="DELETE")[0] == 404
    assert registered(one, "leaves") is None
    back = live(one, "leaves", "bob", lsn=client.lsn)  # nobody's name any more
    assert back.wait_for("srv_error")["code"] == "refetch"
    back.close()


def test_who_is_not_seen_for_a_day_is_known_to_neither(
    database: SourceDatabase, servers: tuple[FeedServer, FeedServer]
) -> None:
    one, two = servers
    live(one, "sleeps").close()
    one.wait_until(lambda: (registered(one, "sleeps") or {"active": True})["active"] is False)
    own = SourceDatabase(database.server, f"{database.name}_own")
    day_s = 24 * 3600
    for aged_s, known in ((day_s - 600, True), (1200, False)):
        own.run(
            "UPDATE livesync_7_records SET value = jsonb_set(value::jsonb, '{seen_s}', "
            f"to_jsonb((value::jsonb ->> 'seen_s')::float8 - {aged_s}))::text "
            f"WHERE kind = '{KIND}' AND key = 'sleeps'::bytea"
        )
        for server in (one, two):
            assert (registered(server, "sleeps") is not None) is known
    bob = live(two, "sleeps", "bob")  # its name is free
    assert bob.closed is None
    bob.close()
