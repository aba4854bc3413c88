"""A source that allows no replication connection is polled by SQL functions."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from livesync_trio.feed.polling import Snapshot
from tests.feed.conftest import SourceDatabase, drop_slots
from tests.feed.test_commands import livesync
from tests.feed.test_server import ACCESS, SCHEMA, FeedServer
from tests.postgres.server import PostgresServer, new_cluster


@pytest.mark.parametrize(
    ("text", "seen", "unseen"),
    [
        ("700:700:", [3, 699], [700, 701]),
        ("700:710:700,705", [699, 701, 709], [700, 705, 710, 711]),
        # the log has the lower half only of a number that has begun anew
        (f"{2**32 + 5}:{2**32 + 8}:{2**32 + 6}", [2**32 - 1, 4, 5, 7], [6, 8, 100]),
        (f"{2**32 - 2}:{2**32 + 3}:{2**32 - 1}", [2**32 - 3, 2**32 - 2, 0, 2], [2**32 - 1, 3, 50]),
    ],
)
def test_what_a_snapshot_sees(text: str, seen: list[int], unseen: list[int]) -> None:
    snapshot = Snapshot.of(text)
    assert [xid for xid in seen if not snapshot.sees(xid)] == []
    assert [xid for xid in unseen if snapshot.sees(xid)] == []


@pytest.fixture
def closed() -> Iterator[SourceDatabase]:
    """A database of a PostgreSQL that has no place for replication connections."""
    server: PostgresServer = new_cluster(f"closed-{os.getpid()}")
    server.start("wal_level=logical", "max_wal_senders=0", "max_replication_slots=4")
    name = f"d{secrets.token_hex(4)}"
    server.run(f"CREATE DATABASE {name}")
    yield SourceDatabase(server, name)
    drop_slots(server, name)
    server.stop()


def test_a_source_without_replication_connections(closed: SourceDatabase, tmp_path: Path) -> None:
    closed.run(*SCHEMA)
    server = FeedServer(tmp_path, closed, ACCESS, "polling = true", {})
    try:
        client = server.client("ann").connect()
        client.wait_for("srv_live_start")
        assert closed.run("SELECT active FROM pg_replication_slots") == [(False,)]
        closed.run("INSERT INTO todos (id, owner) SELECT g, 'ann' FROM generate_series(10, 3000) g")
        client.wait(lambda: len(client.rows["todos"]) == 2992)
        server.process.kill()
        closed.run("DELETE FROM todos WHERE id > 11", "UPDATE todos SET done = true WHERE id = 10")
        server.process.start()
        client.connect()
        client.wait(lambda: set(client.rows["todos"]) == {"[1]", "[10]", "[11]"})
        assert client.rows["todos"]["[10]"]["done"] is True
        client.wait(lambda: client.state == "live")
        assert all(message["type"] != "srv_error" for message in client.seen)
        client.close()
        server.barrier()
        server.wait_until(  # the source may forget what was stored; it is told by a clock
            lambda: closed.run(
                "SELECT 1 FROM pg_replication_slots WHERE pg_current_wal_lsn() - confirmed_flush_lsn < 100000"
            )
        )
        code, said = livesync(server, "doctor")
        assert code == 0, said
        assert "the log is polled" in said
        file = tmp_path / "livesync.toml"
        file.write_text(file.read_text().replace("polling = true", ""))
        code, said = livesync(server, "doctor")
        assert code == 10
        assert "set polling = true" in said
    finally:
        server.process.stop_if_ours()
