"""A token that expires while its socket is open: no push after it, and each generation is told in its own way.

The real 0.4 client goes through the same in `tests/conformance/test_expiry.py`.
"""

from __future__ import annotations

import time
from typing import Any

import jwt
import trio

from livesync_trio.config import Secret
from livesync_trio.errors import Kind
from tests.bad_input.clients import event, http_rpc, pull, push, push_payload, reason, sync_url, v3_url
from tests.bad_input.servers import TestedServer, running_server
from tests.bad_input.websockets import WebSocket
from tests.bad_input.wires import Ended, post

from .tokens import SECRET, claims, token

SETTINGS: dict[str, Any] = {"jwt_secret": Secret(SECRET), "jwt_leeway_s": 0.0, "idle_limit_s": 8.0}


def short_lived() -> dict[str, str]:
    """A token that expires at the next whole second but one: PyJWT cuts fractions of `exp` off."""
    return {"authToken": jwt.encode(claims(exp=int(time.time()) + 2, stores=["s"]), SECRET)}


async def until_expired() -> None:
    await trio.sleep(2.05 - time.time() % 1)


async def count_events(server: TestedServer) -> int:
    return len(await (await server.rpc("s")).pull())


async def test_0_4_is_closed_on_its_next_push() -> None:
    async with running_server(payload={"authToken": token()}, **SETTINGS) as server:
        client = await server.rpc("s", payload=short_lived())
        await client.push(event(1, 0))
        await until_expired()
        await client.send(push("7", "s", event(2, 1)))
        try:
            while (message := await client.receive()).get("requestId") != "7":
                pass
            assert reason(message)[0] == Kind.TOKEN_EXPIRED
            assert await client.closed() == 1008
        except Ended:
            assert client.close_code == 1008  # the sweep came first
        assert await count_events(server) == 1
        # With the stale token it is kept out, with a fresh one let in.
        stale = {"authToken": token(expires_in_s=-1)}
        assert (await server.ask(post(sync_url("s", "http", stale), b"{}"))).status == 401
        assert len(await (await server.rpc("s")).pull()) == 1


async def test_0_4_is_closed_although_it_asks_for_nothing() -> None:
    async with running_server(payload={"authToken": token()}, **SETTINGS) as server:
        client = await server.rpc("s", payload=short_lived())
        await client.send(pull("1", "s", live=True))
        with trio.fail_after(30):
            assert await client.closed() == 1008  # and not 1001, which silence would get it after `idle_limit_s`
        assert "expired" in client.close_reason


async def test_next_is_not_closed_and_goes_on_reading_but_does_not_push() -> None:
    async with running_server(payload={"authToken": token()}, **SETTINGS) as server:
        client = await server.rpc("s", payload=short_lived(), numbered=True)
        await client.send(pull(1, "s", live=True))
        await client.receive()
        await until_expired()
        await trio.sleep(SETTINGS["idle_limit_s"] / 4)  # a sweep passes
        kind, words = reason(await client.push(event(1, 0)))
        assert (kind, "expired" in words) == (Kind.TOKEN_EXPIRED, True)
        await (await server.rpc("s")).push(event(1, 0))
        while (message := await client.receive())["_tag"] != "Chunk":
            pass
        assert message["requestId"] == 1
        await client.send({"_tag": "Ping"})
        assert await client.receive() == {"_tag": "Pong"}


async def test_0_3_is_kept_alive_and_goes_on_reading_but_does_not_push() -> None:
    async with running_server(payload={"authToken": token()}, **SETTINGS) as server:
        client = WebSocket((await server.websocket(v3_url("s", short_lived()))).wire)
        await until_expired()
        await trio.sleep(SETTINGS["idle_limit_s"] / 4)
        await client.send({"_tag": "WSMessage.PushReq", "requestId": "p", "batch": [event(1, 0)]})
        answer = await client.receive()
        assert (answer["_tag"], answer["requestId"]) == ("WSMessage.Error", "p")
        assert "expired" in answer["message"]
        await (await server.rpc("s")).push(event(1, 0))
        assert (await client.receive())["_tag"] == "WSMessage.PullRes"
        await client.send({"_tag": "WSMessage.Ping", "requestId": "ping"})
        assert (await client.receive())["_tag"] == "WSMessage.Pong"


async def test_every_http_request_is_judged_anew() -> None:
    async with running_server(payload={"authToken": token()}, **SETTINGS) as server:
        payload = short_lived()
        body = http_rpc("s", "1", "Push", push_payload("s", event(1, 0))).partition(b"\r\n\r\n")[2]
        assert (await server.ask(post(sync_url("s", "http", payload), body))).status == 200
        await until_expired()
        answer = await server.ask(post(sync_url("s", "http", payload), body))
        assert answer.status == 401
        assert reason(answer.json[0])[0] == Kind.UNAUTHENTICATED


async def test_a_push_that_waits_for_its_hook_when_the_token_expires_is_not_stored() -> None:
    from livesync_trio.hooks import HookContext, Hooks

    async def on_push(batch: list[Any], context: HookContext) -> None:
        if context.user is not None and context.user.claims.get("slow"):
            await until_expired()

    async with running_server(Hooks(on_push=on_push), payload={"authToken": token()}, **SETTINGS) as server:
        payload = {"authToken": jwt.encode(claims(exp=int(time.time()) + 2, slow=True), SECRET)}
        client = await server.rpc("s", payload=payload, numbered=True)
        assert reason(await client.push(event(1, 0)))[0] == Kind.TOKEN_EXPIRED
        assert await count_events(server) == 0


async def test_leeway_counts_for_open_sockets_too() -> None:
    async with running_server(payload={"authToken": token()}, **{**SETTINGS, "jwt_leeway_s": 30.0}) as server:
        client = await server.rpc("s", payload=short_lived())
        await until_expired()
        assert (await client.push(event(1, 0)))["exit"]["_tag"] == "Success"
