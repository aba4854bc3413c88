"""Clients that write while the source is lost amid a commit, how fast they may, and what is recorded of it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.proxy import TcpProxy
from tests.feed.client import DEADLINE_S, FeedClient, position_of
from tests.feed.conftest import SourceDatabase, new_source
from tests.feed.test_server import FeedServer, feed_server
from tests.postgres.server import PostgresServer

SCHEMA = (
    "CREATE TABLE todos (id text PRIMARY KEY, title text)",
    "CREATE TABLE gate (closed bool)",
    "INSERT INTO gate VALUES (false)",
    # a commit of the row `slow` waits while the gate is closed
    "CREATE FUNCTION wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "WHILE (SELECT closed FROM gate) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN NULL; END $$",
    "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON todos DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW WHEN (new.title = 'slow') EXECUTE FUNCTION wait_at_commit()",
)
PUSHES = 5


@pytest.fixture(scope="module")
def database(source_server: PostgresServer) -> Iterator[SourceDatabase]:
    with new_source(source_server, *SCHEMA) as made:
        yield made


@pytest.fixture(scope="module")
def proxy(source_server: PostgresServer) -> Iterator[TcpProxy]:
    with contextlib.closing(TcpProxy(source_server.port)) as made:
        yield made


@pytest.fixture(scope="module")
def server(database: SourceDatabase, proxy: TcpProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedServer]:
    directory = tmp_path_factory.mktemp("lost")
    url = database.url.replace(f":{database.server.port}", f":{proxy.port}")
    assert url != database.url
    more = f'writer = {json.dumps(url)}\n[feed.writes]\n"public.todos" = true'
    settings = {"LIVESYNC_AUDIT_LOG": str(directory / "audit.jsonl"), "LIVESYNC_RATE_PRINCIPAL": f"pushes={PUSHES}/h"}
    with feed_server(directory, database, {"public.todos": "true"}, more, settings) as started:
        yield started


def writer(server: FeedServer, user: str) -> FeedClient:
    client = server.client(user).connect()
    client.wait(lambda: client.state == "live")
    return client


def insert(key: str, title: str = "x") -> dict[str, Any]:
    return {"table": "todos", "operation": "insert", "data": {"id": key, "title": title}}


def waits_at_commit(database: SourceDatabase) -> int:
    """Wait until the commit of a client stands at the gate; gives its process."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := database.run(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query = 'COMMIT'"
    )):  # fmt: skip
        assert time.monotonic() < deadline
    return int(found[0][0])


def recorded(server: FeedServer, user: str, count: int) -> list[dict[str, Any]]:
    """What the audit log says of a user, once it is so much: a thread writes it."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        lines = (server.directory / "audit.jsonl").read_text().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        found = [line for line in found if line.get("user") == user and line["act"] != "connect"]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, found


def test_a_commit_whose_answer_is_lost_is_looked_up(
    database: SourceDatabase, proxy: TcpProxy, server: FeedServer
) -> None:
    ann = writer(server, "ann")
    database.run("UPDATE gate SET closed = true")
    ann.send(type="clt_send_changes", changes=[insert("a1", "slow")])
    waits_at_commit(database)
    proxy.deafen()  # from here on the server hears nothing of its commit
    database.run("UPDATE gate SET closed = false")
    deadline = time.monotonic() + DEADLINE_S
    while not database.run("SELECT 1 FROM todos WHERE id = 'a1'"):
        assert time.monotonic() < deadline
    proxy.cut()
    proxy.restore()
    answer = ann.wait_for("srv_changes_applied")
    assert answer["success"], answer
    assert answer["appliedChanges"] == ["a1"]
    [(status,)] = database.run(f"SELECT pg_xact_status('{answer['txid']}'::xid8)")
    assert status == "committed"
    ann.wait(lambda: position_of(ann.lsn) >= position_of(answer["lsn"]) or ann.state == "live")
    assert ann.live_changes() == []  # its own
    ann.close()
    [line] = recorded(server, "ann", 1)
    assert (line["act"], line["tables"], line["changes"], line["txid"]) == ("feed-write", "todos", "1", answer["txid"])


def test_a_commit_that_was_cut_off_before_it_was_done_is_told_so(
    database: SourceDatabase, proxy: TcpProxy, server: FeedServer
) -> None:
    bob = writer(server, "bob")
    database.run("UPDATE gate SET closed = true")
    bob.send(type="clt_send_changes", changes=[insert("b1", "slow")])
    process = waits_at_commit(database)
    proxy.deafen()  # else PostgreSQL would say that it was ended
    database.run(f"SELECT pg_terminate_backend({process}, 60000)", "UPDATE gate SET closed = false")
    proxy.cut()
    proxy.restore()
    answer = bob.wait_for("srv_changes_applied")
    assert (answer["success"], answer["code"]) == (False, "storage-unavailable")
    assert "nothing was changed" in answer["error"]
    assert database.run("SELECT 1 FROM todos WHERE id = 'b1'") == []
    bob.send(type="clt_send_changes", changes=[insert("b1")])  # as it was told
    assert bob.wait_for("srv_changes_applied", 2)["success"]
    bob.close()


def test_a_commit_of_which_nobody_can_be_asked_is_unclear(
    database: SourceDatabase, proxy: TcpProxy, server: FeedServer
) -> None:
    eve = writer(server, "eve")
    database.run("UPDATE gate SET closed = true")
    eve.send(type="clt_send_changes", changes=[insert("e1", "slow")])
    waits_at_commit(database)
    proxy.cut()  # and it stays so: the source cannot be asked
    answer = eve.wait_for("srv_changes_applied")
    assert "is not known" in answer["error"]
    database.run("UPDATE gate SET closed = false")
    eve.wait(lambda: '["e1"]' in eve.rows["todos"])  # it was done all the same, and it is sent what it was not told
    proxy.restore()
    eve.send(type="clt_send_changes", changes=[insert("e1", "slow")])  # sending it again does no harm
    assert eve.wait_for("srv_changes_applied", 2)["success"]
    assert database.run("SELECT count(*) FROM todos WHERE id = 'e1'") == [(1,)]
    eve.close()


def test_who_writes_too_fast_is_told_and_recorded(database: SourceDatabase, server: FeedServer) -> None:
    fay = writer(server, "fay")
    for number in range(PUSHES + 1):
        fay.send(type="clt_send_changes", changes=[insert(f"f{number}")])
    answer = fay.wait_for("srv_changes_applied", PUSHES + 1)
    assert (answer["success"], answer["code"]) == (False, "too-fast")
    assert "Try again in" in answer["error"]
    assert database.run("SELECT count(*) FROM todos WHERE id LIKE 'f%'") == [(PUSHES,)]
    fay.send(type="clt_send_changes", changes=[{**insert("f9"), "table": "gate"}])
    assert fay.wait_for("srv_changes_applied", PUSHES + 2)["code"] == "not-allowed"
    assert fay.closed is None
    fay.close()
    lines = recorded(server, "fay", PUSHES + 2)
    assert [line["act"] for line in lines] == ["feed-write"] * PUSHES + ["refuse"] * 2
    assert [line["kind"] for line in lines[PUSHES:]] == ["too-fast", "not-allowed"]
