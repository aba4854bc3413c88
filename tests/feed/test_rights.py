"""Rights that change while clients are connected: a reload, a token that ends; and who is known after a restart."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.feed.client import FeedClient
from tests.feed.conftest import SourceDatabase, new_source
from tests.feed.test_server import FeedServer, feed_server, token
from tests.postgres.server import PostgresServer

SCHEMA = (
    "CREATE TABLE todos (id int PRIMARY KEY, owner text, title text)",
    "CREATE TABLE notes (id int PRIMARY KEY, v text)",
    "CREATE TABLE tags (id int PRIMARY KEY, v text)",
    "INSERT INTO todos VALUES (1, 'ann', 'a'), (2, 'bob', 'b')",
    "INSERT INTO notes VALUES (1, 'n')",
    "INSERT INTO tags VALUES (1, 't')",
)
ACCESS = {"public.todos": '"owner = ANY({owners})"', "public.notes": "true", "public.tags": "false"}


@pytest.fixture(scope="module")
def database(source_server: PostgresServer) -> Iterator[SourceDatabase]:
    with new_source(source_server, *SCHEMA) as made:
        yield made


@pytest.fixture(scope="module")
def one_server(database: SourceDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedServer]:
    with feed_server(tmp_path_factory.mktemp("rights"), database, ACCESS, "", {}) as started:
        yield started


@pytest.fixture
def server(one_server: FeedServer) -> Iterator[FeedServer]:
    """With the rules that it was started with, also behind a test that changes them."""
    config = one_server.directory / "livesync.toml"
    before = config.read_text()
    yield one_server
    if config.read_text() != before:
        config.write_text(before)
        reload(one_server, "", "")


def reload(server: FeedServer, before: str, after: str) -> None:
    """Change the configuration, and have it read."""
    config = server.directory / "livesync.toml"
    text = config.read_text()
    assert before in text
    config.write_text(text.replace(before, after) if before else text)
    count = server.process.log_tail(10_000).count("reloaded")
    server.process.tell(signal.SIGHUP)
    server.wait_until(lambda: server.process.log_tail(10_000).count("reloaded") > count)


def test_a_reload_reaches_whom_it_concerns_and_nobody_else(database: SourceDatabase, server: FeedServer) -> None:
    ann = FeedClient(server.url, "ann", token=token("ann", owners=["ann"])).connect()
    both = FeedClient(server.url, "both", token=token("both", owners=["ann", "bob"])).connect()
    for client in (ann, both):
        client.wait_for("srv_live_start")
    reload(server, '"owner = ANY({owners})"', '"owner = {sub}"')
    assert both.wait_for("srv_error")["code"] == "refetch"
    both.wait(lambda: both.state == "live" and both.rows["todos"] == {})
    ann.wait_for("srv_error")  # another filter is another right, whatever it lets through now
    ann.wait(lambda: ann.state == "live" and ann.rows["todos"].keys() == {"[1]"})
    # rights of a table that is none of theirs, and rights to write: nobody is disturbed
    count = [len(client.seen) for client in (ann, both)]
    reload(server, "[feed.access]", '[feed.writes]\n"public.notes" = true\n[feed.access]')
    for client in (ann, both):
        client.send(type="clt_heartbeat")
        client.wait_for("srv_heartbeat")
    assert [len(client.seen) - 1 for client in (ann, both)] == count
    ann.send(type="clt_send_changes", changes=[{"table": "notes", "operation": "insert", "data": {"id": 2, "v": "w"}}])
    assert ann.wait_for("srv_changes_applied")["success"]
    # widened: they get the new table, too
    reload(server, '"public.tags" = false', '"public.tags" = true')
    ann.wait(lambda: ann.state == "live" and len(ann.rows.get("tags", {})) == 1)
    assert ann.rows["notes"].keys() == {"[1]", "[2]"}
    # nothing is left to be seen: closed, in words
    text = (server.directory / "livesync.toml").read_text()
    head, _, _ = text.partition("[feed.writes]")
    (server.directory / "livesync.toml").write_text(head + '[feed.access]\n"public.todos" = false\n')
    reload(server, "", "")
    ann.wait(lambda: ann.closed)
    assert ann.seen[-1]["code"] == "feed-refused"
    for client in (ann, both):
        client.close()
        assert client.fault is None


def test_a_connection_ends_with_its_token(server: FeedServer) -> None:
    soon = FeedClient(server.url, "soon", token=token("ann", exp=int(time.time()) + 3, owners=[])).connect()
    soon.wait(lambda: soon.closed)
    assert soon.seen[-1]["code"] == "token-expired"
    soon.close()


def test_who_left_amid_another_initial_state_fetches_anew(database: SourceDatabase, server: FeedServer) -> None:
    """Its old position is of old rights: rows that came into its sight since would be missing for ever."""
    narrow = FeedClient(server.url, "moved", token=token("eve", owners=[])).connect()
    narrow.wait_for("srv_live_start")
    narrow.close()
    position = narrow.lsn
    wide = FeedClient(server.url, "moved", token=token("eve", owners=["bob"], more=1))
    wide.acknowledges = False
    wide.connect(lsn=position)
    assert wide.wait_for("srv_error")["code"] == "refetch"
    wide.wait_for("srv_init_changes")
    wide.close()
    wide.acknowledges, wide.rows = True, {}
    wide.connect(lsn=position)  # it had stored nothing yet
    assert wide.wait_for("srv_error", 2)["code"] == "refetch"
    wide.wait(lambda: wide.state == "live")
    assert wide.rows["todos"].keys() == {"[2]"}
    wide.close()


def test_the_registry_survives_a_restart(server: FeedServer) -> None:
    client = FeedClient(server.url, "stays", token=token("ann", owners=["ann"])).connect()
    client.wait(lambda: client.state == "live")
    client.close()
    server.process.stop()
    server.process.start()
    back = FeedClient(server.url, "stays", token=token("ann", owners=["ann"])).connect(lsn=client.lsn)
    back.wait(lambda: back.state == "live")
    assert all(message["type"] != "srv_error" for message in back.seen)
    back.close()
    other = FeedClient(server.url, "stays", token=token("bob", owners=["ann"])).connect()
    other.wait(lambda: other.closed)
    assert other.seen[-1]["code"] == "feed-refused"
    other.close()
