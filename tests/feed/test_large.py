"""A very large transaction: stored whole or not at all, in bounded memory, and sent in bounded messages."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from livesync_trio.feed.history.databases import SqliteDatabase
from livesync_trio.feed.history.reading import Reader
from livesync_trio.feed.limits import FEED_PAGE_CHANGES
from tests.conformance.waiting import eventually
from tests.feed.client import FeedClient
from tests.feed.conftest import SourceDatabase, drop_slots
from tests.feed.seeds import ROWS
from tests.feed.test_server import FeedServer, token
from tests.postgres.server import PostgresServer

GROWTH_MAX_KIB = 64 * 1024
"""What storing and sending may take besides what the server has after its start, however many rows there are. 200,000
of them would be four times that."""
MESSAGE_MAX_BYTES = 256 * 1024
"""A page of 500 such rows has about 40 KiB."""


class Counting(FeedClient):
    """Keeps no rows: counts them, and measures what comes."""

    def __init__(self, server: FeedServer) -> None:
        super().__init__(server.url, "counting", token=token("ann"))
        self.ids: set[int] = set()
        self.largest_bytes = 0
        self.most = 0
        self.parts = self.ends = 0

    def _apply(self, changes: list[dict[str, Any]]) -> None:
        self.most = max(self.most, len(changes))
        self.largest_bytes = max(self.largest_bytes, len(json.dumps(changes)))
        self.ids.update(change["data"]["id"] for change in changes)

    def _take(self, message: dict[str, Any]) -> None:
        super()._take(message)
        if "whole" in message:
            self.ends += bool(message["whole"])
            self.parts += not message["whole"]
        message.pop("changes", None)  # all of them would be kept


def _memory_kib(server: FeedServer, field: str) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field))


@pytest.fixture
def large(source_server: PostgresServer) -> SourceDatabase:
    name = f"d{secrets.token_hex(4)}"
    source_server.run(f"CREATE DATABASE {name}")
    source = SourceDatabase(source_server, name)
    source.run("CREATE TABLE t (id int PRIMARY KEY, owner text)")
    return source


@pytest.fixture
def server(large: SourceDatabase, source_server: PostgresServer, tmp_path: Path) -> Iterator[FeedServer]:
    started = FeedServer(tmp_path, large, {"public.t": '"owner = {sub}"'}, "", {})
    yield started
    started.process.stop_if_ours()
    drop_slots(source_server, large.name)


def test_a_large_transaction_in_little_memory_whose_first_reader_is_killed(
    large: SourceDatabase, server: FeedServer, tmp_path: Path
) -> None:
    client = Counting(server)
    client.connect()
    client.wait_for("srv_live_start")
    history = Reader(SqliteDatabase(tmp_path / "x.feed.db"))
    before = history.state()
    owner = "CASE WHEN g % 20 = 0 THEN 'ann' ELSE 'bob' END"
    large.run(f"INSERT INTO t SELECT g, {owner} FROM generate_series(1, {ROWS}) g")
    log = tmp_path / "x.feed.db-wal"
    eventually(lambda: log.stat().st_size > 3_000_000, "a part of the transaction is written")
    server.process.kill()
    assert history.state().head_lsn == before.head_lsn
    assert history.changes(before.epoch, before.head, 2**62, 1).changes == []
    client.close()
    assert client.ids == set()

    begun_s = time.monotonic()
    server.process.start()
    begun_kib = _memory_kib(server, "VmRSS")
    client.connect()
    eventually(lambda: history.state().head_lsn > before.head_lsn, "the transaction is stored", 60 + ROWS / 500)
    for count in range(1_000, ROWS // 20 + 1, 1_000):  # so that only a standstill is waited for in vain
        client.wait(lambda count=count: len(client.ids) >= count)
    client.wait(lambda: client.ends)
    took_s = time.monotonic() - begun_s
    state = history.state()
    assert [commit.changes for commit in history.commits(before.head_lsn + 1, state.head_lsn).values()] == [ROWS]
    assert client.ids == set(range(20, ROWS + 1, 20))
    assert client.most <= FEED_PAGE_CHANGES
    assert client.largest_bytes < MESSAGE_MAX_BYTES
    assert client.ends == 1
    assert client.parts > 50
    assert client.lsn == str(state.head)
    grown_kib = _memory_kib(server, "VmHWM") - begun_kib
    print(f"{ROWS} rows: stored and sent in {took_s:.0f} s, memory of the server grown by {grown_kib} KiB")
    assert grown_kib < GROWTH_MAX_KIB
    client.close()
    history.close()
