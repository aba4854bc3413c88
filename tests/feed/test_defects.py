"""Twenty ways in which the original lost, doubled or disclosed rows; each is tried here, on one server for all."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from livesync_trio.feed.history.reading import _AFTER
from livesync_trio.feed.position import parse_token
from tests.feed.client import FeedClient, position_of
from tests.feed.conftest import SourceDatabase, new_source
from tests.feed.test_server import FeedServer, feed_server, token
from tests.postgres.server import PostgresServer

SCHEMA = (
    "CREATE TABLE marks (id int PRIMARY KEY)",
    "CREATE TABLE a (id int PRIMARY KEY, v text)",
    "CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a DEFERRABLE INITIALLY DEFERRED, v text)",
    "ALTER TABLE a ADD COLUMN b int REFERENCES b DEFERRABLE INITIALLY DEFERRED",  # a circle
    "CREATE TABLE big (id int PRIMARY KEY, v text, n int)",
    "ALTER TABLE big ALTER v SET STORAGE EXTERNAL",
    "CREATE TABLE typed (id int PRIMARY KEY, i8 int8, num numeric, raw bytea, at timestamptz)",
    "CREATE TABLE owned (id int PRIMARY KEY, owner text, v text, secret text)",
    "CREATE TABLE hidden (id int PRIMARY KEY, v text)",
)
TABLES = ("marks", "a", "b", "big", "typed", "owned", "hidden")
ACCESS = {f"public.{name}": "true" for name in TABLES} | {"public.owned": '"owner = {sub}"', "public.hidden": "false"}
MORE = '[feed.columns]\n"public.owned" = ["owner", "v"]'
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def source_of_all(source_server: PostgresServer) -> Iterator[SourceDatabase]:
    with new_source(source_server, *SCHEMA) as made:
        yield made


@pytest.fixture(scope="module")
def server(source_of_all: SourceDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedServer]:
    with feed_server(tmp_path_factory.mktemp("defects"), source_of_all, ACCESS, MORE, {}) as started:
        yield started


@pytest.fixture
def run(source_of_all: SourceDatabase) -> Callable[..., list[tuple[Any, ...]]]:
    return source_of_all.run


Run = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def new_client(server: FeedServer) -> Iterator[Callable[..., FeedClient]]:
    made: list[FeedClient] = []

    def new(user: str = "ann") -> FeedClient:
        made.append(FeedClient(server.url, f"{user}-{next(_numbers)}", token=token(user)))
        return made[-1]

    yield new
    for client in made:
        client.close()
        assert client.fault is None


NewClient = Callable[..., FeedClient]


def live(client: FeedClient, **query: str) -> FeedClient:
    client.connect(**query)
    client.wait(lambda: client.state == "live")
    return client


def settle(run: Run, *clients: FeedClient) -> None:
    """Wait until clients have everything that was committed before."""
    mark = next(_numbers)
    run(f"INSERT INTO marks VALUES ({mark})")
    for client in clients:
        client.wait(lambda client=client: f"[{mark}]" in client.rows.get("marks", {}))


def rows_of(client: FeedClient, table: str) -> list[dict[str, Any]]:
    return sorted(client.rows[table].values(), key=lambda row: row["id"])


def chunks_of(client: FeedClient) -> list[dict[str, Any]]:
    return [message for message in client.seen if message["type"] == "srv_catchup_changes"]


def test_01_a_transaction_is_not_cut_where_places_are_shared(
    run: Run, new_client: NewClient, server: FeedServer
) -> None:
    client = live(new_client())
    client.close()
    run("INSERT INTO a SELECT g, 'cut' FROM generate_series(1000, 2199) g")
    server.barrier()
    client.acknowledges = False
    client.connect()
    chunk = client.wait_for("srv_catchup_changes")
    assert not chunk["whole"]
    client.close()
    client.acknowledges = True
    live(client)
    assert sum(row["v"] == "cut" for row in client.rows["a"].values()) == 1200
    run("DELETE FROM a WHERE v = 'cut'")


def test_02_the_last_position_is_behind_a_whole_commit(run: Run, new_client: NewClient, server: FeedServer) -> None:
    client = live(new_client())
    client.close()
    run("INSERT INTO a SELECT g, 'x' FROM generate_series(3000, 3699) g", "INSERT INTO b VALUES (3000, 3000, 'y')")
    server.barrier()
    live(client)
    assert {message["whole"] for message in chunks_of(client)} == {False, True}
    for message in chunks_of(client):
        last = position_of(message["lastLSN"]).commit_lsn
        places = [position_of(change["lsn"]).commit_lsn for change in message["changes"]]
        assert places == sorted(places)
        assert last == places[-1] if message["whole"] else last < places[-1]
    run("DELETE FROM b WHERE id = 3000", "DELETE FROM a WHERE v = 'x'")


def test_03_what_changes_during_the_initial_state_is_not_skipped(run: Run, new_client: NewClient) -> None:
    run("INSERT INTO big SELECT g, 'old', 0 FROM generate_series(1, 700) g")
    client = new_client()
    client.acknowledges = False
    client.connect()
    run(
        "UPDATE big SET n = 1 WHERE id IN (1, 700)",
        "DELETE FROM big WHERE id = 2",
        "INSERT INTO big VALUES (0, 'new', 1)",
    )
    client.close()
    client.acknowledges, client.rows = True, {}
    live(client, lsn="0/0")
    settle(run, client)
    assert len(client.rows["big"]) == 700
    assert {row["id"] for row in client.rows["big"].values() if row["n"] == 1} == {0, 1, 700}
    run("DELETE FROM big")


def test_04_a_position_is_never_ahead_of_what_is_stored(run: Run, new_client: NewClient, server: FeedServer) -> None:
    for number in range(4000, 4005):
        run(f"INSERT INTO a VALUES ({number}, 'at once')")
        client = live(new_client())
        head = position_of(server.ask("lsn")[1]["lsn"])
        assert position_of(client.wait_for("srv_init_complete")["serverLSN"]) <= head
        settle(run, client)
        assert f"[{number}]" in client.rows["a"]
    run("DELETE FROM a WHERE v = 'at once'")


def test_05_what_could_not_be_stored_is_not_confirmed(run: Run, new_client: NewClient, server: FeedServer) -> None:
    client = live(new_client())
    server.barrier()
    held = sqlite3.connect(server.directory / "x.feed.db", isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    run("INSERT INTO a VALUES (5000, 'kept')")
    [(before,)] = run("SELECT pg_current_wal_lsn()")
    slot = f"feed_{server.source.name}"
    asked = f"SELECT confirmed_flush_lsn < '{before}' FROM pg_replication_slots WHERE slot_name = '{slot}'"
    assert run(asked) == [(True,)]
    held.execute("ROLLBACK")
    held.close()
    settle(run, client)
    assert "[5000]" in client.rows["a"]


def test_06_a_crash_repeats_and_skips_nothing(run: Run, new_client: NewClient, server: FeedServer) -> None:
    client = live(new_client())
    settle(run, client)
    client.close()
    run("INSERT INTO a VALUES (6000, 'one')")
    server.barrier()
    run("INSERT INTO a VALUES (6001, 'two')")
    server.process.kill()
    run("INSERT INTO a VALUES (6002, 'three')")
    server.process.start()
    server.barrier()
    live(client)
    caught_up = [change["data"]["id"] for message in chunks_of(client) for change in message["changes"]]
    assert caught_up == [6000, 6001, 6002]


def test_07_the_source_may_forget_its_log(run: Run, server: FeedServer) -> None:
    run("INSERT INTO a VALUES (7000, 'x')")
    head = server.barrier()
    slot = f"FROM pg_replication_slots WHERE slot_name = 'feed_{server.source.name}'"
    confirmed = f"SELECT confirmed_flush_lsn >= '{head}' {slot}"
    server.wait_until(lambda: run(confirmed) == [(True,)])


def test_08_an_old_acknowledgement_satisfies_no_new_chunk(run: Run, new_client: NewClient, server: FeedServer) -> None:
    client = live(new_client())
    client.close()
    run("INSERT INTO a SELECT g, 'acks' FROM generate_series(8000, 9999) g")
    server.barrier()
    another = live(new_client())
    client.acknowledges = False
    client.connect()
    client.wait_for("srv_catchup_changes")
    for _ in range(3):
        client.send(type="clt_catchup_received", chunk=1, lsn="0/0")
    client.wait_for("srv_catchup_changes", 2)
    client.send(type="clt_catchup_received", chunk=1, lsn="0/0")
    settle(run, another)  # the next chunk would have been read and sent by then
    client.send(type="clt_heartbeat")
    client.wait_for("srv_heartbeat")
    assert [message["sequence"]["chunk"] for message in chunks_of(client)] == [1, 2]
    run("DELETE FROM a WHERE v = 'acks'")


def test_09_a_row_that_goes_and_comes_in_one_transaction_is_there(run: Run, new_client: NewClient) -> None:
    run("INSERT INTO a VALUES (9, 'old')")
    client = live(new_client())
    run(
        "BEGIN",
        "DELETE FROM a WHERE id = 9",
        "INSERT INTO a VALUES (9, 'new')",
        "INSERT INTO b VALUES (9, 9, 'b')",
        "COMMIT",
    )
    settle(run, client)
    told = [(each["table"], each["operation"]) for each in client.live_changes() if each["data"]["id"] == 9]
    assert told == [("a", "delete"), ("a", "insert"), ("b", "insert")]
    assert (client.rows["a"]["[9]"]["v"], client.rows["b"]["[9]"]["v"]) == ("new", "b")


def test_10_a_deletion_reaches_exactly_those_who_saw_the_row(run: Run, new_client: NewClient) -> None:
    run("INSERT INTO owned VALUES (10, 'ann', 'v')")  # DEFAULT identity: the log names the key alone
    ann, bob = live(new_client()), live(new_client("bob"))
    run("DELETE FROM owned WHERE id = 10")
    settle(run, ann, bob)
    assert "[10]" not in ann.rows["owned"]
    assert [each["operation"] for each in ann.live_changes() if each["table"] == "owned"] == ["delete"]
    assert not [each for each in bob.live_changes() if each["table"] == "owned"]


def test_11_a_large_value_that_was_not_touched_is_kept(run: Run, new_client: NewClient) -> None:
    run("INSERT INTO big VALUES (11, repeat('x', 9000), 0)")
    client = live(new_client())
    run("UPDATE big SET n = 1 WHERE id = 11")
    settle(run, client)
    [change] = [each for each in client.live_changes() if each["table"] == "big"]
    assert (change["operation"], len(change["data"]["v"]), change["data"]["n"]) == ("update", 9000, 1)


def test_12_truncate_other_keys_and_other_columns(run: Run, new_client: NewClient) -> None:
    run("INSERT INTO typed (id, i8) VALUES (12, 1), (13, 2)")
    client = live(new_client())
    run("UPDATE typed SET id = 120 WHERE id = 12", "ALTER TABLE typed ADD COLUMN extra text")
    run("UPDATE typed SET extra = 'e' WHERE id = 13")
    settle(run, client)
    assert [row["id"] for row in rows_of(client, "typed")] == [13, 120]
    assert client.rows["typed"]["[13]"]["extra"] == "e"
    run("TRUNCATE typed")
    settle(run, client)
    assert client.rows["typed"] == {}


def test_13_the_order_of_a_transaction_is_kept_in_circles_too(run: Run, new_client: NewClient) -> None:
    client = live(new_client())
    run("BEGIN", "INSERT INTO b VALUES (130, 130, 'x')", "INSERT INTO a VALUES (130, 'y', 130)",
        "UPDATE b SET v = 'z' WHERE id = 130", "COMMIT")  # fmt: skip
    settle(run, client)
    told = [each for each in client.live_changes() if each["data"]["id"] == 130]
    assert [(each["table"], each["operation"]) for each in told] == [("b", "insert"), ("a", "insert"), ("b", "update")]
    assert len({each["lsn"] for each in told}) == 1


def test_14_every_message_that_moves_a_client_says_where_to_in_the_words_that_it_reads(
    run: Run, new_client: NewClient, server: FeedServer
) -> None:
    client = live(new_client())
    client.close()
    run("INSERT INTO a VALUES (14, 'x')")
    server.barrier()
    live(client)
    completed = client.wait_for("srv_catchup_completed")
    assert completed["finalLSN"] == completed["lastLSN"] == client.lsn
    settle(run, client)
    assert client.wait_for("srv_live_changes")["lastLSN"] == client.lsn


@pytest.mark.parametrize("way", ["initial", "catch-up", "live"])
def test_15_nobody_sees_a_table_row_or_column_that_is_not_theirs(run: Run, new_client: NewClient, way: str) -> None:
    ids = {user: next(_numbers) + 15_000 for user in ("ann", "bob", "o'neil' OR true --")}
    clients = {user: new_client(user) for user in ids}
    if way != "initial":
        for client in clients.values():
            live(client)
            if way == "catch-up":
                client.close()
    for user, number in ids.items():
        owner = user.replace("'", "''")
        run(
            f"INSERT INTO owned VALUES ({number}, '{owner}', 'v', 'top secret')",
            f"UPDATE owned SET v = 'w', secret = 'top secret 2' WHERE id = {number}",
            f"INSERT INTO hidden VALUES ({number}, 'top secret')",
        )
    for user, client in clients.items():
        if way != "live":
            live(client)
        settle(run, client)
        assert "top secret" not in repr(client.seen)
        assert "hidden" not in client.rows
        assert [row["id"] for row in rows_of(client, "owned")][-1:] == [ids[user]]
        assert {row["owner"] for row in rows_of(client, "owned")} == {user}
        assert rows_of(client, "owned")[-1] == {"id": ids[user], "owner": user, "v": "w"}


def test_16_what_a_client_sends_never_becomes_sql(run: Run, new_client: NewClient) -> None:
    """With writes switched on: `test_writes`."""
    client = live(new_client())
    change = {"table": 'a"; DROP TABLE a; --', "operation": "delete", "data": {"id": 1}}
    client.send(type="clt_send_changes", changes=[change])
    answer = client.wait_for("srv_changes_applied")
    assert (answer["success"], answer["code"]) == (False, "not-allowed")
    assert run("SELECT count(*) >= 0 FROM a") == [(True,)]


def test_17_positions_compare_as_numbers() -> None:
    ordered = ["0/9", "0/A", "0/10", "0/FFFFFFFF", "1/0", "9/FFFFFFFF", "A/0", "10/0"]
    positions = [parse_token(text).position for text in ordered]
    assert positions == sorted(positions)
    assert [str(position) for position in positions] == ordered


def test_18_a_client_that_takes_nothing_delays_nobody(run: Run, new_client: NewClient) -> None:
    slow, quick = new_client(), live(new_client())
    slow.acknowledges = False
    slow.connect()
    slow.wait_for("srv_init_changes")
    for _ in range(5):
        settle(run, quick)
    assert sum(message["type"] == "srv_init_changes" for message in slow.seen) == 1


def test_19_reading_on_looks_at_nothing_before_the_position(server: FeedServer) -> None:
    with sqlite3.connect(server.directory / "x.feed.db") as history:
        plan = history.execute("EXPLAIN QUERY PLAN " + _AFTER.replace("%s", "?"), (9, 9, 9, 99, 500, 10**6)).fetchall()
    steps = [row[3] for row in plan if "livesync_feed_changes" in row[3]]
    assert steps
    assert all("SEARCH" in step and "PRIMARY KEY" in step for step in steps), steps


def test_20_a_position_that_is_kept_no_more_is_told(new_client: NewClient) -> None:
    client = new_client()
    client.connect(lsn="0/1")
    assert client.wait_for("srv_error")["code"] == "refetch"
    client.wait(lambda: client.state == "live")
