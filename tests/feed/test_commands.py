"""`livesync feed`, a client of the original in Node, and the hook that decides who sees what."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.feed.client import FeedClient
from tests.feed.conftest import SourceDatabase
from tests.feed.test_server import ADMIN, SCHEMA, FeedServer, StartFeed, start_feed, token

__all__ = ["start_feed"]
NODE = shutil.which("node")


def livesync(server: FeedServer, *arguments: str) -> tuple[int, str]:
    directory = server.directory
    run = subprocess.run(
        [sys.executable, "-m", "livesync_trio", "feed", *arguments, "--config", str(directory / "livesync.toml"),
         "--database-url", f"sqlite:///{directory}/x.db"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return run.returncode, run.stdout + run.stderr


def test_the_commands(source: SourceDatabase, start_feed: StartFeed) -> None:
    source.run(*SCHEMA)
    server = start_feed()
    client = server.client("ann").connect()
    client.wait_for("srv_live_start")
    code, said = livesync(server, "doctor")
    assert code == 0, said
    assert "2 tables can be followed" in said
    code, said = livesync(server, "status", "--json")
    assert code == 0, said
    assert "a server reads it" in json.loads(said)["slot"]
    assert "was stored after" in json.loads(said)["arrival"]
    # a change that no log tells: the values of a column are rewritten under the same type
    source.run("ALTER TABLE users ALTER COLUMN name TYPE text USING upper(name)")
    assert livesync(server, "resync")[0] == 0
    source.run("UPDATE users SET name = name WHERE id = 'bob'")  # the reader notices with its next commit
    client.wait(lambda: {row["name"] for row in client.rows["users"].values()} == {"ANN", "BOB"})
    assert all(message["type"] != "srv_error" for message in client.seen)
    client.close()
    server.process.stop()
    code, said = livesync(server, "drop", "--yes")
    assert code == 0, said
    assert f"replication slot feed_{source.name}, publication livesync_feed" in said
    assert source.run("SELECT 1 FROM pg_publication") == []
    assert livesync(server, "drop", "--yes")[1].strip() == "there was nothing to drop"
    source.run("ALTER TABLE todos REPLICA IDENTITY NOTHING")
    code, said = livesync(server, "doctor")
    assert code == 10
    assert "REPLICA IDENTITY NOTHING" in said


@pytest.mark.skipif(NODE is None, reason="there is no Node")
def test_a_client_of_the_original_in_node(source: SourceDatabase, start_feed: StartFeed) -> None:
    source.run(*SCHEMA)
    server = start_feed()

    def follow(lsn: str, wanted: str) -> dict[str, object]:
        command = [str(NODE), "--experimental-websocket", str(Path(__file__).with_name("original.mjs"))]
        ask = [server.url.replace("http", "ws"), "node-1", token("ann"), lsn, wanted]
        run = subprocess.run([*command, *ask], capture_output=True, text=True, check=False, timeout=90)
        assert run.returncode == 0, run.stderr
        told: dict[str, object] = json.loads(run.stdout)
        return told

    first = follow("0/0", "users=2")
    assert first["rows"]["todos"][0]["big"] == "9007199254740993"  # type: ignore[index]
    source.run(
        "INSERT INTO users VALUES ('zoe', 'Zoe')",
        "DELETE FROM users WHERE id = 'zoe'",
        "INSERT INTO users VALUES ('eve', 'Eve')",
    )
    server.barrier()
    again = follow(str(first["lsn"]), "users=1")  # only what came behind: it kept its rows elsewhere
    assert [row["id"] for row in again["rows"]["users"]] == ["eve"]  # type: ignore[index]


def test_the_hook_decides(source: SourceDatabase, start_feed: StartFeed, tmp_path: Path) -> None:
    source.run(*SCHEMA)
    hooks = tmp_path / "rules.py"
    hooks.write_text(
        "def feed_access(principal, table):\n"
        "    if table == 'public.users':\n"
        "        return False\n"
        "    return {'where': 'owner = {boss}', 'columns': ['title'], 'params': {'boss': principal.claims['boss']}}\n"
    )
    server = start_feed(LIVESYNC_HOOKS=str(hooks))
    client = FeedClient(server.url, "c", token=token("ann", boss="bob")).connect()
    client.wait_for("srv_live_start")
    assert client.rows == {"todos": {"[2]": {"id": 2, "title": "b"}}}
    client.close()
    assert ADMIN not in server.process.log_tail(1000)
