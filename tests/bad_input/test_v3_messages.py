"""Messages of 0.3 that are not what they should be: ignored or answered with an Error, and the socket stays usable.

A 0.3 client never pulls again after a reconnect, hence its socket is not closed for a bad message (SPEC 5.3).
"""

from __future__ import annotations

from typing import Any

import pytest

from livesync_trio.limits import REQUEST_ID_MAX_BYTES

from .clients import event, v3_url
from .servers import STORE, TestedServer, running_server
from .websockets import BINARY

IGNORED = {
    "nothing": b"",
    "no JSON": b"garbage",
    "cut": b'{"_tag":"WSMessage.Ping"',
    "null": b"null",
    "a number": b"7",
    "an empty object": b"{}",
    "an array": b'[{"_tag":"WSMessage.Ping","requestId":"ping"}]',
    "an unknown tag": b'{"_tag":"WSMessage.Pang","requestId":"x"}',
    "a tag of 0.4": b'{"_tag":"Ping"}',
    "a tag of the server": b'{"_tag":"WSMessage.PushAck","requestId":"x"}',
    "a tag that is no string": b'{"_tag":7,"requestId":"x"}',
    "no request id": b'{"_tag":"WSMessage.PullReq"}',
    "a request id that is a number": b'{"_tag":"WSMessage.PullReq","requestId":7}',
    "a request id that is null": b'{"_tag":"WSMessage.PushReq","requestId":null,"batch":[]}',
    "a byte order mark": b'\xef\xbb\xbf{"_tag":"WSMessage.Ping","requestId":"ping"}',
}


@pytest.mark.parametrize("message", IGNORED.values(), ids=IGNORED)
async def test_what_cannot_be_understood_is_ignored(server: TestedServer, message: bytes) -> None:
    client = await server.v3()
    await client.send(message)
    await client.send_frame(BINARY, message)
    await client.send({"_tag": "WSMessage.Ping", "requestId": "ping"})
    assert await client.receive() == {"_tag": "WSMessage.Pong", "requestId": "ping"}
    await client.check_works()


def _push(batch: Any) -> dict[str, Any]:
    return {"_tag": "WSMessage.PushReq", "requestId": "x", "batch": batch}


def _pull(cursor: Any) -> dict[str, Any]:
    return {"_tag": "WSMessage.PullReq", "requestId": "x", "cursor": cursor}


INVALID = {
    "push without a batch": {"_tag": "WSMessage.PushReq", "requestId": "x"},
    "push of null": _push(None),
    "push of numbers": _push([1]),
    "push of an event without a name": _push([{key: value for key, value in event().items() if key != "name"}]),
    "push with a name that is a number": _push([event(name=7)]),
    "push with a fraction": _push([event(1.5)]),
    "push with 2^53": _push([event(2**53)]),
    "push with a string": _push([event("1")]),
    "pull from a string": _pull("1"),
    "pull from a fraction": _pull(1.5),
    "pull from 2^53": _pull(2**53),
    "pull from true": _pull(True),
    "pull from an object": _pull({}),
    "reset without a secret": {"_tag": "WSMessage.AdminResetRoomReq", "requestId": "x"},
    "info with a number for a secret": {"_tag": "WSMessage.AdminInfoReq", "requestId": "x", "adminSecret": 7},
}


@pytest.mark.parametrize("message", INVALID.values(), ids=INVALID)
async def test_a_request_of_the_wrong_shape_is_answered_with_an_error(
    server: TestedServer, message: dict[str, Any]
) -> None:
    client = await server.v3()
    await client.send(message)
    answer = await client.receive()
    assert answer.keys() == {"_tag", "requestId", "message"}
    assert (answer["_tag"], answer["requestId"]) == ("WSMessage.Error", "x")
    assert message["_tag"] in answer["message"]
    await client.check_works()


@pytest.mark.parametrize("secret", ["", "wrong", "s3cre", "s3cret ", "\ud83d", "\0", "ö" * 1000], ids=ascii)
@pytest.mark.parametrize("tag", ["AdminResetRoomReq", "AdminInfoReq"])
async def test_a_wrong_admin_secret_is_refused(tag: str, secret: str) -> None:
    from livesync_trio.config import Secret

    async with running_server(admin_secret=Secret("s3cret")) as server:
        client = await server.v3()
        await client.check_works()
        await client.send({"_tag": f"WSMessage.{tag}", "requestId": "x", "adminSecret": secret})
        error = {"_tag": "WSMessage.Error", "requestId": "x", "message": "Invalid admin secret"}
        assert await client.receive() == error
        assert len(await client.pull()) == 1
        assert "s3cret" not in str(server.logs)
        await client.check_works()


async def test_without_an_admin_secret_in_the_configuration_nobody_is_admin(server: TestedServer) -> None:
    client = await server.v3()
    for secret in ("", "None", "null"):
        await client.send({"_tag": "WSMessage.AdminResetRoomReq", "requestId": "x", "adminSecret": secret})
        assert (await client.receive())["message"] == "Invalid admin secret"
    await client.check_works()


async def test_a_ping_may_be_spelt_differently_and_carry_any_id(server: TestedServer) -> None:
    client = await server.v3()
    for sent, expected in [
        (b' { "requestId" : "ping" , "_tag" : "WSMessage.Ping" , "x" : 1 } ', '"ping"'),
        (b'{"_tag":"WSMessage.Ping","requestId":"\\u0070ing"}', '"\\u0070ing"'),
        (b'{"_tag":"WSMessage.Ping","requestId":"\\ud83d"}', '"\\ud83d"'),
    ]:
        await client.send(sent)
        assert (await client.receive_text()).decode() == f'{{"_tag":"WSMessage.Pong","requestId":{expected}}}'


async def test_a_second_pull_with_the_same_id_takes_the_place_of_the_first(server: TestedServer) -> None:
    client = await server.v3()
    for _ in range(2):
        await client.send(_pull(0))
        answer = await client.receive()
        assert (answer["_tag"], answer["requestId"]) == ("WSMessage.PullRes", {"context": "pull", "requestId": "x"})
    await client.check_works()


async def test_a_payload_like_a_store_of_0_3_is_decoded_the_same(server: TestedServer) -> None:
    client = await server.websocket(v3_url(STORE) + "&payload=%257B%2522a%2522%253A1%257D")
    await client.send({"_tag": "WSMessage.Ping", "requestId": "ping"})
    assert (await client.receive())["_tag"] == "WSMessage.Pong"


async def test_a_request_id_has_a_longest_length_since_broadcasts_carry_it(server: TestedServer) -> None:
    pusher, other = await server.v3(), await server.v3()
    fits = "i" * (REQUEST_ID_MAX_BYTES - 2)
    for request_id in (fits + "i", "i" * 500_000, "\u00f6" * (REQUEST_ID_MAX_BYTES // 2)):
        for tag, more in (("PushReq", {"batch": [event()]}), ("PullReq", {}), ("Ping", {})):
            await pusher.send({"_tag": f"WSMessage.{tag}", "requestId": request_id, **more})
            answer = await pusher.receive()
            assert (answer["_tag"], answer["requestId"]) == ("WSMessage.Error", request_id)
            assert f"longer than {REQUEST_ID_MAX_BYTES} bytes" in answer["message"]
    assert len(str(server.logs)) < 10_000
    await pusher.send({"_tag": "WSMessage.PushReq", "requestId": fits, "batch": [event()]})
    assert await pusher.receive() == {"_tag": "WSMessage.PushAck", "requestId": fits}
    broadcast = await other.receive()
    assert broadcast["requestId"] == {"context": "push", "requestId": fits}
    assert [item["eventEncoded"]["seqNum"] for item in broadcast["batch"]] == [1]
