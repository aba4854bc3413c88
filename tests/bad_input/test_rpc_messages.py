"""Messages of 0.4 and next that are not what they should be: refused by id where there is one, else the socket closes.

The reference goes silent for ever, or kills every request of the client, on most of these (SPEC section 7, 6 and 7).
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from livesync_trio.errors import RULES, Kind

from .clients import NO_CURSOR, RpcClient, event, pull, push, push_payload, reason, request
from .servers import STORE, TestedServer
from .wires import Ended

UNINTELLIGIBLE = {
    "nothing": b"",
    "blanks": b" \n ",
    "a cut object": b'{"_tag":"Ping"',
    "no JSON": b"hello",
    "single quotes": b"{'_tag':'Ping'}",
    "a byte order mark": b'\xef\xbb\xbf{"_tag":"Ping"}',
    "two objects": b'{"_tag":"Ping"}{"_tag":"Ping"}',
    "a trailing comma": b'{"_tag":"Ping",}',
    "NaN": b'{"_tag":"Ping","x":NaN}',
    "a raw control character": b'{"_tag":"Ping","x":"\x01"}',
    "a bad escape": b'{"_tag":"Ping","x":"\\x41"}',
    "null": b"null",
    "true": b"true",
    "a number": b"7",
    "a string": b'"Ping"',
    "an empty object": b"{}",
    "an empty array": b"[]",
    "an array of a number": b"[7]",
    "an array of an array": b'[[{"_tag":"Ping"}]]',
    "a cut array": b'[{"_tag":"Ping"}',
    "a tag that is no string": b'{"_tag":7}',
    "a tag that is null": b'{"_tag":null}',
    "an unknown tag": b'{"_tag":"Pang"}',
    "a tag of the server": b'{"_tag":"Pong"}',
    "a tag of another generation": b'{"_tag":"WSMessage.Ping","requestId":"ping"}',
    "a tag in the wrong case": b'{"_tag":"ping"}',
    "a lone surrogate for a tag": b'{"_tag":"\\ud83d"}',
    "a procedure that is no string": b'{"_tag":"Request","id":"1","tag":7,"payload":{}}',
}


@pytest.mark.parametrize("message", UNINTELLIGIBLE.values(), ids=UNINTELLIGIBLE)
async def test_what_cannot_be_understood_closes_the_socket(server: TestedServer, message: bytes) -> None:
    client = await server.rpc()
    await client.send(message)
    assert await client.closed() == RULES[Kind.BAD_FRAME].close_code == 1008
    assert client.close_reason
    assert [line["kind"] for line in server.logged("connection closed")] == [Kind.BAD_FRAME]


ODD_IDS: list[Any] = [None, True, "", " ", "x", "7 ", "+7", "1.0", "1e3", "0x7", "٧", "7" * 21, 1.5, [], {}, ["7"]]


@pytest.mark.parametrize("odd_id", ODD_IDS, ids=repr)
@pytest.mark.parametrize("tag", ["Request", "Ack", "Interrupt"])
async def test_an_odd_id_closes_the_socket(server: TestedServer, tag: str, odd_id: Any) -> None:
    client = await server.rpc()
    message = pull(odd_id, STORE) if tag == "Request" else {"_tag": tag, "requestId": odd_id}
    await client.send(message)
    assert await client.closed() == RULES[Kind.BAD_FRAME].close_code


@pytest.mark.parametrize("tag", ["Request", "Ack", "Interrupt"])
async def test_a_missing_id_closes_the_socket(server: TestedServer, tag: str) -> None:
    client = await server.rpc()
    await client.send({"_tag": tag, "tag": "SyncWsRpc.Pull", "payload": {}})
    assert await client.closed() == RULES[Kind.BAD_FRAME].close_code


@pytest.mark.parametrize("good_id", ["0", "007", "-7", "99999999999999999999", 0, -7, 99999999999999999999], ids=repr)
async def test_any_decimal_integer_is_an_id_and_comes_back_as_it_was(server: TestedServer, good_id: Any) -> None:
    client = await server.rpc(numbered=isinstance(good_id, int))
    await client.send(pull(good_id, STORE))
    chunk, exit_ = await client.receive(), await client.receive()
    assert (chunk["_tag"], exit_["_tag"]) == ("Chunk", "Exit")
    for answer in (chunk, exit_):
        assert answer["requestId"] == good_id
        assert type(answer["requestId"]) is type(good_id)
    await client.check_works()


def _pull(**changes: Any) -> Any:
    return "SyncWsRpc.Pull", {"storeId": STORE, "cursor": NO_CURSOR, "live": False, **changes}


def _cursor(**changes: Any) -> Any:
    return _pull(cursor={"_tag": "Some", "value": {"backendId": "b", "eventSequenceNumber": 1, **changes}})


def _push(**changes: Any) -> Any:
    return "SyncWsRpc.Push", {**push_payload(STORE, event()), **changes}


def _event(**changes: Any) -> Any:
    return _push(batch=[{**event(), **changes}])


def _without(member: str) -> Any:
    return _push(batch=[{name: value for name, value in event().items() if name != member}])


INVALID_PAYLOADS = {
    "pull with null": ("SyncWsRpc.Pull", None),
    "pull with a list": ("SyncWsRpc.Pull", []),
    "pull with a string": ("SyncWsRpc.Pull", "x"),
    "pull with nothing in it": ("SyncWsRpc.Pull", {}),
    "pull without a cursor": ("SyncWsRpc.Pull", {"storeId": STORE, "live": False}),
    "pull of a store that is a number": _pull(storeId=7),
    "pull of a store that is null": _pull(storeId=None),
    "pull that is live by a string": _pull(live="true"),
    "pull that is live by a number": _pull(live=1),
    "pull that is live by null": _pull(live=None),
    "cursor null": _pull(cursor=None),
    "cursor a number": _pull(cursor=7),
    "cursor without a tag": _pull(cursor={}),
    "cursor with an unknown tag": _pull(cursor={"_tag": "Maybe"}),
    "cursor without a value": _pull(cursor={"_tag": "Some"}),
    "cursor with null": _pull(cursor={"_tag": "Some", "value": None}),
    "cursor without a number": _pull(cursor={"_tag": "Some", "value": {"backendId": "b"}}),
    "cursor of a string": _cursor(eventSequenceNumber="1"),
    "cursor of a fraction": _cursor(eventSequenceNumber=1.5),
    "cursor of true": _cursor(eventSequenceNumber=True),
    "cursor of null": _cursor(eventSequenceNumber=None),
    "cursor of 2^53": _cursor(eventSequenceNumber=2**53),
    "cursor of -2^53": _cursor(eventSequenceNumber=-(2**53)),
    "cursor of an identity that is a number": _cursor(backendId=7),
    "push with null": ("SyncWsRpc.Push", None),
    "push without a batch": ("SyncWsRpc.Push", {"storeId": STORE, "backendId": NO_CURSOR}),
    "push of null": _push(batch=None),
    "push of an object": _push(batch={}),
    "push of numbers": _push(batch=[1]),
    "push of nulls": _push(batch=[None]),
    "push without an identity": ("SyncWsRpc.Push", {"storeId": STORE, "batch": [event()]}),
    "push with identity null": _push(backendId=None),
    "push with identity a string": _push(backendId="b"),
    "push with identity a number": _push(backendId={"_tag": "Some", "value": 7}),
    "push with identity without a value": _push(backendId={"_tag": "Some"}),
    **{f"event without {member}": _without(member) for member in event() if member != "args"},
    **{f"event with {member} null": _event(**{member: None}) for member in event() if member != "args"},
    **{f"event with {member} a list": _event(**{member: [1]}) for member in event() if member != "args"},
    **{f"event with {member} a number": _event(**{member: 1}) for member in ("name", "clientId", "sessionId")},
    **{f"event with {member} a string": _event(**{member: "1"}) for member in ("seqNum", "parentSeqNum")},
    **{f"event with {member} a fraction": _event(**{member: 1.5}) for member in ("seqNum", "parentSeqNum")},
    **{f"event with {member} true": _event(**{member: True}) for member in ("seqNum", "parentSeqNum")},
    "event with seqNum 2^53": _event(seqNum=2**53),
    "event with seqNum 2^64": _event(seqNum=2**64),
    "event with parentSeqNum -2^53": _event(parentSeqNum=-(2**53)),
    "event with a number of a thousand digits": _event(seqNum=10**1000),
}


@pytest.mark.parametrize("numbered", [False, True], ids=["0.4", "next"])
@pytest.mark.parametrize(("procedure", "payload"), INVALID_PAYLOADS.values(), ids=INVALID_PAYLOADS)
async def test_a_payload_of_the_wrong_shape_is_refused_by_id_and_the_connection_goes_on(
    server: TestedServer, procedure: str, payload: Any, numbered: bool
) -> None:
    client = await server.rpc(numbered=numbered)
    request_id = client.new_id()
    await client.send(request(request_id, procedure, payload))
    _, exit_ = await client.answer_to(request_id)
    kind, message = reason(exit_)
    assert kind == Kind.INVALID_REQUEST
    assert procedure in message
    await client.check_works()


@pytest.mark.parametrize("exponent", ["1e999", "-1e999", "1e16", "123456789012345678901234567890"])
@pytest.mark.parametrize("member", ["seqNum", "parentSeqNum"])
async def test_a_number_beyond_what_javascript_holds_is_refused(
    server: TestedServer, member: str, exponent: str
) -> None:
    client = await server.rpc()
    text = json.dumps(push("1", STORE, event("NUMBER", 5) if member == "seqNum" else event(5, "NUMBER")))
    await client.send(text.replace('"NUMBER"', exponent))
    _, exit_ = await client.answer_to("1")
    assert reason(exit_)[0] == Kind.INVALID_REQUEST
    await client.check_works()


@pytest.mark.parametrize("numbered", [False, True], ids=["0.4", "next"])
@pytest.mark.parametrize(
    "tag",
    ["", "Pull", ".Pull", "SyncWsRpc", "SyncWsRpc.", "SyncWsRpc.pull", "SyncWsRpc.Drop", "SyncHttpRpc.Pull",
     "SyncWsRpc.Ping", "SyncHttpRpc.Ping", "SyncWsRpc.Pull.", "\ud83d", "x" * 10_000],
    ids=lambda tag: ascii(tag[:20]),
)  # fmt: skip
async def test_an_unknown_procedure_is_refused_by_id_and_the_connection_goes_on(
    server: TestedServer, tag: str, numbered: bool
) -> None:
    client = await server.rpc(numbered=numbered)
    request_id = client.new_id()
    await client.send(request(request_id, tag, pull("1", STORE)["payload"]))
    _, exit_ = await client.answer_to(request_id)
    kind, message = reason(exit_)
    assert kind == Kind.UNKNOWN_RPC
    assert len(message) < 200
    await client.check_works()


async def test_a_request_without_a_procedure_is_refused_by_id(server: TestedServer) -> None:
    client = await server.rpc()
    await client.send({"_tag": "Request", "id": "3", "payload": {}})
    _, exit_ = await client.answer_to("3")
    assert reason(exit_)[0] == Kind.UNKNOWN_RPC
    await client.check_works()


@pytest.mark.parametrize("numbered", [False, True], ids=["0.4", "next"])
@pytest.mark.parametrize("other", ["other", "", STORE + " ", STORE.upper(), STORE + "\0", "\ud83d"], ids=ascii)
async def test_a_request_that_names_another_store_is_refused(server: TestedServer, other: str, numbered: bool) -> None:
    client = await server.rpc(numbered=numbered)
    for make in (pull, lambda request_id, store: push(request_id, store, event())):
        request_id = client.new_id()
        await client.send(make(request_id, other))
        _, exit_ = await client.answer_to(request_id)
        assert reason(exit_)[0] == Kind.STORE_MISMATCH
    assert await client.pull() == []
    await client.check_works()


@pytest.mark.parametrize("numbered", [False, True], ids=["0.4", "next"])
async def test_reusing_the_id_of_a_live_pull_closes_the_socket(server: TestedServer, numbered: bool) -> None:
    client = await server.rpc(numbered=numbered)
    request_id = client.new_id()
    await client.send(pull(request_id, STORE, live=True))
    assert (await client.receive())["_tag"] == "Chunk"
    await client.send(pull(request_id, STORE, live=True))
    assert await client.closed() == RULES[Kind.ID_IN_USE].close_code == 1008


async def test_the_id_of_a_finished_request_may_be_used_again(server: TestedServer) -> None:
    client = await server.rpc()
    for _ in range(3):
        await client.send(pull("7", STORE))
        pages, exit_ = await client.answer_to("7")
        assert len(pages) == 1
        assert exit_["exit"]["_tag"] == "Success"
    await client.check_works()


@pytest.mark.parametrize("numbered", [False, True], ids=["0.4", "next"])
async def test_more_open_pulls_than_allowed_are_refused_and_the_open_ones_go_on(
    server: TestedServer, numbered: bool
) -> None:
    client, other = await server.rpc(numbered=numbered), await server.rpc()
    ids = [client.new_id() for _ in range(40)]
    await client.send(*(pull(request_id, STORE, live=True) for request_id in ids))
    opened, refused = [], []
    for _ in ids:
        message = await client.receive()
        if message["_tag"] == "Chunk":
            opened.append(message["requestId"])
        else:
            assert reason(message)[0] == Kind.TOO_MANY_REQUESTS
            refused.append(message["requestId"])
    assert sorted(opened) == ids[:32]
    assert sorted(refused) == ids[32:]
    await other.push(event(1))
    assert sorted([(await client.receive())["requestId"] for _ in opened]) == opened


async def test_extra_members_and_any_order_and_spelling_are_fine(server: TestedServer) -> None:
    client = await server.rpc()
    await client.send(b' \n{"x":[{}],"\\u005ftag" : "Ping" , "y":null}\r\n')
    assert await client.receive() == {"_tag": "Pong"}
    for message in ({"_tag": "Eof"}, {"_tag": "Eof", "requestId": {}}):
        await client.send(message)
    await client.send({**pull("5", STORE), "headers": {"odd": 1}, "traceId": 5, "spanId": None, "sampled": "x"})
    assert (await client.answer_to("5"))[1]["exit"]["_tag"] == "Success"
    await client.check_works()


async def test_an_array_of_messages_is_taken_apart(server: TestedServer) -> None:
    client = await server.rpc(numbered=True)
    await client.send([{"_tag": "Ping"}, pull(5, STORE), push(6, STORE, event(1)), {"_tag": "Ping"}])
    tags = [(await client.receive())["_tag"] for _ in range(5)]
    assert sorted(tags) == ["Chunk", "Exit", "Exit", "Pong", "Pong"]
    await client.check_works()


async def test_nothing_behind_a_message_that_closes_the_socket_is_acted_on(server: TestedServer) -> None:
    client: RpcClient = await server.rpc()
    await client.send(b"garbage", push("1", STORE, event(1)))
    with pytest.raises(Ended):
        await client.receive()
    assert await (await server.rpc()).pull() == []
