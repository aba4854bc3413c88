"""Handshakes that are wrong, half, late, or not HTTP at all."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from livesync_trio.errors import RULES, Kind

from .clients import RpcClient, http_rpc, sync_url, v3_url
from .servers import STORE, TestedServer, running_server
from .websockets import KEY, UPGRADE, WebSocket, check_upgraded, upgrade
from .wires import head, post

URLS = {"0.4": sync_url(STORE), "0.3": v3_url(STORE)}


def without(name: str, *instead: str) -> tuple[str, ...]:
    """The upgrade headers with one of them replaced."""
    return (*(header for header in UPGRADE if not header.startswith(name + ":")), *instead)


@pytest.mark.parametrize("target", URLS.values(), ids=URLS)
@pytest.mark.parametrize(
    "headers",
    [(), without("Upgrade"), without("Upgrade", "Upgrade: h2c"), ("Connection: keep-alive",)],
    ids=["nothing", "no Upgrade", "h2c", "keep-alive"],
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT", "DELETE", "BREW"])
async def test_a_websocket_url_without_an_upgrade_is_answered_with_426(
    server: TestedServer, method: str, headers: tuple[str, ...], target: str
) -> None:
    answer = await server.ask(head(f"{method} {target} HTTP/1.1", *headers))
    assert answer.status == RULES[Kind.UPGRADE_REQUIRED].http_status == 426
    if method != "HEAD":
        assert "upgrade" in answer.text.lower()


@pytest.mark.parametrize("target", URLS.values(), ids=URLS)
async def test_a_post_with_a_body_to_a_websocket_url_is_answered_with_426(server: TestedServer, target: str) -> None:
    assert (await server.ask(post(target, b"{}"))).status == RULES[Kind.UPGRADE_REQUIRED].http_status


BAD_UPGRADES = {
    "no Connection": without("Connection"),
    "another Connection": without("Connection", "Connection: close"),
    "no version": without("Sec-WebSocket-Version"),
    "version 8": without("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"),
    "no key": without("Sec-WebSocket-Key"),
    "an empty key": without("Sec-WebSocket-Key", "Sec-WebSocket-Key:"),
    "a short key": without("Sec-WebSocket-Key", "Sec-WebSocket-Key: YWJj"),
    "a key that is no base64": without("Sec-WebSocket-Key", "Sec-WebSocket-Key: ****"),
    "two keys": (*UPGRADE, f"Sec-WebSocket-Key: {KEY}"),
    "a key of bytes above 127": without("Sec-WebSocket-Key", "Sec-WebSocket-Key: \xe9\xff"),
    "two versions": (*UPGRADE, "Sec-WebSocket-Version: 8"),
}


@pytest.mark.parametrize("target", URLS.values(), ids=URLS)
@pytest.mark.parametrize("headers", BAD_UPGRADES.values(), ids=BAD_UPGRADES)
async def test_a_wrong_upgrade_is_refused_with_a_reason_and_the_connection_ends(
    server: TestedServer, headers: tuple[str, ...], target: str
) -> None:
    wire = await server.wire()
    answer = await wire.ask(head(f"GET {target} HTTP/1.1", *headers))
    assert answer.status in (400, 426)
    assert answer.text.strip()
    assert answer.headers["access-control-allow-origin"] == "*"
    assert await wire.read_to_end() == b""


@pytest.mark.parametrize("line", [f"POST {sync_url(STORE)} HTTP/1.1", f"GET {sync_url(STORE)} HTTP/1.0"])
async def test_an_upgrade_by_another_method_or_version_is_refused(server: TestedServer, line: str) -> None:
    answer = await server.ask(head(line, *UPGRADE))
    assert answer.status in (400, 405, 426, 505)


@pytest.mark.parametrize("target", URLS.values(), ids=URLS)
async def test_odd_but_legal_upgrades_succeed(server: TestedServer, target: str) -> None:
    for headers in (
        without("Connection", "Connection: keep-alive, Upgrade"),
        without("Upgrade", "upgrade: WebSocket"),
        (*UPGRADE, "Origin: null", "Cookie: a=b; c=\xe9", "X-Odd: \xff"),
        (*UPGRADE, "Content-Length: 0"),
        (*UPGRADE, "Sec-WebSocket-Protocol: chat, superchat"),
        (*UPGRADE, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"),
        (*UPGRADE, "Sec-WebSocket-Extensions: permessage-deflate, x-webkit-deflate-frame, made-up; a=b"),
    ):
        answer = await server.ask(head(f"GET {target} HTTP/1.1", *headers))
        check_upgraded(answer)


async def test_the_upgrade_may_come_on_a_connection_that_was_used_before(server: TestedServer) -> None:
    """Reverse proxies pool their connections."""
    wire = await server.wire()
    assert (await wire.ask(head("GET /health HTTP/1.1"))).status == 200
    assert (await wire.ask(head("GET /nothing HTTP/1.1"))).status == 404
    assert (await wire.ask(head("OPTIONS /any HTTP/1.1"))).status == 204
    assert (await wire.ask(http_rpc("s", "1", "Ping", {"storeId": "s"}))).status == 200
    assert (await wire.ask(head(f"GET {sync_url(STORE)} HTTP/1.1"))).status == 426
    check_upgraded(await wire.ask(upgrade(sync_url(STORE))))
    await RpcClient(wire, STORE).check_works()


async def test_requests_and_an_upgrade_may_be_pipelined(server: TestedServer) -> None:
    wire = await server.wire()
    await wire.send(
        head("GET /health HTTP/1.1")
        + http_rpc("s", "1", "Ping", {"storeId": "s"})
        + head("GET /nothing HTTP/1.1")
        + upgrade(sync_url(STORE))
        + b'\x81\x8f\0\0\0\0{"_tag":"Ping"}'
    )
    assert [(await wire.read_answer()).status for _ in range(4)] == [200, 200, 404, 101]
    client = RpcClient(wire, STORE)
    assert await client.receive() == {"_tag": "Pong"}
    await client.check_works()


# --- half a handshake ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "half",
    [b"G", b"GET / HTTP/1.1\r\n", upgrade(sync_url(STORE))[:-2], upgrade(sync_url(STORE))[:60]],
    ids=["a letter", "a line", "all but the end", "60 bytes"],
)
async def test_half_a_head_is_answered_with_408_when_the_limit_has_passed(half: bytes) -> None:
    async with running_server(handshake_limit_s=0.3) as server:
        wire = await server.wire()
        answer = await wire.ask(half)
        assert answer.status == RULES[Kind.REQUEST_TIMEOUT].http_status == 408
        assert await wire.read_to_end() == b""


async def test_a_connection_that_says_nothing_is_closed_without_a_word_when_the_limit_has_passed() -> None:
    async with running_server(handshake_limit_s=0.3) as server:
        wire = await server.wire()
        assert await wire.read_to_end() == b""


async def test_sending_slowly_does_not_prolong_the_limit() -> None:
    async with running_server(handshake_limit_s=0.1) as server:
        wire = await server.wire()
        async with trio.open_nursery() as nursery:

            async def trickle() -> None:
                while True:
                    await wire.send(b"X")
                    await trio.sleep(0.01)

            await wire.send(b"GET / HTTP/1.1\r\nX-Slow: ")
            nursery.start_soon(trickle)
            assert (await wire.read_answer()).status == 408
            nursery.cancel_scope.cancel()


async def test_the_limit_holds_for_each_connection_and_not_for_open_websockets() -> None:
    async with running_server(handshake_limit_s=0.3) as server:
        client = await server.rpc()
        wire = await server.wire()
        assert await wire.read_to_end() == b""
        await client.check_works()


async def test_a_peer_that_leaves_in_the_middle_of_a_head_is_no_trouble(server: TestedServer) -> None:
    whole = upgrade(sync_url(STORE))
    for size in range(0, len(whole), 13):
        wire = await server.wire()
        await wire.send(whole[:size])
        await wire.half_close()
        left = await wire.read_to_end()
        assert left == b"" or left.startswith(b"HTTP/1.1 400 ")
        wire = await server.wire()
        await wire.send(whole[:size])
        await wire.reset()


# --- not HTTP --------------------------------------------------------------------------------------------------------

NOT_HTTP_1 = {
    "the h2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    "an h2 upgrade to 2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "http/0.9": b"GET /\r\n\r\n",
    "a TLS hello": bytes.fromhex("160301020001000100fc0303") + bytes(range(256)) * 2 + b"\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "smtp": b"EHLO example.org\r\n\r\n",
    "socks": b"\x05\x01\x00\r\n\r\n",
    "a proxy line": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "zeros": b"\0" * 4096 + b"\r\n\r\n",
    "websocket frames": b'\x81\x8f\0\0\0\0{"_tag":"Ping"}\r\n\r\n',
    "a blank in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "bytes above 127 in the target": "GET /ö HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nHost: a\r\nNonsense\r\n\r\n",
    "a blank before the colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "a zero in a header": b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
    "a lone carriage return in a header": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rY: b\r\n\r\n",
}


@pytest.mark.parametrize("data", NOT_HTTP_1.values(), ids=NOT_HTTP_1)
async def test_what_is_not_http_1_is_answered_with_400_and_the_end(server: TestedServer, data: bytes) -> None:
    wire = await server.wire()
    answer = await wire.ask(data)
    assert answer.status == RULES[Kind.BAD_HTTP].http_status == 400
    assert await wire.read_to_end() == b""


async def test_a_connect_request_is_refused(server: TestedServer) -> None:
    answer = await server.ask(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n")
    assert answer.status in (404, 405)


# --- every byte ------------------------------------------------------------------------------------------------------


async def test_a_handshake_may_be_split_at_every_byte(server: TestedServer) -> None:
    whole = upgrade(sync_url(STORE)) + b'\x81\x8f\0\0\0\0{"_tag":"Ping"}'
    for split in range(1, len(whole)):
        wire = await server.wire()
        await wire.send(whole[:split])
        await trio.testing.wait_all_tasks_blocked()
        await wire.send(whole[split:])
        check_upgraded(await wire.read_answer())
        assert await WebSocket(wire).receive() == {"_tag": "Pong"}
        await wire.close()


async def test_a_handshake_may_come_byte_by_byte(server: TestedServer) -> None:
    wire = await server.wire()
    await wire.send_piecemeal(upgrade(sync_url(STORE)))
    check_upgraded(await wire.read_answer())
    await RpcClient(wire, STORE).check_works()
