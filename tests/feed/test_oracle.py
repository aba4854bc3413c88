"""The oracle: whatever is written, however servers die, every client has what PostgreSQL says that it may see."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from livesync_trio.feed.history.databases import SqliteDatabase
from livesync_trio.feed.history.reading import Reader
from livesync_trio.feed.position import Position
from tests.conformance.waiting import eventually
from tests.feed.client import DEADLINE_S, FeedClient, position_of
from tests.feed.conftest import SourceDatabase
from tests.feed.seeds import seeds
from tests.feed.test_faults import answers, kill_the_backend
from tests.feed.test_server import FeedServer, token
from tests.feed.workload import OWNERS, SCHEMA, Workload

KEYS: dict[str, tuple[str, ...]] = {"pairs": ("b", "a"), "parts": ("region", "id")}
FILTERS: dict[str, list[tuple[str, str]]] = {
    "todos": [
        ("owner = {sub} OR done AND n > 0.5", "owner = %(sub)s OR done AND n > 0.5"),
        ("NOT (owner <> {sub})", "NOT (owner <> %(sub)s)"),
        ("n BETWEEN 0.25 AND 0.75 OR title IS NULL", "n BETWEEN 0.25 AND 0.75 OR title IS NULL"),
        ("id > {digit} AND done", "id > %(digit)s AND done"),
    ],
    "notes": [
        (
            "owner = {sub} AND small IS NOT NULL AND NOT (id BETWEEN 5 AND 9)",
            "owner = %(sub)s AND small IS NOT NULL AND NOT (id BETWEEN 5 AND 9)",
        ),
        ("big LIKE 'y%' OR small = {digit}", "big LIKE 'y%%' OR small = %(digit)s"),
        ("big IS NULL", "big IS NULL"),
    ],
    "pairs": [
        ("b IN ('1', '2', {digit})", "b IN ('1', '2', %(digit)s::text)"),
        ("a >= 10 OR b = {digit}", "a >= 10 OR b = %(digit)s::text"),
    ],
    "parts": [
        ("region <> {digit} AND v LIKE 'p%'", "region <> %(digit)s::int AND v LIKE 'p%%'"),
        ("region = 1 OR id < 10", "region = 1 OR id < 10"),
    ],
    "whole": [("true", "true"), ("big NOT LIKE 'y%'", "big NOT LIKE 'y%%'")],
}


def filters(seed: int) -> tuple[dict[str, str], dict[str, str]]:
    """Rules of the feed, and the same as conditions of PostgreSQL; the first of each table for seed 0."""
    dice = random.Random(seed)
    chosen = {table: dice.choice(some) if seed else some[0] for table, some in FILTERS.items()}
    return (
        {f"public.{table}": rule for table, (rule, _) in chosen.items()},
        {table: where for table, (_, where) in chosen.items()},
    )


RULES, WHERE = filters(0)
COLUMNS = {
    "todos": "id, owner, title, done, n::text, at::text",
    "notes": "id::text, owner, big, small",
    "pairs": "a, b, v",
    "parts": "id, region, v",
    "whole": "id, big",
}


class Writers:
    """Sessions that carry out random transactions until they are stopped."""

    def __init__(self, source: SourceDatabase, seeds: range, transactions: int) -> None:
        self._source = source
        self._transactions = transactions
        self._threads = [threading.Thread(target=self._work, args=(seed,)) for seed in seeds]
        for thread in self._threads:
            thread.start()

    def _work(self, seed: int) -> None:
        workload = Workload(seed)
        with self._source.connect() as connection:
            for _ in range(self._transactions):
                workload.attempt(connection)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(10 * DEADLINE_S)
            assert not thread.is_alive()


def expected(
    source: SourceDatabase, claims: dict[str, Any], where: dict[str, str] | None = None
) -> dict[str, list[dict[str, Any]]]:
    tables = {}
    with source.connect() as connection:
        for table, columns in COLUMNS.items():
            cursor = connection.execute(
                f"SELECT {columns} FROM {table} WHERE {(where or WHERE)[table]}".encode(), claims
            )
            names = [column.name for column in cursor.description or ()]
            tables[table] = sorted((dict(zip(names, row, strict=True)) for row in cursor), key=repr)
    return tables


def rows_of(client: FeedClient) -> dict[str, list[dict[str, Any]]]:
    return {table: sorted(client.rows.get(table, {}).values(), key=repr) for table in COLUMNS}


def settles(client: FeedClient, wanted: dict[str, list[dict[str, Any]]]) -> None:
    """Wait until a client has these rows. As a real one, it comes back when its connection is lost meanwhile."""

    def is_there() -> bool:
        if client.gone:
            client.connect()
        return client.state == "live" and rows_of(client) == wanted

    def difference() -> dict[str, tuple[list[Any], list[Any]]]:
        """By table: rows that it lacks, and rows that it should not have."""
        has = rows_of(client)
        return {
            table: ([row for row in rows if row not in has[table]], [row for row in has[table] if row not in rows])
            for table, rows in wanted.items()
            if rows != has[table]
        }

    client.wait(is_there, difference)
    assert client.fault is None, client.fault


@pytest.fixture
def servers(source: SourceDatabase, tmp_path: Path) -> Iterator[Callable[..., FeedServer]]:
    started: list[FeedServer] = []

    def start(rules: dict[str, str] = RULES, **settings: str) -> FeedServer:
        directory = tmp_path / f"server-{len(started)}"
        directory.mkdir()
        access = {table: rule if rule == "true" else json.dumps(rule) for table, rule in rules.items()}
        started.append(FeedServer(directory, source, access, "", settings))
        return started[-1]

    yield start
    for server in started:
        server.process.stop_if_ours()


def clients_of(server: FeedServer, count: int, dice: random.Random) -> list[tuple[dict[str, Any], FeedClient]]:
    made = []
    for number in range(count):
        claims: dict[str, Any] = {"sub": dice.choice(OWNERS[:3]), "digit": dice.randint(0, 4)}
        made.append(
            (claims, FeedClient(server.url, f"c{number}", token=token(claims["sub"], digit=claims["digit"]), keys=KEYS))
        )
    return made


def _lose_the_slot(source: SourceDatabase) -> None:
    source.run(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
        "WHERE NOT active AND database = current_database()"
    )


def _crash(source: SourceDatabase) -> None:
    """PostgreSQL ends all sessions and recovers, as if it had been damaged."""
    kill_the_backend(source.server)
    eventually(lambda: answers(source), "PostgreSQL is there again", DEADLINE_S)


ACTIONS = ("nothing", "server", "client", "slot", "columns", "postgresql", "cut")


@pytest.mark.parametrize("seed", seeds(0))
def test_every_client_has_what_postgresql_says(  # noqa: C901
    source: SourceDatabase, servers: Callable[..., FeedServer], seed: int
) -> None:
    """Clients come and go, the server and PostgreSQL are killed, the slot is lost; writers never rest."""
    source.run(*SCHEMA)
    dice = random.Random(seed)
    rules, where = filters(seed)
    Writers(source, range(900, 902), 30).join()
    server = servers(rules)
    clients = clients_of(server, 4, dice)
    for _, client in clients[:3]:
        client.connect()
    actions = dice.sample(ACTIONS, len(ACTIONS)) if seed else ACTIONS[:-1]
    for turn, action in enumerate(actions):
        begin = seed * 1000 + turn * 10
        writers = Writers(source, range(begin, begin + 3), 40)
        match action:
            case "server":
                server.process.kill()
                server.process.start()
            case "client":
                clients[1][1].close()
            case "slot":
                server.process.kill()
                _lose_the_slot(source)
                server.process.start()
            case "columns":
                source.run("ALTER TABLE todos ADD COLUMN extra int DEFAULT 3", "ALTER TABLE todos DROP COLUMN extra")
                source.run("INSERT INTO whole SELECT g, 'mass' FROM generate_series(10000, 13000) g")
            case "cut":
                source.run(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'livesync feed'"
                )
        writers.join()
        if action == "postgresql":
            _crash(source)
        away = dice.randrange(4)  # one of them comes later, or stays away for a while
        for number, (_, client) in enumerate(clients):
            if number != away and client.gone:
                client.connect()
        eventually(lambda: server.ask("wait-for-initial-poll")[0] == 200, "everything is stored", 2 * DEADLINE_S)
        for claims, client in clients:
            if not client.gone:
                wanted = expected(source, claims, where)
                settles(client, wanted)
    for claims, client in clients:
        wanted = expected(source, claims, where)
        settles(client, wanted)
        codes = [message["code"] for message in client.seen if message["type"] == "srv_error"]
        assert codes == [], codes  # nobody had to fetch anew
        client.close()


def test_two_servers_and_one_that_reads_dies(source: SourceDatabase, servers: Callable[..., FeedServer]) -> None:
    source.run(*SCHEMA)
    source.server.run(f"CREATE DATABASE {source.name}_own")
    own = source.server.url(database=f"{source.name}_own")
    one, two = servers(DATABASE_URL=own), servers(DATABASE_URL=own)
    dice = random.Random(3)
    clients = clients_of(one, 1, dice) + clients_of(two, 1, dice)
    clients[1][1].client_id = "other"
    for _, client in clients:
        client.connect()
    phases = {server: server.ask("status")[1]["phase"] for server in (one, two)}
    reading = one if phases[one] == "following" else two
    for turn in range(2):
        writers = Writers(source, range(turn * 10, turn * 10 + 2), 30)
        if turn == 1:
            reading.process.kill()
        writers.join()
        for (claims, client), server in zip(clients, (one, two), strict=True):
            if turn == 1 and server is reading:
                continue
            server.barrier()
            wanted = expected(source, claims)
            settles(client, wanted)
    reading.process.start()
    for claims, client in clients:
        wanted = expected(source, claims)
        settles(client, wanted)
        client.close()


@pytest.mark.parametrize("seed", seeds(4))
def test_who_comes_back_from_before_the_horizon_has_the_right_rows(
    source: SourceDatabase, servers: Callable[..., FeedServer], tmp_path: Path, seed: int
) -> None:
    """A client with filters fetches anew; one that sees whole tables is told of each row once."""
    source.run(*SCHEMA)
    Writers(source, range(seed * 100, seed * 100 + 2), 20).join()
    hooks = tmp_path / "rules.py"
    hooks.write_text(
        f"RULES = {RULES!r}\n\n\ndef feed_access(principal, table):\n"
        "    return 'everything' in principal.claims or RULES[table]\n"
    )
    server = servers(LIVESYNC_FEED_COMPACT_HOURS="0.0000001", LIVESYNC_HOOKS=str(hooks))
    dice = random.Random(seed)
    [(claims, filtered)] = clients_of(server, 1, dice)
    whole = FeedClient(server.url, "whole", token=token("all", everything="yes"), keys=KEYS)
    for client in (filtered, whole):
        client.connect()
    server.barrier()
    for client in (filtered, whole):
        client.wait(lambda client=client: client.state == "live")
    away = position_of(whole.lsn).commit_lsn
    server.process.kill()
    Writers(source, range(seed * 100 + 2, seed * 100 + 5), 40).join()
    server.process.start()
    server.barrier()
    server.process.kill()
    server.process.start()  # which looks at once at what is old
    history = Reader(SqliteDatabase(server.directory / "x.feed.db"))
    deadline = time.monotonic() + DEADLINE_S
    while history.state().compacted_lsn <= away:
        server.barrier()
        assert time.monotonic() < deadline
    horizon = history.state().compacted_lsn
    state = history.state()
    kept = history.changes(state.epoch, Position(state.floor_lsn), horizon, 10**6).changes
    history.close()
    assert len({(change.relation, change.key) for change in kept}) == len(kept)
    for client in (filtered, whole):
        client.seen.clear()
        client.connect()
    everything = dict.fromkeys(COLUMNS, "true")
    for client, wanted in ((filtered, expected(source, claims)), (whole, expected(source, {}, everything))):
        settles(client, wanted)
        codes = [message["code"] for message in client.seen if message["type"] == "srv_error"]
        assert codes == (["refetch"] if client is filtered else [])
        client.close()
