"""The feed of a real server, on a real PostgreSQL, with real clients."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.conformance.servers import ServerProcess
from tests.feed.client import DEADLINE_S, FeedClient, position_of
from tests.feed.conftest import SourceDatabase

JWT_SECRET = "a-secret-of-the-tests-that-is-long-enough"
ADMIN = "an-admin-secret-of-the-tests"
SCHEMA = (
    "CREATE TABLE users (id text PRIMARY KEY, name text)",
    "CREATE TABLE todos (id int PRIMARY KEY, owner text REFERENCES users, title text, done bool DEFAULT false, n numeric, big int8, at timestamptz, doc jsonb)",  # noqa: E501
    "INSERT INTO users VALUES ('ann', 'Ann'), ('bob', 'Bob')",
    "INSERT INTO todos VALUES (1, 'ann', 'a', true, 1.10, 9007199254740993, '2026-01-01 00:00:00Z', '{\"a\": [1]}'), "
    "(2, 'bob', 'b', false, null, null, null, null)",
)
ACCESS = {"public.users": "true", "public.todos": '"owner = {sub}"'}


def token(user: str, **claims: Any) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time()) + 3600, **claims}, JWT_SECRET, algorithm="HS256")


class FeedServer:
    def __init__(
        self, directory: Path, source: SourceDatabase, access: dict[str, str], more: str, settings: dict[str, str]
    ) -> None:
        lines = ["[feed]", f"source = {json.dumps(source.url)}", f"tables = {json.dumps(list(access))}"]
        lines += [f'slot = "feed_{source.name}"', more, "[feed.access]"]
        lines += [f"{json.dumps(table)} = {rule}" for table, rule in access.items()]
        config = directory / "livesync.toml"
        config.write_text("\n".join(lines) + "\n")
        given = {"LIVESYNC_CONFIG": str(config), "LIVESYNC_JWT_SECRET": JWT_SECRET, "ADMIN_SECRET": ADMIN}
        given |= {"ADMIN_PORT": "0", "LIVESYNC_CORS_ORIGINS": "https://app.example.org", **settings}
        self.process = ServerProcess(directory, settings.pop("DATABASE_URL", f"sqlite:///{directory}/x.db"), given)
        self.source = source
        self.directory = directory
        self.process.start()

    @property
    def url(self) -> str:
        return self.process.url

    def client(self, user: str, client_id: str | None = None, **how: Any) -> FeedClient:
        return FeedClient(self.url, client_id or f"{user}-1", token=token(user), **how)

    def ask(self, what: str, *, method: str = "GET", secret: str | None = ADMIN) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.process.port, timeout=DEADLINE_S)
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        connection.request(method, f"/api/replication/{what}", headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, json.loads(body) if answer.status == 200 else body.decode()

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait for something that no message tells of: looked at again after each barrier of the feed."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, self.process.log_tail(20)
            self.barrier()

    def barrier(self) -> str:
        status, answer = self.ask("wait-for-initial-poll")
        assert status == 200, answer
        return str(answer["headLSN"])


@contextlib.contextmanager
def feed_server(
    directory: Path,
    source: SourceDatabase,
    access: dict[str, str],
    more: str = "",
    settings: dict[str, str] | None = None,
) -> Iterator[FeedServer]:
    """A server for many tests, stopped at their end."""
    started = FeedServer(directory, source, access, more, settings or {})
    try:
        yield started
    finally:
        started.process.stop_if_ours()


StartFeed = Callable[..., FeedServer]


@pytest.fixture
def start_feed(source: SourceDatabase, tmp_path: Path) -> Iterator[StartFeed]:
    started: list[FeedServer] = []

    def start(access: dict[str, str] | None = None, more: str = "", **settings: str) -> FeedServer:
        directory = tmp_path / f"server-{len(started)}"
        directory.mkdir()
        started.append(FeedServer(directory, source, access or ACCESS, more, settings))
        return started[-1]

    yield start
    for server in started:
        server.process.stop_if_ours()


def test_initial_state_and_what_comes(source: SourceDatabase, start_feed: StartFeed) -> None:
    source.run(*SCHEMA)
    server = start_feed()
    ann, bob = server.client("ann").connect(), server.client("bob").connect()
    start = ann.wait_for("srv_init_start")
    complete = ann.wait_for("srv_init_complete")
    assert start["serverLSN"] == complete["serverLSN"]
    chunks = [message for message in ann.seen if message["type"] == "srv_init_changes"]
    assert [(chunk["sequence"]["table"], chunk["sequence"]["chunk"]) for chunk in chunks] == [
        ('"users"', 1),
        ('"todos"', 1),
    ]
    assert chunks[1]["changes"][0]["data"] == {
        "id": 1, "owner": "ann", "title": "a", "done": True, "n": "1.10", "big": "9007199254740993",
        "at": "2026-01-01 00:00:00+00", "doc": {"a": [1]},
    }  # fmt: skip
    ann.wait_for("srv_live_start")
    bob.wait_for("srv_live_start")
    source.run(
        "INSERT INTO todos (id, owner, title) VALUES (3, 'ann', 'c')", "UPDATE todos SET owner = 'ann' WHERE id = 2"
    )
    server.barrier()
    ann.wait(lambda: len(ann.rows["todos"]) == 3)
    bob.wait(lambda: not bob.rows["todos"])
    assert [change["operation"] for change in ann.live_changes()] == ["insert", "insert"]  # one came into the filter
    assert [(change["operation"], change["data"]) for change in bob.live_changes()] == [("delete", {"id": 2})]
    ann.close()
    source.run("DELETE FROM todos WHERE id = 3", "UPDATE todos SET title = 'B' WHERE id = 2")
    server.barrier()
    ann.connect()
    assert ann.wait_for("srv_catchup_completed")["changeCount"] == 2
    assert {row["title"] for row in ann.rows["todos"].values()} == {"a", "B"}
    ann.send(type="clt_heartbeat", lsn=ann.lsn, active=True)
    assert ann.wait_for("srv_heartbeat")["lsn"] == ann.lsn
    for client in (ann, bob):
        client.close()
        assert client.fault is None


def refusal(server: FeedServer, path: str, **headers: str) -> int:
    """The status with which a WebSocket is refused."""
    with pytest.raises(InvalidStatus) as refused:
        connect(server.url.replace("http", "ws") + path, additional_headers=headers).__enter__()
    return int(refused.value.response.status_code)


def plain(server: FeedServer, path: str, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.process.port, timeout=DEADLINE_S)
    connection.request("GET", path, headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_refusals_in_the_order_of_the_original(source: SourceDatabase, start_feed: StartFeed) -> None:
    source.run(*SCHEMA)
    server = start_feed({"public.todos": '"owner = {sub}"'})
    good = f"auth={token('ann')}"
    evil = {"Origin": "https://evil.example.org"}
    assert plain(server, "/api/sync", **evil) == 403
    assert plain(server, "/api/sync") == 401
    assert plain(server, f"/api/sync?{good}") == 426
    assert refusal(server, f"/api/sync?{good}", **evil) == 403
    assert refusal(server, "/api/sync?lsn=x") == 401
    assert refusal(server, f"/api/sync?lsn=x&{good}") == 400
    assert refusal(server, f"/api/sync/ws?clientId=c&lsn=x&{good}") == 400
    assert refusal(server, f"/api/sync/ws?clientId={'c' * 200}&{good}") == 400
    assert plain(server, "/api/syncs") == 404
    for headers in (
        {"Authorization": f"Bearer {token('ann')}"},
        {"Origin": "https://app.example.org", "Authorization": f"bearer {token('ann')}"},
    ):
        with connect(
            server.url.replace("http", "ws") + "/api/sync/ws?clientId=c", additional_headers=headers
        ) as socket:
            assert json.loads(socket.recv(DEADLINE_S))["type"] == "srv_init_start"


def test_nobody_sees_what_no_rule_gives(source: SourceDatabase, start_feed: StartFeed) -> None:
    """Defect 15: deny by default."""
    source.run(*SCHEMA)
    server = start_feed({"public.users": "false", "public.todos": '"owner = {sub}"'})
    client = FeedClient(server.url, "c", token=token("o'neil' OR true --")).connect()
    client.wait_for("srv_live_start")
    assert client.rows == {"todos": {}}
    client.close()
    server.process.stop()
    server = start_feed({"public.users": "false"})
    assert refusal(server, f"/api/sync?clientId=c&auth={token('ann')}") == 403


def test_a_client_id_belongs_to_who_used_it_first(source: SourceDatabase, start_feed: StartFeed) -> None:
    source.run(*SCHEMA)
    server = start_feed()
    ann = server.client("ann", "shared").connect()
    ann.wait_for("srv_live_start")
    bob = server.client("bob", "shared").connect()
    assert bob.wait_for("srv_error")["code"] == "feed-refused"
    bob.wait(lambda: bob.closed)
    assert bob.closed is not None
    assert bob.closed[0] == 1008
    ann.close()


def test_replication_endpoints(source: SourceDatabase, start_feed: StartFeed) -> None:
    source.run(*SCHEMA)
    server = start_feed()
    for what in ("init", "status", "clients", "lsn", "wait-for-initial-poll"):
        assert server.ask(what, secret=None)[0] == 401
        assert server.ask(what, secret="wrong")[0] in (401, 429)
    status, answer = server.ask("init", method="POST")
    assert (status, answer["success"]) == (200, True)
    client = server.client("ann").connect()
    client.wait_for("srv_live_start")
    source.run("INSERT INTO users VALUES ('zoe', 'Zoe')")
    head = server.barrier()
    assert position_of(head) >= position_of(server.ask("lsn")[1]["lsn"])
    client.wait(lambda: '["zoe"]' in client.rows["users"])
    assert server.ask(f"wait-for-initial-poll?lsn={head}")[0] == 200
    assert server.ask("wait-for-initial-poll?lsn=x")[0] == 400
    _, answer = server.ask("status")
    assert answer["phase"] == "following"
    assert answer["tables"] == ["public.users", "public.todos"]  # parents first
    [known] = server.ask("clients")[1]["clients"]
    assert (known["clientId"], known["owner"], known["active"]) == ("ann-1", "ann", True)
    client.close()
    assert server.ask("nothing")[0] == 404
    connection = http.client.HTTPConnection("127.0.0.1", server.process.port)
    connection.request("GET", "/health")
    health = json.loads(connection.getresponse().read())["feed"]
    assert (health["phase"], health["problem"]) == ("following", "")
    assert 0 <= health["probe_age_s"] < DEADLINE_S
    connection.close()


def test_chunks_wait_for_exactly_their_acknowledgement(source: SourceDatabase, start_feed: StartFeed) -> None:
    """Defect 8: a stale acknowledgement satisfies nothing."""
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 1200) g"
    )
    server = start_feed({"public.t": "true"})
    client = FeedClient(server.url, "c", token=token("ann"))
    client.acknowledges = False
    client.connect()
    client.wait_for("srv_init_changes")
    for wrong in (
        {"table": '"t"', "chunk": 2},
        {"table": "t", "chunk": 1},
        {"table": '"t"'},
        {},
        {"table": '"t"', "chunk": 0},
    ):
        client.send(type="clt_init_received", **wrong)
    client.send(type="clt_catchup_received", chunk=1, lsn="0/0")
    client.send(type="clt_init_processed")
    client.send(type="clt_heartbeat")
    client.wait_for("srv_heartbeat")  # answered in order: everything before was looked at
    assert sum(message["type"] == "srv_init_changes" for message in client.seen) == 1
    client.send(type="clt_init_received", table='"t"', chunk=1)
    client.wait_for("srv_init_changes", 2)
    client.send(type="clt_init_received", table='"t"', chunk=1)
    client.send(type="clt_heartbeat")
    client.wait_for("srv_heartbeat", 2)
    assert sum(message["type"] == "srv_init_changes" for message in client.seen) == 2
    client.close()
    # it comes back in the middle, and goes on behind what it has acknowledged, at the same position
    first = client.seen[0]["serverLSN"]
    source.run("UPDATE t SET v = 'y' WHERE id <= 10", "DELETE FROM t WHERE id = 11")
    server.barrier()
    client.acknowledges = True
    client.connect(lsn="0/0")
    again = client.wait_for("srv_init_start", 2)
    assert again["serverLSN"] == f"{first} (resuming)"
    client.wait_for("srv_catchup_completed")
    assert len(client.rows["t"]) == 1199
    assert sum(row["v"] == "y" for row in client.rows["t"].values()) == 10
    assert client.fault is None
    client.close()


def test_a_position_that_is_none_of_ours_is_told_to_fetch_anew(source: SourceDatabase, start_feed: StartFeed) -> None:
    """Defect 20, and positions of another history."""
    source.run(*SCHEMA)
    server = start_feed()
    ann = server.client("ann").connect()
    ann.wait_for("srv_live_start")
    source.run("INSERT INTO users VALUES ('eve', 'Eve')")
    server.barrier()
    ann.wait_for("srv_live_changes")
    ann.close()
    good = ann.lsn
    for lsn in (
        "0/1",
        "FFFFFFFF/0",
        f"{good}@00",
        str(position_of(good)._replace(commit_lsn=position_of(good).commit_lsn + 1)),
        f"{good}.7",
    ):
        stranger = server.client("ann").connect(lsn=lsn)
        assert stranger.wait_for("srv_error")["code"] == "refetch", lsn
        stranger.wait_for("srv_live_start")
        assert stranger.rows["users"].keys() == {'["ann"]', '["bob"]', '["eve"]'}
        stranger.close()
    never_seen = server.client("ann", "another").connect(lsn=good)
    assert never_seen.wait_for("srv_error")["code"] == "refetch"
    never_seen.close()
    back = server.client("ann").connect(lsn=good)
    back.wait_for("srv_live_start")
    assert [message["type"] for message in back.seen] == ["srv_live_start"]
    back.close()


def test_other_rights_are_another_state(source: SourceDatabase, start_feed: StartFeed) -> None:
    source.run(*SCHEMA)
    server = start_feed({"public.todos": '"owner = ANY({owners})"'})
    wide = FeedClient(server.url, "c", token=token("ann", owners=["ann", "bob"])).connect()
    wide.wait_for("srv_live_start")
    assert len(wide.rows["todos"]) == 2
    wide.close()
    narrow = FeedClient(server.url, "c", token=token("ann", owners=["bob"])).connect(lsn=wide.lsn)
    assert narrow.wait_for("srv_error")["code"] == "refetch"
    narrow.wait_for("srv_live_start")
    assert narrow.rows["todos"].keys() == {"[2]"}
    narrow.close()


def test_a_filter_that_fails_closes_that_client_only(source: SourceDatabase, start_feed: StartFeed) -> None:
    source.run(*SCHEMA)
    server = start_feed({"public.todos": '"id = {number} OR owner = {sub}"'})
    bad = FeedClient(server.url, "bad", token=token("eve", number="x")).connect()
    good = FeedClient(server.url, "good", token=token("ann", number=2)).connect()
    bad.wait(lambda: bad.closed)
    assert bad.seen[-1]["code"] == "feed-refused"
    good.wait_for("srv_live_start")
    source.run("UPDATE todos SET title = 'new' WHERE id = 2")
    good.wait_for("srv_live_changes")
    assert good.rows["todos"]["[2]"]["title"] == "new"
    good.close()


def test_columns_that_are_not_sent(source: SourceDatabase, start_feed: StartFeed) -> None:
    source.run(*SCHEMA)
    server = start_feed({"public.todos": '"owner = {sub}"'}, '[feed.columns]\n"public.todos" = ["title"]')
    client = server.client("ann").connect()
    client.wait_for("srv_live_start")
    source.run("UPDATE todos SET title = 'new', n = 5 WHERE id = 1")
    client.wait_for("srv_live_changes")
    assert client.rows == {"todos": {"[1]": {"id": 1, "title": "new"}}}
    client.close()


def test_the_first_dialect(source: SourceDatabase, start_feed: StartFeed) -> None:
    source.run(*SCHEMA)
    server = start_feed(more='dialect = "first"')
    assert refusal(server, f"/api/sync?clientId=c&auth={token('ann')}") == 400  # it wants an lsn
    client = server.client("ann").connect()
    client.wait_for("srv_sync_completed")
    source.run("INSERT INTO users VALUES ('eve', 'Eve')")
    client.wait_for("srv_send_changes")
    client.close()
    source.run("INSERT INTO users VALUES ('zoe', 'Zoe')")
    server.barrier()
    client.connect()
    client.wait_for("srv_sync_completed", 2)
    assert len(client.rows["users"]) == 4
    kinds = [message["type"] for message in client.seen]
    assert kinds[:2] == ["srv_state_change", "srv_init_start"]
    client.close()


def test_clients_cannot_write(source: SourceDatabase, start_feed: StartFeed) -> None:
    """Defects 5 and 16 have no place here: what a client sends never becomes SQL."""
    source.run(*SCHEMA)
    server = start_feed()
    client = server.client("ann").connect()
    client.wait_for("srv_live_start")
    client.send(
        type="clt_send_changes",
        changes=[{"table": 'todos"; DROP TABLE todos; --', "operation": "delete", "data": {"id": 1}}],
    )
    answer = client.wait_for("srv_changes_applied")
    assert (answer["success"], answer["appliedChanges"]) == (False, [])
    assert source.run("SELECT count(*) FROM todos") == [(2,)]
    client.close()


@pytest.mark.parametrize("batch", range(2))
def test_hostile_clients(source: SourceDatabase, start_feed: StartFeed, batch: int) -> None:
    source.run(*SCHEMA)
    server = start_feed()
    honest = server.client("bob").connect()
    honest.wait_for("srv_live_start")
    inputs: list[str | bytes] = [
        "", "x", "[]", "null", "{}", '{"type": 1}', '{"type": "clt_init_received", "chunk": "x"}', "[" * 100_000, b"\xff\xfe",  # noqa: E501
        '{"type": "' + "x" * 500_000 + '"}', '{"type": "clt_catchup_received", "chunk": 99999999999999999999999}',
        '{"type": "clt_changes_received", "lastLSN": "FFFFFFFF/FFFFFFFF"}', '{"type": "clt_changes_received", "lastLSN": "\\ud800"}',  # noqa: E501
        '{"type": "clt_heartbeat"}' , '{"type": "__proto__"}', '{"type": "clt_init_received", "table": null}',
        '{"type": "clt_sync_request"}', '{"type": "clt_error"}', "0", '"clt_heartbeat"',
    ]  # fmt: skip
    for number, given in list(enumerate(inputs))[batch::2]:
        with connect(
            f"{server.url.replace('http', 'ws')}/api/sync?clientId=h{number}&auth={quote(token('eve'))}"
        ) as socket:
            for _ in range(3):
                try:
                    socket.send(given)
                except Exception:
                    break
    for _ in range(30):  # many that come and go at once
        server.client("eve", "storm").connect().close()
    source.run("INSERT INTO users VALUES ('zoe', 'Zoe')")
    honest.wait(lambda: '["zoe"]' in honest.rows["users"])
    assert honest.fault is None
    honest.close()
    assert "crashed" not in server.process.log_tail(2000)
