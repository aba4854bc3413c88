"""What is too deep or too large: refused before it costs anything, and the others do not notice.

How deep is too deep depends on the interpreter (1,000 levels for Python 3.11, 10,000 for 3.13) and, by some dozen
levels, on how deep its own stack is at the moment. Whatever is taken must be given back byte for byte.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import trio
import trio.testing

from livesync_trio.errors import RULES, Kind

from .clients import event, http_rpc, push, reason, sync_url
from .nesting import depths_near_the_border, nested
from .servers import FRAME_MAX_BYTES, STORE, TestedServer, running_server
from .websockets import BINARY, CONTINUATION, TEXT, frame
from .wires import head, post


@pytest.mark.parametrize("kind", ["arrays", "objects"])
@pytest.mark.parametrize("depth", [10_000, 100_000])
async def test_args_nested_too_deeply_are_refused(server: TestedServer, depth: int, kind: str) -> None:
    await _check_args_are_refused_or_served(server, nested(depth, kind))


@pytest.mark.parametrize("depth", depths_near_the_border(3))
async def test_near_the_deepest_args_that_are_taken_everything_goes_well(server: TestedServer, depth: int) -> None:
    await _check_args_are_refused_or_served(server, nested(depth, "arrays"))


async def _check_args_are_refused_or_served(server: TestedServer, args: str) -> None:
    client, old = await server.rpc("deep"), await server.v3("deep")
    await client.send(json.dumps(push("1", "deep", event(1, 0, "ARGS"))).replace('"ARGS"', args))
    stored = await client.is_served("1")
    await old.send({"_tag": "WSMessage.PullReq", "requestId": "x"})
    assert (args.encode() in await old.receive_text()) == stored
    await (await server.rpc()).check_works()


@pytest.mark.parametrize("depth", [10_000, 100_000])
@pytest.mark.parametrize(
    "message",
    ["DEEP", '{"_tag":DEEP}', '{"_tag":"Ping","x":DEEP}', '{"_tag":"Request","id":DEEP,"tag":"SyncWsRpc.Pull"}',
     '{"_tag":"Request","id":"1","tag":"SyncWsRpc.Pull","payload":DEEP}',
     '{"_tag":"Request","id":"1","tag":"SyncWsRpc.Pull","headers":DEEP}', '{"_tag":"Ack","requestId":DEEP}'],
)  # fmt: skip
async def test_nesting_anywhere_in_a_message_is_refused(server: TestedServer, message: str, depth: int) -> None:
    client = await server.rpc()
    await client.send(message.replace("DEEP", nested(depth, "arrays")))
    received = await client.receive_frame()
    if received.opcode == TEXT:  # where the id could be read
        assert reason(json.loads(received.payload))[0] == Kind.INVALID_REQUEST
        await client.check_works()
    else:
        assert client.close_code == RULES[Kind.BAD_FRAME].close_code
        assert [line["kind"] for line in server.logged("connection closed")] == [Kind.BAD_FRAME]


@pytest.mark.parametrize("depth", [10_000, 100_000])
async def test_nesting_over_http_is_refused(server: TestedServer, depth: int) -> None:
    body = json.dumps(push("1", STORE, event(1, 0, "ARGS"))).replace("SyncWsRpc", "SyncHttpRpc")
    answer = await server.ask(post(sync_url(STORE, "http"), body.replace('"ARGS"', nested(depth, "arrays")).encode()))
    assert answer.status in (200, 400)
    assert answer.json[0]["_tag"] in ("Exit", "Defect")


@pytest.mark.parametrize("depth", [10_000, 100_000])
async def test_nesting_in_0_3_is_ignored_or_refused(server: TestedServer, depth: int) -> None:
    client = await server.v3()
    for message in ("DEEP", '{"_tag":"WSMessage.PushReq","requestId":"p","batch":[{"args":DEEP}]}'):
        await client.send(message.replace("DEEP", nested(depth, "objects")))
    await client.check_works()


async def test_nesting_in_the_payload_of_the_url_is_refused(server: TestedServer) -> None:
    deep = nested(20_000, "arrays").replace("[", "%5B").replace("]", "%5D")[:60_000]
    answer = await server.ask(head(f"GET /?storeId=a&transport=ws&payload={deep} HTTP/1.1"))
    assert answer.status == RULES[Kind.BAD_SYNC_URL].http_status


# --- size ------------------------------------------------------------------------------------------------------------

TOO_BIG: dict[str, list[bytes]] = {
    "one byte more than allowed": [frame(TEXT, b" " * (FRAME_MAX_BYTES + 1))],
    "only announced": [frame(TEXT, b"", length=b"\x7f" + (FRAME_MAX_BYTES + 1).to_bytes(8, "big"))],
    "announced with 2^63-1 bytes": [frame(TEXT, b"", length=b"\x7f" + (2**63 - 1).to_bytes(8, "big"))],
    "binary": [frame(BINARY, b"{" * (FRAME_MAX_BYTES + 1))],
    "in two fragments": [
        frame(TEXT, b" " * (FRAME_MAX_BYTES // 2 + 1), fin=False),
        frame(CONTINUATION, b" " * (FRAME_MAX_BYTES // 2)),
    ],
    "in fragments that never end": [
        frame(TEXT, b" " * 65_536, fin=False),
        *[frame(CONTINUATION, b" " * 65_536, fin=False)] * 16,
    ],
}


@pytest.mark.parametrize("frames", TOO_BIG.values(), ids=TOO_BIG)
@pytest.mark.parametrize("generation", ["rpc", "v3"])
async def test_a_message_larger_than_the_limit_closes_the_socket_with_1009(
    server: TestedServer, generation: str, frames: list[bytes]
) -> None:
    client: Any = await (server.rpc() if generation == "rpc" else server.v3())
    await client.wire.send(b"".join(frames))
    assert await client.closed() == RULES[Kind.FRAME_TOO_BIG].close_code == 1009


async def test_a_message_of_exactly_the_limit_is_taken(server: TestedServer) -> None:
    client = await server.rpc()
    text = json.dumps(push("1", STORE, event(1, 0, "x")))
    await client.send(text.replace('"x"', '"' + "x" * (FRAME_MAX_BYTES - len(text) + 1) + '"'))
    assert (await client.answer_to("1"))[1]["exit"]["_tag"] == "Success"
    (stored,) = await client.pull()
    assert len(stored["args"]) > 1_000_000
    await client.check_works()


async def test_a_body_larger_than_the_limit_is_answered_with_413(server: TestedServer) -> None:
    for request in (
        post(sync_url(STORE, "http"), b" " * (FRAME_MAX_BYTES + 1)),
        head(f"POST {sync_url(STORE, 'http')} HTTP/1.1", "Transfer-Encoding: chunked")
        + b"80000\r\n" + b" " * 0x80000 + b"\r\n80001\r\n" + b" " * 0x80001 + b"\r\n",
        head(f"OPTIONS {sync_url(STORE, 'http')} HTTP/1.1", f"Content-Length: {FRAME_MAX_BYTES + 1}")
        + b" " * (FRAME_MAX_BYTES + 1),
    ):  # fmt: skip
        answer = await server.ask(request)
        assert answer.status == RULES[Kind.BODY_TOO_BIG].http_status == 413


async def test_a_body_of_exactly_the_limit_is_taken(server: TestedServer) -> None:
    payload = {"storeId": STORE, "batch": [event(1, 0, "x")], "backendId": {"_tag": "None"}}
    body = http_rpc(STORE, "1", "Push", payload).partition(b"\r\n\r\n")[2]
    body = body.replace(b'"x"', b'"%b"' % (b"x" * (FRAME_MAX_BYTES - len(body) + 1)))
    assert len(body) == FRAME_MAX_BYTES
    answer = await server.ask(post(sync_url(STORE, "http"), body))
    assert answer.status == 200
    assert answer.json == [{"_tag": "Exit", "requestId": "1", "exit": {"_tag": "Success", "value": {}}}]


async def test_a_large_message_that_comes_in_small_pieces_costs_no_more_than_its_size() -> None:
    """A copy of what has come with every piece would let one slow connection stop the server for all."""
    size = 16 * 1024 * 1024
    whole = frame(TEXT, b" " * size + b'{"_tag":"Ping"}')
    async with running_server(frame_max_bytes=2 * size) as server:
        client = await server.rpc()
        began_s = time.thread_time()
        for start in range(0, size - 300, 65_536):
            await client.wire.send(whole[start : min(start + 65_536, size - 300)])
        await client.wire.send_piecemeal(whole[size - 300 : size + 10])
        await trio.testing.wait_all_tasks_blocked()
        await client.wire.send(whole[size + 10 :])
        assert await client.receive() == {"_tag": "Pong"}
        assert time.thread_time() - began_s < 0.7
