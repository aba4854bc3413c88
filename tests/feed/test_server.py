"""The feed of a real server, on a real PostgreSQL, with real clients."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.conformance.servers import ServerProcess
from tests.feed.client import DEADLINE_S, FeedClient
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

    def barrier(self) -> str:
        status, answer = self.ask("wait-for-initial-poll")
        assert status == 200, answer
        return str(answer["headLSN"])


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
    live = ann.wait_for("srv_live_changes", 2)
    assert [change["operation"] for change in live["changes"]] == ["insert"]  # it came into the filter
    assert bob.wait_for("srv_live_changes")["changes"][0]["operation"] == "delete"
    assert bob.seen[-1]["changes"][0]["data"] == {"id": 2}
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
