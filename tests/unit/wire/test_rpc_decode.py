"""What 0.4 and next clients send is understood, whatever its order and spelling (SPEC 3.2 to 3.4, 3.7, section 4)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync_trio.errors import Kind
from livesync_trio.wire import rpc
from livesync_trio.wire.messages import (
    EOF,
    PING,
    Ack,
    Generation,
    Interrupt,
    Invalid,
    Message,
    PingRequest,
    PullRequest,
    PushRequest,
    RequestId,
    Unintelligible,
)
from tests.unit.wire.json_texts import values
from tests.unit.wire.requests import event_text, kept_text, push_text


def decode(message: Any, transport: Any = "ws") -> Message:
    text = message if isinstance(message, str) else json.dumps(message)
    (decoded,) = rpc.decode(text.encode(), transport)
    return decoded


def request(procedure: str, payload: Any, request_id: Any = "7", **others: Any) -> dict[str, Any]:
    return {"_tag": "Request", "id": request_id, "tag": procedure, "payload": payload, "headers": [], **others}


def some(value: Any) -> dict[str, Any]:
    return {"_tag": "Some", "value": value}


NONE = {"_tag": "None"}


def test_pings_acks_interrupts_and_ends() -> None:
    assert decode('{"_tag":"Ping"}') is PING
    assert decode('{"_tag":"Eof"}') is EOF
    for tag, kind in (("Ack", Ack), ("Interrupt", Interrupt)):
        assert decode({"_tag": tag, "requestId": "7"}) == kind(RequestId(b'"7"', Generation.V4))
        assert decode({"_tag": tag, "requestId": 7}) == kind(RequestId(b"7", Generation.NEXT))


@pytest.mark.parametrize(
    ("json_text", "generation"),
    [('"7"', Generation.V4), ('"007"', Generation.V4), ('"-1"', Generation.V4), ("7", Generation.NEXT),
     ("0", Generation.NEXT), ("-1", Generation.NEXT), ("99999999999999999999", Generation.NEXT)],
)  # fmt: skip
def test_ids_are_kept_as_json_text_and_tell_the_generation(json_text: str, generation: Generation) -> None:
    text = json.dumps(request("SyncWsRpc.Pull", {"storeId": "a", "cursor": NONE}, "ID"))
    pull = decode(text.replace('"ID"', f" {json_text}\n"))
    assert isinstance(pull, PullRequest)
    assert pull.id == RequestId(json_text.encode(), generation)
    assert pull.id.text == json_text.strip('"')


@pytest.mark.parametrize(
    "json_text",
    ['""', '"x"', '" 7"', '"7.0"', '"+7"', '"1e3"', '"0x7"', '"\\u0037"', '"٧"', "7.0", "7e0", "1.5", "true", "null",
     "[7]", "{}", '"' + "7" * 21 + '"', "7" * 21, "007", "-"],
)  # fmt: skip
@pytest.mark.parametrize("member", ["id", "requestId"])
def test_other_ids_are_none(member: str, json_text: str) -> None:
    tag = "Request" if member == "id" else "Ack"
    assert isinstance(decode(f'{{"_tag":"{tag}","{member}":{json_text},"tag":"SyncWsRpc.Pull"}}'), Unintelligible)


@pytest.mark.parametrize(
    ("cursor", "after", "backend_id"),
    [
        (NONE, 0, None),
        (some({"backendId": "b", "eventSequenceNumber": 12}), 12, "b"),
        (some({"eventSequenceNumber": 12.0, "backendId": "", "more": 1}), 12, ""),
        ({"value": 7, "_tag": "None"}, 0, None),
    ],
)
@pytest.mark.parametrize("live", [True, False, None])
def test_pulls(cursor: Any, after: int, backend_id: str | None, live: bool | None) -> None:
    payload = {"storeId": "a/ö", "cursor": cursor, **({} if live is None else {"live": live})}
    expected = PullRequest(RequestId(b'"7"', Generation.V4), "a/ö", None, bool(live), after, backend_id)
    assert decode(request("SyncWsRpc.Pull", payload)) == expected
    expected = PullRequest(RequestId(b"7", Generation.NEXT), "a/ö", b"null", bool(live), after, backend_id)
    assert decode(request("SyncHttpRpc.Pull", {**payload, "payload": None}, 7), "http") == expected


@pytest.mark.parametrize(("backend_id", "expected"), [(NONE, None), (some("b"), "b"), (some(""), "")])
def test_pushes(backend_id: Any, expected: str | None) -> None:
    for transport, name in (("ws", "Ws"), ("http", "Http")):
        text = push_text([event_text(), event_text("2", "1", "[1]")], "7", name)
        (push,) = rpc.decode(text.replace('{"_tag":"None"}', json.dumps(backend_id)).encode(), transport)  # type: ignore[arg-type]
        assert isinstance(push, PushRequest)
        assert (push.id.json, push.store_id, push.payload, push.backend_id) == (b"7", "a", None, expected)
        assert [event.json for event in push.events] == [kept_text(), kept_text(2, 1, "[1]")]
        assert [(event.seq_num, event.parent_seq_num) for event in push.events] == [(1, 0), (2, 1)]


def test_an_empty_batch_is_a_push() -> None:
    push = decode(push_text([]))
    assert isinstance(push, PushRequest)
    assert push.events == ()


def test_an_http_ping_exists_over_http_only() -> None:
    expected = PingRequest(RequestId(b'"7"', Generation.V4), "a")
    assert decode(request("SyncHttpRpc.Ping", {"storeId": "a"}), "http") == expected
    assert decode(request("SyncHttpRpc.Ping", {"storeId": "a", "payload": {"x": 1}}), "http") == expected
    for procedure, transport in (("SyncHttpRpc.Ping", "ws"), ("SyncWsRpc.Ping", "ws"), ("SyncWsRpc.Ping", "http")):
        message = decode(request(procedure, {"storeId": "a"}), transport)
        assert isinstance(message, Invalid)
        assert message.kind is Kind.UNKNOWN_RPC


@pytest.mark.parametrize(("transport", "other"), [("ws", "Http"), ("http", "Ws")])
@pytest.mark.parametrize("procedure", ["Pull", "Push"])
def test_the_procedures_of_the_other_transport_are_unknown(transport: str, other: str, procedure: str) -> None:
    message = decode(request(f"Sync{other}Rpc.{procedure}", {"storeId": "a"}), transport)
    assert isinstance(message, Invalid)
    assert message.kind is Kind.UNKNOWN_RPC


def test_lone_surrogates_in_strings_are_taken() -> None:
    pull = decode(
        '{"_tag":"Request","id":"1","tag":"SyncWsRpc.Pull","payload":{"storeId":"\\ud83d","cursor":{"_tag":"None"}}}'
    )
    assert isinstance(pull, PullRequest)
    assert pull.store_id == "\ud83d"


def test_arrays_are_taken_apart_in_order() -> None:
    text = '[{"_tag":"Ping"},\n 7 , {"_tag":"Ack","requestId":3,"x":"\\ud83d"}, {"_tag":"Eof"}]'
    ping, bad, ack, eof = rpc.decode(b"\n " + text.encode(), "ws")
    assert ping is PING
    assert isinstance(bad, Unintelligible)
    assert ack == Ack(RequestId(b"3", Generation.NEXT))
    assert eof is EOF
    assert isinstance(decode("[]"), Unintelligible)
    assert isinstance(decode("[[]]"), Unintelligible)


@given(values)
def test_the_place_and_payload_of_a_request_in_an_array_change_nothing(payload: str) -> None:
    """Masked once for the array and once for the member: the text of `payload` and `args` survives both."""
    text = push_text([event_text(args=payload)]).replace('"batch"', f'"payload":{payload},"batch"')
    (alone,) = rpc.decode(text.encode(), "ws")
    listed = rpc.decode(f'[{{"_tag":"Ping","x":"\\udead \\u0ead"}},{text},{text}]'.encode(), "ws")
    assert listed == [PING, alone, alone]
    assert isinstance(alone, PushRequest)
    assert alone.payload == payload.encode()
    assert alone.events[0].json == kept_text(args=payload)


@pytest.mark.parametrize("depth", [10_000, 1_000_000])
@pytest.mark.parametrize(
    "inner", ["DEEP", '{"_tag":DEEP}', '{"_tag":"Ping","x":DEEP}', '{"_tag":"Ack","requestId":DEEP}']
)
def test_deep_nesting_is_a_value_and_no_exception(inner: str, depth: int) -> None:
    for deep in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, "[" * depth):
        for text in (inner, push_text([event_text(args=inner)])):
            for message in rpc.decode(text.replace("DEEP", deep).encode(), "ws"):
                assert isinstance(message, Invalid | Unintelligible)
                assert len(message.message) < 200


@given(st.binary(max_size=60))
def test_any_bytes_give_messages_and_no_exception(data: bytes) -> None:
    assert rpc.decode(data, "ws")
    assert rpc.decode(data, "http")


VALID = [
    push_text([event_text(args='{"a":"\\ud83d"}'), event_text("2", "1")]).encode(),
    json.dumps(
        request("SyncWsRpc.Pull", {"storeId": "a", "cursor": some({"backendId": "b", "eventSequenceNumber": 1})})
    ).encode(),
    b'[{"_tag":"Interrupt","requestId":7},{"_tag":"Ping"}]',
]


changes = st.tuples(
    st.integers(0, 200), st.integers(0, 3), st.binary(max_size=2) | st.sampled_from([b'"', b"{", b"]", b"\\ud8"])
)


@given(st.sampled_from(VALID), st.lists(changes, min_size=1, max_size=3))
def test_valid_messages_with_bytes_changed_give_messages_and_no_exception(
    text: bytes, several: list[tuple[int, int, bytes]]
) -> None:
    changed = bytearray(text)
    for at, removed, added in several:
        changed[at : at + removed] = added
    assert rpc.decode(bytes(changed), "ws")


def messages(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Messages, and parts of them, of the right shape around any content."""
    push = '{{"storeId":{},"batch":[{}],"backendId":{}}}'
    pull = '{{"storeId":{},"cursor":{},"live":{}}}'
    event = '{{"name":{},"seqNum":{},"parentSeqNum":{},"clientId":{},"sessionId":"s"}}'
    return st.one_of(
        st.builds('{{"_tag":"Request","id":{},"tag":"SyncWsRpc.Push","payload":{}}}'.format, inner, inner),
        st.builds('{{"_tag":"Request","id":"1","tag":"SyncWsRpc.Push","payload":{}}}'.format, inner),
        st.builds('{{"_tag":"Request","id":1,"tag":"SyncWsRpc.Pull","payload":{}}}'.format, inner),
        st.builds('{{"_tag":"Some","value":{}}}'.format, inner),
        st.builds(push.format, inner, inner, inner),
        st.builds(pull.format, inner, inner, inner),
        st.builds(event.format, inner, inner, inner, inner),
    )


@given(st.recursive(values, messages, max_leaves=6))
def test_messages_of_the_right_shape_and_any_content_give_messages_and_no_exception(text: str) -> None:
    assert rpc.decode(text.encode(), "ws")
