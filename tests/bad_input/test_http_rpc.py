"""Bodies of HTTP RPC that are not what they should be: always an array with an Exit where an id can be read.

Without an Exit for its id the client waits for ever; status and content type it does not look at (SPEC 3.7).
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from livesync_trio.errors import RULES, Kind
from livesync_trio.limits import MESSAGES_PER_ARRAY_MAX

from .clients import NO_CURSOR, event, failure, http_rpc, push_payload, reason, request, sync_url
from .servers import STORE, TestedServer
from .wires import HttpAnswer, post

URL = sync_url(STORE, "http")

UNINTELLIGIBLE: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"hello",
    "cut": b'{"_tag":"Request"',
    "null": b"null",
    "a number": b"7",
    "an empty object": b"{}",
    "an empty array": b"[]",
    "an array of a number": b"[7]",
    "an unknown tag": b'{"_tag":"Bequest","id":"1"}',
    "no id": b'{"_tag":"Request","tag":"SyncHttpRpc.Ping","payload":{"storeId":"s"}}',
    "an odd id": b'{"_tag":"Request","id":"x","tag":"SyncHttpRpc.Ping","payload":{"storeId":"s"}}',
    "a ping of the WebSocket": b'{"_tag":"Ping"}',
    "an ack": b'{"_tag":"Ack","requestId":"1"}',
    "an interrupt": b'{"_tag":"Interrupt","requestId":"1"}',
    "an end": b'{"_tag":"Eof"}',
    "a form": b"storeId=a&transport=http",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"_tag":"Ping"}'.encode("utf-16"),
}


@pytest.mark.parametrize("body", UNINTELLIGIBLE.values(), ids=UNINTELLIGIBLE)
async def test_a_body_without_a_request_is_answered_with_a_defect_in_an_array(
    server: TestedServer, body: bytes
) -> None:
    wire = await server.wire()
    answer = await wire.ask(post(URL, body))
    kind = Kind.BAD_TEXT if body.startswith(b"\xff\xfe") else Kind.BAD_FRAME
    assert answer.status == (RULES[kind].http_status or 400)
    (message,) = answer.json
    assert message["_tag"] == "Defect"
    assert message["defect"]["message"]
    _check_headers(answer)
    await _check_connection_works(wire)


@pytest.mark.parametrize("request_id", ["1", 1], ids=["0.4", "next"])
@pytest.mark.parametrize(
    ("procedure", "payload", "kind"),
    [
        ("Drop", {"storeId": STORE}, Kind.UNKNOWN_RPC),
        ("", {}, Kind.UNKNOWN_RPC),
        ("Ping", None, Kind.INVALID_REQUEST),
        ("Ping", {"storeId": 7}, Kind.INVALID_REQUEST),
        ("Pull", {"storeId": STORE}, Kind.INVALID_REQUEST),
        ("Pull", {"storeId": STORE, "cursor": None}, Kind.INVALID_REQUEST),
        ("Pull", {"storeId": "other", "cursor": NO_CURSOR}, Kind.STORE_MISMATCH),
        ("Push", push_payload("other", event()), Kind.STORE_MISMATCH),
        ("Push", {**push_payload(STORE), "batch": None}, Kind.INVALID_REQUEST),
        ("Push", push_payload(STORE, event("1")), Kind.INVALID_REQUEST),
        ("Push", push_payload(STORE, event(1.5)), Kind.INVALID_REQUEST),
        ("Push", push_payload(STORE, event(0)), Kind.INVALID_BATCH),
    ],
)
async def test_a_request_that_cannot_be_served_is_answered_with_an_exit(
    server: TestedServer, procedure: str, payload: Any, kind: Kind, request_id: object
) -> None:
    wire = await server.wire()
    answer = await wire.ask(http_rpc(STORE, request_id, procedure, payload))
    assert answer.status == RULES[kind].http_status
    (exit_,) = answer.json
    assert exit_["requestId"] == request_id
    assert type(exit_["requestId"]) is type(request_id)
    assert reason(exit_)[0] == kind
    _check_headers(answer)
    await _check_connection_works(wire)


async def test_procedures_of_the_websocket_do_not_exist_here(server: TestedServer) -> None:
    body = json.dumps(request("1", "SyncWsRpc.Pull", {"storeId": STORE, "cursor": NO_CURSOR, "live": False}))
    answer = await server.ask(post(URL, body.encode()))
    assert reason(answer.json[0])[0] == Kind.UNKNOWN_RPC


async def test_a_live_pull_over_http_ends_like_any_other(server: TestedServer) -> None:
    answer = await server.ask(http_rpc(STORE, "1", "Pull", {"storeId": STORE, "cursor": NO_CURSOR, "live": True}))
    assert [message["_tag"] for message in answer.json] == ["Chunk", "Exit"]


@pytest.mark.parametrize("request_id", ["1", 1], ids=["0.4", "next"])
async def test_a_push_that_comes_too_late_and_a_lost_identity_have_their_own_errors(
    server: TestedServer, request_id: object
) -> None:
    answer = await server.ask(http_rpc(STORE, request_id, "Push", push_payload(STORE, event(8, 7))))
    assert answer.status == RULES[Kind.SERVER_AHEAD].http_status == 200
    assert failure(answer.json[0]) == {"_tag": "ServerAheadError", "minimumExpectedNum": 0, "providedNum": 7}
    payload = {**push_payload(STORE, event(8, 7)), "backendId": {"_tag": "Some", "value": "old"}}
    answer = await server.ask(http_rpc(STORE, request_id, "Push", payload))
    assert answer.status == RULES[Kind.BACKEND_ID_MISMATCH].http_status == 200
    pushing = failure(answer.json[0])
    cursor = {"_tag": "Some", "value": {"backendId": "old", "eventSequenceNumber": 3}}
    answer = await server.ask(http_rpc(STORE, request_id, "Pull", {"storeId": STORE, "cursor": cursor}))
    assert failure(answer.json[0]) == pushing
    assert (pushing["_tag"], pushing["received"]) == ("BackendIdMismatchError", "old")
    assert pushing["expected"]


@pytest.mark.parametrize("lost", ["\ud83d", "\udfff\ud800", "\U0001f600 \ud83d", 'a"\\b\n\0', ""], ids=ascii)
async def test_a_lost_identity_is_told_back_as_it_came(server: TestedServer, lost: str) -> None:
    clients = (await server.rpc(), await server.rpc(numbered=True))
    await clients[0].push(event(1))
    cursor = {"_tag": "Some", "value": {"backendId": lost, "eventSequenceNumber": 1}}
    payload = {**push_payload(STORE, event(2, 1)), "backendId": {"_tag": "Some", "value": lost}}
    for client in clients:
        for procedure, asked in (("Push", payload), ("Pull", {"storeId": STORE, "cursor": cursor, "live": True})):
            request_id = client.new_id()
            await client.send(request(request_id, f"SyncWsRpc.{procedure}", asked))
            error = failure((await client.answer_to(request_id))[1])
            assert (error["_tag"], error["received"]) == ("BackendIdMismatchError", lost)


async def test_headers_of_the_request_may_be_missing_or_odd(server: TestedServer) -> None:
    """The reference answers these with 500 (SPEC section 7, 8)."""
    for headers in ({}, {"headers": None}, {"headers": {"a": 1}}, {"headers": "x"}):
        body = {"_tag": "Request", "id": "1", "tag": "SyncHttpRpc.Ping", "payload": {"storeId": STORE}, **headers}
        answer = await server.ask(post(URL, json.dumps(body).encode()))
        assert answer.json[0]["exit"]["value"] == {"_tag": "SyncMessage.Pong"}


@pytest.mark.parametrize("count", [1, 2, 64, 65, MESSAGES_PER_ARRAY_MAX])
async def test_every_request_of_an_array_gets_its_exit(server: TestedServer, count: int) -> None:
    body = json.dumps([request(n, "SyncHttpRpc.Ping", {"storeId": STORE}) for n in range(count)]).encode()
    answer = await server.ask(post(URL, body))
    assert [message["requestId"] for message in answer.json if message["_tag"] == "Exit"] == list(range(count))


async def test_an_array_of_too_many_messages_is_not_looked_into(server: TestedServer) -> None:
    body = b"[%b]" % b",".join([b"{}"] * (MESSAGES_PER_ARRAY_MAX + 1))
    answer = await server.ask(post(URL, body))
    (message,) = answer.json
    assert f"more than {MESSAGES_PER_ARRAY_MAX} messages" in message["defect"]["message"]
    client = await server.rpc()
    await client.send(body)
    assert await client.closed() == RULES[Kind.BAD_FRAME].close_code


async def test_the_requests_of_an_array_are_served_in_order_and_bad_ones_spoil_nothing(server: TestedServer) -> None:
    payloads: list[Any] = [
        request(1, "SyncHttpRpc.Push", push_payload(STORE, event(1))),
        request(2, "SyncHttpRpc.Push", push_payload(STORE, event(1.5))),
        {"_tag": "Bequest"},
        request(3, "SyncHttpRpc.Pull", {"storeId": STORE, "cursor": NO_CURSOR}),
    ]
    answer = await server.ask(post(URL, json.dumps(payloads).encode()))
    tags = [(message["_tag"], message.get("requestId")) for message in answer.json]
    assert tags == [("Exit", 1), ("Exit", 2), ("Defect", None), ("Chunk", 3), ("Exit", 3)]
    assert len(answer.json[3]["values"][0]["batch"]) == 1


async def test_a_client_that_leaves_in_the_middle_of_a_long_answer_is_no_fault_of_ours(server: TestedServer) -> None:
    writer = await server.rpc("long")
    for start in range(40):
        args = "x" * 200_000
        await writer.push(event(start + 1, start, args))
    for _ in range(3):
        wire = await server.wire()
        await wire.send(http_rpc("long", "1", "Pull", {"storeId": "long", "cursor": NO_CURSOR}))
        await wire.read(100_000)
        await wire.reset()
    wire = await server.wire()
    await wire.send(http_rpc("long", "1", "Pull", {"storeId": "long", "cursor": NO_CURSOR}))
    answer = await wire.read_answer("POST")
    assert answer.json[-1]["exit"] == {"_tag": "Success", "value": None}
    assert sum(len(message["values"][0]["batch"]) for message in answer.json[:-1]) == 40
    await trio.testing.wait_all_tasks_blocked()


def _check_headers(answer: HttpAnswer) -> None:
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"


async def _check_connection_works(wire: Any) -> None:
    answer = await wire.ask(http_rpc(STORE, "2", "Ping", {"storeId": STORE}))
    assert answer.json[0]["exit"]["value"] == {"_tag": "SyncMessage.Pong"}
