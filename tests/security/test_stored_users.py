"""Who pushed an event is stored beside it where the operator asks for that, by every door, and no client is told."""

from __future__ import annotations

from typing import Any

import pytest

from livesync_trio.config import Secret
from livesync_trio.connection.context import user_to_store
from livesync_trio.hooks import HookContext, Hooks
from livesync_trio.model import Principal, StoreId
from livesync_trio.storage.memory import MemoryEngine
from tests.bad_input.clients import V3Client, event, push_payload, sync_url, v3_url
from tests.bad_input.servers import running_server
from tests.bad_input.wires import post

from .test_admission import http_body
from .tokens import SECRET, token


def users_of(engine: MemoryEngine, store: str) -> list[str | None]:
    reader = engine.reader()
    state = reader.state(StoreId(store))
    assert state is not None
    return [each.user for each in reader.read(state, 0, state.head, 100, 10**6)]


@pytest.mark.parametrize("store_user", [True, False])
async def test_a_push_is_stored_with_its_user_by_every_door_if_asked_for(store_user: bool) -> None:
    engine = MemoryEngine()
    settings: dict[str, Any] = {"jwt_secret": Secret(SECRET), "store_user": store_user}
    async with running_server(engine=engine, payload={"authToken": token()}, **settings) as server:
        ann = await server.rpc("s", payload={"authToken": token()})
        bob = await server.rpc("s", payload={"authToken": token(sub="bob")})
        old = V3Client((await server.websocket(v3_url("s", {"authToken": token(sub="cy")}))).wire)
        await ann.push(event(1, 0), event(2, 1))
        await bob.push(event(3, 2))
        await old.send({"_tag": "WSMessage.PushReq", "requestId": "1", "batch": [event(4, 3)]})
        while (await old.receive())["_tag"] != "WSMessage.PushAck":
            pass
        carried = http_body("s", "Push", push_payload("s", event(5, 4)))
        await server.ask(post(sync_url("s", "http", {"authToken": token(sub="dee")}), carried))
        pulled = await ann.pull()
        assert len(pulled) == 5
        assert b"bob" not in repr(pulled).encode()
    named = ["ann", "ann", "bob", "cy", "dee"]
    assert users_of(engine, "s") == (named if store_user else [None] * 5)


async def test_strangers_and_holders_of_the_shared_token_stay_nobody() -> None:
    engine = MemoryEngine()
    async with running_server(engine=engine, store_user=True) as server:
        await (await server.rpc("s")).push(event(1, 0))
    assert users_of(engine, "s") == [None]


async def test_whom_a_hook_names_is_stored() -> None:
    engine = MemoryEngine()
    async with running_server(Hooks(authenticate=lambda *_: "eve"), engine=engine, store_user=True) as server:
        await (await server.rpc("s")).push(event(1, 0))
    assert users_of(engine, "s") == ["eve"]


@pytest.mark.parametrize(
    ("user", "stored"), [("ann", "ann"), ("a\0b", "a\\x00b"), ("\ud800x", "\\ud800x"), ("ä, 😀", "ä, 😀")]
)
def test_a_name_that_no_database_takes_is_written_out(user: str, stored: str) -> None:
    assert user_to_store(HookContext("s", None, {}, "", Principal(user))) == stored
