"""What looks odd but is legal is stored and given back to every generation byte for byte, through the real database."""

from __future__ import annotations

from pathlib import Path

import pytest

from livesync_trio.storage.sqlite.engine import SqliteEngine

from .clients import http_rpc, pull, sync_url
from .servers import STORE, TestedServer, running_server
from .wires import post

ODD_BUT_LEGAL = {
    "a lone high surrogate": rb'"\ud83d"',
    "a lone low surrogate in capitals": rb'"\uDE00 and \udE00"',
    "surrogates the wrong way round": rb'"\ude00\ud83d"',
    "a pair beside a lone one": rb'{"\ud83d":"\ud83d\ude00\ud83d"}',
    "an escaped backslash before ud83d": rb'"\\ud83d \\\ud83d \\\\ud83d"',
    "escapes a mask might use": rb'"\u0800\uE000\ue83d\u183d\ud83d"',
    "U+0000": rb'"\u0000"',
    "line separators, raw": '"\u2028\u2029"'.encode(),
    "emoji, raw": '"\U0001f600"'.encode(),
    "an integer above 2^53": b"12345678901234567890123",
    "minus zero": b"-0",
    "a float that is an integer": b"1.0",
    "exponents": b"[1e21,1E+2,1e-7,5e-324]",
    "infinity to Python": b"[1e999,-1e999]",
    "many digits": b"0." + b"1234567890" * 50,
    "keys in disorder": b'{"b":1,"a":2,"0":3}',
    "a key twice": b'{"a":1,"a":2}',
    "blanks": b'{ "a" :\t[ 1 ,\r\n2 ] }',
    "needless escapes": rb'"\u0041\/\b"',
    "an event in an event": rb'{"name":"x","seqNum":"1","args":{"args":null}}',
    "nesting": b"[" * 400 + b"]" * 400,
    "nothing": b"null",
}


@pytest.mark.parametrize("args", ODD_BUT_LEGAL.values(), ids=ODD_BUT_LEGAL)
async def test_args_come_back_byte_for_byte_in_every_generation(tmp_path: Path, args: bytes) -> None:
    engine = SqliteEngine(tmp_path / "events.db")
    engine.open()
    try:
        async with running_server(engine=engine) as server:
            await _push_and_compare(server, args)
    finally:
        engine.close()


async def _push_and_compare(server: TestedServer, args: bytes) -> None:
    name, client_id = rb'"\ud83d name"', rb'"c\\ud83d"'
    sent = b'{"sessionId":"\\u0000","clientId":%b,"parentSeqNum":0,"seqNum":1,"more":{"\\udfff":1},"args":%b,"name":%b}'
    kept = b'{"name":%b,"args":%b,"seqNum":1,"parentSeqNum":0,"clientId":%b,"sessionId":"\\u0000"}'
    stored = kept % (name, args, client_id)
    old, follower, client = await server.v3(), await server.rpc(numbered=True), await server.rpc()
    await follower.send(pull(1, STORE, live=True))
    await follower.receive()
    store_id = b'"store/\\u00f6 1"'
    payload = b'{"storeId":%b,"batch":[%b],"backendId":{"_tag":"None"}}' % (store_id, sent % (client_id, args, name))
    await client.send(b'{"_tag":"Request","id":"1","tag":"SyncWsRpc.Push","payload":%b}' % payload)
    assert (await client.receive())["exit"] == {"_tag": "Success", "value": {}}

    item = b'"batch":[{"eventEncoded":%b,"metadata"' % stored
    assert item in await follower.receive_text()
    assert item in await old.receive_text()
    await client.send(pull("2", STORE))
    assert item in await client.receive_text()
    await old.send({"_tag": "WSMessage.PullReq", "requestId": "x"})
    assert item in await old.receive_text()
    answer = await server.ask(http_rpc(STORE, 9, "Pull", {"storeId": STORE, "cursor": {"_tag": "None"}}))
    assert item in answer.body


async def test_absent_args_are_null_for_everybody(server: TestedServer) -> None:
    client = await server.rpc()
    new = {"name": "n", "seqNum": 1, "parentSeqNum": 0, "clientId": "c", "sessionId": "s"}
    assert (await client.push(new))["exit"]["_tag"] == "Success"
    assert await client.pull() == [{**new, "args": None}]
    assert await (await server.v3()).pull() == [{**new, "args": None}]


async def test_lone_surrogates_elsewhere_in_a_message_harm_nothing(server: TestedServer) -> None:
    client = await server.rpc()
    await client.send(rb'{"_tag":"Ping","\ud83d":"\ud83d"}')
    assert await client.receive() == {"_tag": "Pong"}
    ping = (
        rb'{"_tag":"Request","id":"1","tag":"SyncHttpRpc.Ping","headers":["\ud83d","\udfff"],"payload":{"storeId":"s"}}'
    )
    answer = await server.ask(post(sync_url("s", "http"), ping))
    assert answer.json[0]["exit"]["value"] == {"_tag": "SyncMessage.Pong"}
    old = await server.v3()
    await old.send(rb'{"_tag":"WSMessage.PullReq","requestId":"\uD83d","x":"\ud83d"}')
    assert rb'"requestId":"\uD83d"' in await old.receive_text()
    await client.check_works()
