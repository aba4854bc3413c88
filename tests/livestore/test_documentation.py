"""The page and the examples do what they say, on a real server."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from livesync_trio.livestore import open_store
from tests.conformance.servers import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/livestore-in-python.md"
EXAMPLES = ROOT / "examples/python"
SHOWN_URL = "ws://127.0.0.1:8000"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("server")
    process = ServerProcess(directory, f"sqlite:///{directory}/livesync.db")
    process.start()
    yield process
    process.stop_if_ours()


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Imports an example as its start would, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)

    def load(name: str) -> Any:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    sys.modules.pop("todos", None)


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_can_be_followed(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    shown = blocks(PAGE)
    assert len(shown) == 3
    for block in shown:
        exec(block.replace(SHOWN_URL, server.url.replace("http", "ws")), names)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "[{'text': 'Write to LiveStore from Python'}]"
    assert said[1].startswith("SyncStatus(head=1, upstream_head=1, pending=0, connected=True, caught_up=True")
    assert said[2:] == [
        "[{'text': 'Write to LiveStore from Python'}]",
        "1 v1.TodoCreated TodoCreated(id='1', text='Write to LiveStore from Python')",
        "2 v1.TodoCompleted TodoCompleted(id='1')",
    ]


def test_the_lines_of_the_readme_work(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    [block] = blocks(ROOT / "README.md")
    exec(block.replace(SHOWN_URL, server.url.replace("http", "ws")).replace("team-7", "readme"), {})
    assert capsys.readouterr().out == "[{'id': '1', 'text': 'Write to LiveStore from Python'}]\n"


async def test_the_bot_answers_once_also_what_it_missed(server: ServerProcess, example: Callable[[str], Any]) -> None:
    bot = example("bot")
    schema, created = sys.modules["todos"].schema, sys.modules["todos"].TodoCreated
    rows: list[dict[str, Any]] = []
    with trio.fail_after(60):
        async with open_store(":memory:", schema, store_id="bot", url=server.url) as app:
            for number in range(2):
                app.commit(created(str(number), "/time"))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(bot.main, server.url, "bot")
                    async for rows in app.watch("SELECT id, text FROM todos WHERE NOT completed ORDER BY id"):
                        if len(rows) == number + 1 and all(row["id"].endswith("-answer") for row in rows):
                            break
                    nursery.cancel_scope.cancel()
            assert re.fullmatch(r"It is \d\d:\d\d UTC", rows[0]["text"])
            await app.synced()
            assert app.sync_status.head == 6


def test_the_report_loads_a_log(server: ServerProcess, example: Callable[[str], Any]) -> None:
    report = example("report")
    todos = sys.modules["todos"]

    async def fill() -> None:
        async with open_store(":memory:", todos.schema, store_id="report", url=server.url, client_id="me") as app:
            app.commit(todos.TodoCreated("1", "a"), todos.TodoCompleted("1"))
            with trio.fail_after(60):
                await app.synced()

    trio.run(fill)
    events, rows = report.load(server.url, "report")
    assert [(event["name"], event["client_id"]) for event in events] == [
        ("v1.TodoCreated", "me"),
        ("v1.TodoCompleted", "me"),
    ]
    assert rows == [{"id": "1", "text": "a", "completed": 1}]


class FastAPI:
    """As much of the real one, which is not installed, as the example needs: it calls plain functions in threads."""

    def __init__(self, lifespan: Any) -> None:
        self.state, self.lifespan = types.SimpleNamespace(), lifespan
        self.routes: dict[str, Any] = {}

    def get(self, path: str, status_code: int = 200) -> Any:
        return lambda function: self.routes.setdefault(f"{status_code} {path}", function)

    post = get


async def _requests(app: FastAPI) -> None:
    async with app.lifespan(app):
        made = await asyncio.to_thread(app.routes["201 /todos"], "written by a backend")
        await asyncio.to_thread(app.routes["204 /todos/{todo_id}/complete"], made["id"])
        listed = await asyncio.to_thread(app.routes["200 /todos"])
        assert listed == [{"id": made["id"], "text": "written by a backend", "completed": 1}]
        await asyncio.to_thread(app.state.store.synced, 60)
        health = await asyncio.to_thread(app.routes["200 /health"])
        assert health == {"connected": True, "pending": 0, "error": None}


def test_the_backend_serves_what_is_in_the_store(
    server: ServerProcess, example: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", types.SimpleNamespace(FastAPI=FastAPI))
    monkeypatch.setenv("SYNC_URL", server.url)
    monkeypatch.setenv("STORE_ID", "backend")
    backend = example("backend")
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(_requests(backend.app))
