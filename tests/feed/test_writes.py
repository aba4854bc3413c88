"""What clients write through the feed: one server on a real PostgreSQL for all of it, with real clients."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from livesync_trio.feed.writes.parsing import FEED_WRITE_MAX_CHANGES
from tests.feed.client import FeedClient, position_of
from tests.feed.conftest import SourceDatabase, new_source
from tests.feed.test_server import FeedServer, token
from tests.postgres.server import PostgresServer

NODE = shutil.which("node")
SCHEMA = (
    "CREATE TABLE todos (id text PRIMARY KEY, owner text NOT NULL, title text CHECK (title <> 'bad'), done bool DEFAULT false, "  # noqa: E501
    "n numeric, doc jsonb, secret text, client_id text, updated_at timestamptz)",
    "CREATE TABLE notes (a int, b text, body text, PRIMARY KEY (a, b))",
    "CREATE TABLE locked (id int PRIMARY KEY, v text)",
    "CREATE TABLE hidden (id int PRIMARY KEY, v text)",
    'CREATE TABLE "Odd""Name" (id int PRIMARY KEY, "Wei""rd" text)',
    "CREATE FUNCTION upper_title() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN IF new.title LIKE 'up:%' THEN new.title := upper(new.title); END IF; RETURN new; END $$",
    "CREATE TRIGGER up BEFORE INSERT OR UPDATE ON todos FOR EACH ROW EXECUTE FUNCTION upper_title()",
    "INSERT INTO locked VALUES (1, 'x')",
    "INSERT INTO hidden VALUES (1, 'x')",
)
ACCESS = {
    "public.todos": "\"owner = {sub} OR owner = 'all'\"",
    "public.notes": "true",
    "public.locked": "true",
    "public.hidden": "false",
    'public."Odd""Name"': "true",
}
MORE = """
[feed.columns]
"public.todos" = ["owner", "title", "done", "n", "doc", "client_id", "updated_at"]
[feed.writes]
"public.todos" = "owner = {sub}"
"public.notes" = true
'public."Odd""Name"' = true
[feed.write_columns]
"public.todos" = ["owner", "title", "done", "n", "doc", "client_id"]
"""
_numbers = itertools.count()


def now(offset_s: float = 0.0) -> str:
    moment = time.time() + offset_s
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment * 1000) % 1000:03}Z"


@pytest.fixture(scope="module")
def database(source_server: PostgresServer) -> Iterator[SourceDatabase]:
    with new_source(source_server) as made:
        made.run(*SCHEMA)
        yield made


@pytest.fixture(scope="module")
def server(database: SourceDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedServer]:
    started = FeedServer(tmp_path_factory.mktemp("writes"), database, ACCESS, MORE, {})
    yield started
    started.process.stop_if_ours()


class Writing:
    """A client that writes, and the answers it gets."""

    def __init__(self, server: FeedServer, user: str = "ann") -> None:
        self.client = FeedClient(
            server.url,
            f"{user}-{next(_numbers)}",
            token=token(user),
            keys={"notes": ("a", "b")},
        ).connect()
        self.client.wait(
            lambda: any(m["type"] in ("srv_live_start", "srv_catchup_completed") for m in self.client.seen)
        )
        self.asked = 0

    def write(self, *changes: Any) -> dict[str, Any]:
        self.asked += 1
        self.client.send(type="clt_send_changes", changes=list(changes))
        return self.client.wait_for("srv_changes_applied", self.asked)

    def close(self) -> None:
        assert self.client.fault is None
        self.client.close()


@pytest.fixture
def ann(server: FeedServer) -> Iterator[Writing]:
    made = Writing(server)
    yield made
    made.close()


def todo(operation: str = "insert", *, at: float = 0.0, table: str = "todos", **data: Any) -> dict[str, Any]:
    return {"table": table, "operation": operation, "data": data, "updated_at": now(at)}


def new_id() -> str:
    return f"t{next(_numbers)}"


def test_changes_are_one_transaction_in_their_order(database: SourceDatabase, server: FeedServer, ann: Writing) -> None:
    bob, one, two = Writing(server, "bob"), new_id(), new_id()
    answer = ann.write(
        todo(id=one, owner="ann", title="a", doc={"k": ["ü"]}),
        todo("update", id=one, title="b", done=True),
        {"table": "notes", "operation": "insert", "data": {"a": 1, "b": one, "body": 'o\'neil\\ "x" %s'}},
        todo(id=two, owner="ann", title="gone"),
        todo("delete", id=two),
    )
    assert (answer["success"], answer["conflicts"]) == (True, [])
    assert answer["appliedChanges"] == [one, one, [1, one], two, two]
    received = ann.client.wait_for("srv_changes_received")
    assert received["changeIds"] == answer["appliedChanges"]
    [(xmin, title, done, doc)] = database.run(
        f"SELECT xmin::text, title, done, doc::text FROM todos WHERE id = '{one}'"
    )
    assert (title, done, doc) == ("b", True, '{"k": ["ü"]}')
    assert int(answer["txid"]) & 0xFFFFFFFF == int(xmin)
    assert database.run(f"SELECT body FROM notes WHERE b = '{one}'") == [('o\'neil\\ "x" %s',)]
    # others are sent all of it, as one commit at the place that the answer says
    bob.client.wait(lambda: any(c["data"].get("b") == one for c in bob.client.live_changes()))
    assert {c["lsn"] for c in bob.client.live_changes()} == {answer["lsn"]}
    assert not any(change["data"].get("id") == one for change in bob.client.live_changes())  # not bob's rows
    bob.close()


def test_own_changes_are_not_sent_back_and_what_became_of_them_is(
    database: SourceDatabase, server: FeedServer, ann: Writing
) -> None:
    plain, changed, mark = new_id(), new_id(), new_id()
    answer = ann.write(
        todo(id=plain, owner="ann", title="x", done=False, n=1.50, client_id="c"),
        todo(id=changed, owner="ann", title="up: y", done=False),
    )
    assert answer["success"], answer
    database.run(f"INSERT INTO todos (id, owner) VALUES ('{mark}', 'ann')")
    ann.client.wait(lambda: any(change["data"]["id"] == mark for change in ann.client.live_changes()))
    sent = [change["data"]["id"] for change in ann.client.live_changes()]
    assert sent == [changed, mark]  # the trigger's word counts, and is told
    assert position_of(ann.client.lsn) > position_of(answer["lsn"])
    # somebody else's change of the same row is sent; and whoever comes back before the answer is sent its own too
    database.run(f"UPDATE todos SET title = 'z' WHERE id = '{plain}'")
    ann.client.wait(lambda: ann.client.rows["todos"].get(json.dumps([plain]), {}).get("title") == "z")
    other = FeedClient(server.url, ann.client.client_id, token=token("ann"), keys={"notes": ("a", "b")})
    other.connect(lsn="0/0")
    other.wait_for("srv_live_start")
    assert json.dumps([plain]) in other.rows["todos"]
    other.close()


def test_the_last_writer_wins_and_who_loses_is_told(database: SourceDatabase, ann: Writing) -> None:
    row, missing = new_id(), new_id()
    assert ann.write(todo(id=row, owner="ann", title="new"))["success"]
    answer = ann.write(
        todo("update", at=-60, id=row, title="old"),
        todo("delete", at=-60, id=row),
        todo("insert", at=-60, id=row, owner="ann", title="older"),
        todo("update", id=missing, title="x"),
        todo("update", at=1, id=row, done=True),
    )
    assert answer["success"]
    assert answer["appliedChanges"] == [row]
    assert [(each["change"], each["id"], each["reason"]) for each in answer["conflicts"]] == [
        (0, row, "older"), (1, row, "older"), (2, row, "older"), (3, missing, "gone"),
    ]  # fmt: skip
    assert database.run(f"SELECT title, done FROM todos WHERE id = '{row}'") == [("new", True)]
    nothing = ann.write(todo("delete", at=-60, id=row))
    assert (nothing["success"], nothing["txid"], nothing["lsn"]) == (True, None, None)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("another table", {"table": "pg_authid", "operation": "delete", "data": {"id": 1}}, "may not write"),
        ("a table that breaks out", {"table": 'todos"; DROP TABLE todos; --', "operation": "delete", "data": {"id": "x"}}, "may not write"),  # noqa: E501
        ("one that is only read", {"table": "locked", "operation": "update", "data": {"id": 1, "v": "y"}}, "may not write"),  # noqa: E501
        ("one that is hidden", {"table": "hidden", "operation": "update", "data": {"id": 1, "v": "y"}}, "may not write"),  # noqa: E501
        ("a column that breaks out", {"data": {"id": "new", "owner": "ann", 'title" = \'x\', "owner': "bob"}}, "no column"),  # noqa: E501
        ("a column that is not seen", {"data": {"id": "new", "owner": "ann", "secret": "x"}}, "no column"),
        ("a row of somebody else", {"data": {"id": "new", "owner": "bob"}}, "may not write this row"),
        ("a row that is seen, not granted", {"operation": "update", "data": {"id": "all-1", "title": "x"}}, "may not write this row"),  # noqa: E501
        ("giving a row away", {"operation": "update", "data": {"id": "ann-1", "owner": "bob"}}, "may not write this row"),  # noqa: E501
        ("a key that is somebody else's", {"data": {"id": "bob-1", "owner": "ann"}}, "may not write this row"),
        ("no key", {"data": {"owner": "ann"}}, "id, which names the row"),
        ("no moment", {"data": {"id": "new", "owner": "ann"}, "updated_at": None}, "updated_at"),
        ("a moment that is none", {"data": {"id": "new", "owner": "ann"}, "updated_at": "soon"}, "no moment"),
        ("a clock that is ahead", {"data": {"id": "new", "owner": "ann"}, "updated_at": "2999-01-01T00:00:00Z"}, "future"),  # noqa: E501
        ("a value of another type", {"data": {"id": "new", "owner": "ann", "n": "much"}}, "invalid input syntax"),
        ("a list for a text", {"data": {"id": "new", "owner": "ann", "title": ["x"]}}, "type json only"),
        ("the character 0", {"data": {"id": "new", "owner": "a\0"}}, "character 0"),
        ("a constraint", {"data": {"id": "new", "owner": "ann", "title": "bad"}}, "check constraint"),
        ("a value that is missing", {"data": {"id": "new"}}, "null value"),
        ("another operation", {"operation": "truncate", "data": {"id": "new"}}, "list of table"),
        ("no object", 5, "list of table"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)  # fmt: skip
def test_what_may_not_be_written_undoes_its_message(
    database: SourceDatabase, ann: Writing, name: str, change: Any, words: str
) -> None:
    database.run(
        "INSERT INTO todos (id, owner, title) VALUES ('ann-1', 'ann', 'a'), ('bob-1', 'bob', 'b'), "
        "('all-1', 'all', 'c') "
        "ON CONFLICT (id) DO NOTHING"
    )
    before = database.run("SELECT count(*), max(title) FROM todos")
    if isinstance(change, dict):
        change = {"table": "todos", "operation": "insert", "updated_at": now(), **change}
    first = todo(id=new_id(), owner="ann", title="undone")
    answer = ann.write(first, change)
    assert answer["success"] is False, name
    assert words in answer["error"]
    assert answer["appliedChanges"] == []
    assert database.run("SELECT count(*), max(title) FROM todos") == before
    assert ann.write(todo(id=new_id(), owner="ann"))["success"]  # and it goes on


def test_rows_that_are_not_seen_are_as_if_they_were_not_there(database: SourceDatabase, ann: Writing) -> None:
    database.run("INSERT INTO todos (id, owner) VALUES ('bob-2', 'bob')")
    answer = ann.write(todo("update", id="bob-2", title="x"), todo("delete", id="bob-2"))
    assert [each["reason"] for each in answer["conflicts"]] == ["gone", "gone"]
    assert database.run("SELECT title FROM todos WHERE id = 'bob-2'") == [(None,)]
    database.run("DELETE FROM todos WHERE id = 'bob-2'")


def test_names_that_need_quotes(database: SourceDatabase, ann: Writing) -> None:
    change = {"table": '"Odd""Name"', "operation": "insert", "data": {"id": 7, 'Wei"rd': "x"}}
    answer = ann.write(change)
    assert answer["success"], answer
    assert database.run('SELECT "Wei""rd" FROM "Odd""Name" WHERE id = 7') == [("x",)]


def test_so_much_and_no_more(ann: Writing) -> None:
    many = [todo(id=new_id(), owner="ann") for _ in range(FEED_WRITE_MAX_CHANGES + 1)]
    assert "are allowed" in ann.write(*many)["error"]
    assert "no changes" in ann.write()["error"]
    for _ in range(60):
        ann.client.send(type="clt_send_changes", changes=[todo(id=new_id(), owner="ann")])
    ann.client.wait_for("srv_changes_applied", 62)  # each is answered
    assert {each.get("code") for each in ann.client.seen if each["type"] == "srv_changes_applied"} <= {
        None, "too-fast", "write-refused",
    }  # fmt: skip


@pytest.mark.skipif(NODE is None, reason="there is no Node")
def test_a_client_of_the_original_writes(database: SourceDatabase, server: FeedServer) -> None:
    row = new_id()
    changes = [todo(id=row, owner="zoe", title="from node", done=False, client_id="node-w")]
    command = [str(NODE), "--experimental-websocket", str(Path(__file__).with_name("original.mjs"))]
    ask = [server.url.replace("http", "ws"), "node-w", token("zoe"), "0/0", "written=1", json.dumps(changes)]
    run = subprocess.run([*command, *ask], capture_output=True, text=True, check=False, timeout=90)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["written"]["appliedChanges"] == [row]
    assert told["echoes"] == 0
    assert database.run(f"SELECT title, client_id FROM todos WHERE id = '{row}'") == [("from node", "node-w")]
