"""A hundred thousand stores, inserted as rows: the screen turns their pages, searches and sorts them."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from html import unescape
from pathlib import Path

import pytest

from livesync_trio.storage.sqlite.engine import SqliteEngine
from tests.admin.stage import Stage, running

COUNT = 100_000
PAGE = 100


def name(number: int) -> str:
    return f"team-{number:06d}"


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A database with that many stores, each as large as its number."""
    file = tmp_path / "many.db"
    engine = SqliteEngine(file)
    engine.open()
    engine.close()
    with closing(sqlite3.connect(file)) as database, database:
        database.executemany(
            "INSERT INTO livesync_7_stores (store_id, backend_id, text_bytes) VALUES (?, 'x', ?)",
            ((name(number), number) for number in range(COUNT)),
        )
    return file


async def page(stage: Stage, address: str) -> tuple[list[str], str | None]:
    """The stores that a screen lists, and the address of the page behind it."""
    answer = await stage.http.get(address)
    assert answer.status_code == 200, answer.text
    assert len(answer.content) < 100_000
    following = re.search(r'rel="next" href="([^"]+)"', answer.text)
    listed = re.findall(r'<td><a class="id" href="[^"]+">([^<]+)</a>', answer.text)
    return listed, None if following is None else unescape(following[1])


async def test_a_page_is_a_page_however_many_there_are(filled: Path) -> None:
    engine = SqliteEngine(filled)
    engine.open()
    try:
        async with running(engine=engine, console=True) as stage:
            first, following = await page(stage, "/stores")
            assert first == [name(number) for number in range(PAGE)]
            assert following is not None
            second, _ = await page(stage, following)
            assert second == [name(number) for number in range(PAGE, 2 * PAGE)]
            last, following = await page(stage, f"/stores?after={name(COUNT - 51)}")
            assert (last, following) == ([name(number) for number in range(COUNT - 50, COUNT)], None)
            found, following = await page(stage, "/stores?containing=4242")
            assert found[:2] == [name(4242), name(14242)]
            assert following is None
            largest, following = await page(stage, "/stores?sort=size")
            assert largest == [name(number) for number in range(COUNT - 1, COUNT - 1 - PAGE, -1)]
            assert following is not None
            largest, _ = await page(stage, following)
            assert largest[0] == name(COUNT - 1 - PAGE)
    finally:
        engine.close()
