"""Two servers on one PostgreSQL: what is stored is told by either, what is connected by the one it is connected to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from tests.bad_input.clients import event
from tests.bad_input.wires import head
from tests.postgres.server import fresh_schema

from .processes import Process, serving
from .stage import PATIENCE_S, SECRET, STORE

HEADERS = {"authorization": f"Bearer {SECRET}"}


async def ask(server: Process, path: str, **query: Any) -> Any:
    async with httpx.AsyncClient(headers=HEADERS, timeout=PATIENCE_S) as http:
        answer = await http.get(f"http://127.0.0.1:{server.control_port}{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def test_each_tells_of_the_same_stores_and_of_its_own_connections(tmp_path: Path) -> None:
    url = fresh_schema("control plane")
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    async with (
        serving(tmp_path / "here", DATABASE_URL=url) as here,
        serving(tmp_path / "there", DATABASE_URL=url) as there,
    ):
        client = await here.client()
        for first in (1, 3):
            assert (await client.push(event(first, first - 1), event(first + 1, first)))["exit"]["_tag"] == "Success"
        told = [(await ask(server, "/api/v1/stores"))["stores"] for server in (here, there)]
        ((mine,), (same,)) = told
        assert (mine["storeId"], mine["head"], mine["events"]) == (STORE, 4, 4)
        assert (mine.pop("peers"), mine.pop("active")) == (1, True)
        assert (same.pop("peers"), same.pop("active")) == (0, False)
        assert mine == same
        events = await ask(there, "/api/v1/store/events", storeId=STORE, limit=3)
        assert ([told["seqNum"] for told in events["events"]], events["next"]) == ([1, 2, 3], 3)
        assert len((await ask(here, "/api/v1/connections"))["connections"]) == 1
        assert (await ask(there, "/api/v1/connections"))["connections"] == []
        for server in (here, there):
            shown = await ask(server, "/api/v1/info") | await ask(server, "/api/v1/config")
            assert shown["engine"] == "postgresql"


async def test_a_tail_here_is_told_of_events_and_a_reset_there(tmp_path: Path) -> None:
    url = fresh_schema("control plane, tail")
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    async with (
        serving(tmp_path / "here", DATABASE_URL=url) as here,
        serving(tmp_path / "there", DATABASE_URL=url) as there,
    ):
        client = await there.client()
        assert (await client.push(event(1)))["exit"]["_tag"] == "Success"
        tail = await here.wire(here.control_port)
        target = "/api/v1/store/tail?storeId=store%2F%C3%B6+1&after=0"
        await tail.send(head(f"GET {target} HTTP/1.1", f"Authorization: Bearer {SECRET}"))
        await tail.read_until(b"id: 1\n")
        assert (await client.push(event(2, 1)))["exit"]["_tag"] == "Success"
        await tail.read_until(b"id: 2\n")
        async with httpx.AsyncClient(headers=HEADERS, timeout=PATIENCE_S) as http:
            answer = await http.post(
                f"http://127.0.0.1:{there.control_port}/api/v1/store/reset", json={"storeId": STORE, "confirm": STORE}
            )
            assert answer.status_code == 200
        await tail.read_until(b"event: reset\n")
        assert answer.json()["backendId"].encode() in await tail.read_until(b"\n\n")
