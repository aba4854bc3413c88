"""The registry of clients: whose an id is, for how long it is remembered, and how many are."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import pytest

from livesync_trio.feed import clients
from livesync_trio.feed.clients import Clients, Entry, Full, Taken
from livesync_trio.storage import base
from livesync_trio.storage.memory import MemoryEngine
from livesync_trio.store.records import Records

T = TypeVar("T")


class AtOnce:
    """A database without threads."""

    def __init__(self) -> None:
        engine = MemoryEngine()
        engine.open()
        self._writer, self._reader = engine.writer(), engine.reader()

    async def commit(self, write: Any) -> Any:
        [outcome] = self._writer.commit([write])
        return outcome

    async def ask(self, question: Callable[[base.Reader], T]) -> T:
        return question(self._reader)


@pytest.fixture
def registry() -> Clients:
    database: Any = AtOnce()
    return Clients(Records(database, database), ttl_s=100.0)


async def test_an_id_belongs_to_who_came_first(registry: Clients) -> None:
    assert await registry.register("c", "ann") is None
    known = await registry.register("c", "ann")
    assert known is not None
    assert known.owner == "ann"
    for other in ("bob", None):
        with pytest.raises(Taken):
            await registry.register("c", other)
        with pytest.raises(Taken):
            await registry.note("c", Entry(other, 0.0))
    assert await registry.unregister("c")
    assert not await registry.unregister("c")
    assert await registry.register("c", "bob") is None


async def test_who_is_not_seen_is_forgotten(registry: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    await registry.register("old", "ann")
    await registry.register("new", "ann")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 90)
    await registry.note("new", Entry("ann", 0.0, "e", "r", lsn=7))
    monkeypatch.setattr(time, "time", lambda: now + 110)
    assert [client_id async for client_id, _ in registry.all()] == ["new"]
    assert await registry.get("old") is None
    assert await registry.forget_old() == 1
    found = await registry.get("new")
    assert found is not None
    assert str(found.token) == "0/7@e"
    assert await registry.register("old", "bob") is None  # nobody's any more


async def test_there_is_room_for_so_many(registry: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "CLIENTS_MAX", 2)
    await registry.register("a", None)
    await registry.register("b", None)
    with pytest.raises(Full):
        await registry.register("c", None)
    await registry.register("a", None)
    await registry.unregister("a")
    await registry.forget_old()
    await registry.register("c", None)


def test_an_entry_is_read_as_it_was_written() -> None:
    entry = Entry("ann", 1.5, "e", "r", 7, 3, clients.Progress(5, ("t",), "u", '["1"]'), active=True)
    assert msgspec.json.decode(msgspec.json.encode(entry), type=Entry) == entry
