"""0.3: what its clients send, and what they are sent, as SPEC 5.2 has it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync_trio.errors import Kind
from livesync_trio.model import StoredEvent
from livesync_trio.wire import v3
from livesync_trio.wire.events import v3_items
from livesync_trio.wire.messages import (
    AdminInfo,
    AdminReset,
    Generation,
    Invalid,
    Message,
    Ping,
    PullRequest,
    PushRequest,
    RequestId,
    Unintelligible,
)
from tests.unit.wire.json_texts import any_text, strings, values
from tests.unit.wire.requests import event_text, kept_text, v3_push_text

X = RequestId(b'"x"', Generation.V3)
AT = "2026-11-20T10:00:00.123Z"


def decode(message: Any) -> Message:
    return v3.decode((message if isinstance(message, str) else json.dumps(message)).encode())


def req(tag: str, **members: Any) -> dict[str, Any]:
    return {"_tag": f"WSMessage.{tag}", "requestId": "x", **members}


# --- reading ---------------------------------------------------------------------------------------------------------


def test_all_requests() -> None:
    assert decode({"_tag": "WSMessage.Ping", "requestId": "ping"}) == Ping(b'"ping"')
    assert decode(req("PullReq")) == PullRequest(X, None, None, True, 0, None)
    assert decode(req("PullReq", cursor=None)) == PullRequest(X, None, None, True, 0, None)
    assert decode(req("PullReq", cursor=12, more=1)) == PullRequest(X, None, None, True, 12, None)
    assert decode(req("AdminResetRoomReq", adminSecret="s")) == AdminReset(X, "s")
    assert decode(req("AdminInfoReq", adminSecret="")) == AdminInfo(X, "")
    push = decode(v3_push_text([event_text(), event_text("2", "1", None)]))
    assert isinstance(push, PushRequest)
    assert (push.id, push.store_id, push.payload, push.backend_id) == (X, None, None, None)
    assert [event.json for event in push.events] == [kept_text(), kept_text(2, 1)]
    assert decode(v3_push_text([])) == PushRequest(X, None, None, (), None)


@pytest.mark.parametrize(
    "message",
    [
        req("PushReq"),
        req("PushReq", batch=None),
        req("PushReq", batch=[{}]),
        req("PullReq", cursor="1"),
        req("PullReq", cursor=1.5),
        req("PullReq", cursor=2**53),
        req("AdminInfoReq"),
        req("AdminResetRoomReq", adminSecret=7),
    ],
    ids=lambda message: json.dumps(message)[:60],
)
def test_wrong_shapes_with_an_id_are_invalid(message: Any) -> None:
    invalid = decode(message)
    assert isinstance(invalid, Invalid)
    assert (invalid.id, invalid.kind) == (X, Kind.INVALID_REQUEST)
    assert message["_tag"] in invalid.message


@pytest.mark.parametrize(
    "text",
    ["", "x", "null", "[]", "{}", '{"_tag":"WSMessage.PullReq"}', '{"_tag":"WSMessage.PullReq","requestId":7}',
     '{"_tag":"WSMessage.PullReq","requestId":null}', '{"_tag":"WSMessage.Nope","requestId":"x"}',
     '{"_tag":"Ping","requestId":"x"}', '{"requestId":"x"}', '[{"_tag":"WSMessage.Ping","requestId":"x"}]',
     "[" * 100_000, '{"_tag":"WSMessage.Ping","requestId":' + "[" * 100_000],
    ids=lambda text: text[:50],
)  # fmt: skip
def test_what_has_no_tag_or_id_is_unintelligible(text: str) -> None:
    assert isinstance(decode(text), Unintelligible)


@given(st.binary(max_size=60))
def test_any_bytes_give_a_message_and_no_exception(data: bytes) -> None:
    v3.decode(data)


@given(
    st.builds(
        '{{"_tag":"WSMessage.{}","requestId":{},"batch":{},"cursor":{},"adminSecret":{}}}'.format,
        st.sampled_from(["Ping", "PullReq", "PushReq", "AdminInfoReq", "AdminResetRoomReq"]),
        values, values, values, values,
    )
)  # fmt: skip
def test_any_content_gives_a_message_and_no_exception(text: str) -> None:
    v3.decode(text.encode())


# --- writing ---------------------------------------------------------------------------------------------------------


@given(strings, values, st.integers(0, 2**53 - 1), st.sampled_from([b"pull", b"push"]))
def test_a_page(request_id: str, args: str, remaining: int, context: Any) -> None:
    event = StoredEvent(1, 1, kept_text(args=args), AT)
    message = v3.pull_res(v3_items([event, event]), remaining, context, request_id.encode())
    item = b'{"eventEncoded":%b,"metadata":{"_tag":"Some","value":{"createdAt":"%b"}}}' % (event.json, AT.encode())
    assert b"[" + item + b"," + item + b"]" in message
    read = json.loads(message)
    assert read.keys() == {"_tag", "batch", "requestId", "remaining"}
    assert (read["_tag"], len(read["batch"]), read["remaining"]) == ("WSMessage.PullRes", 2, remaining)
    assert read["requestId"] == {"context": context.decode(), "requestId": json.loads(request_id)}


def test_an_empty_page() -> None:
    assert json.loads(v3.pull_res(b"", 0, b"pull", b'"x"')) == {
        "_tag": "WSMessage.PullRes",
        "batch": [],
        "requestId": {"context": "pull", "requestId": "x"},
        "remaining": 0,
    }


@given(strings)
def test_short_answers_carry_the_id_as_it_came(text: str) -> None:
    request_id = RequestId(text.encode(), Generation.V3)
    for message, tag, more in (
        (v3.pong(Ping(text.encode())), "Pong", {}),
        (v3.push_ack(request_id), "PushAck", {}),
        (v3.error(request_id, "why"), "Error", {"message": "why"}),
        (v3.admin_reset_res(request_id), "AdminResetRoomRes", {}),
        (v3.admin_info_res(request_id, "ab" * 32), "AdminInfoRes", {"info": {"durableObjectId": "ab" * 32}}),
    ):
        assert b'"requestId":' + text.encode() in message
        assert json.loads(message) == {"_tag": f"WSMessage.{tag}", "requestId": json.loads(text), **more}


@given(any_text)
def test_any_message_can_be_sent_in_an_error(message: str) -> None:
    v3.error(X, message).decode()
    if message.isprintable():
        assert json.loads(v3.error(X, message))["message"] == message


def test_the_text_of_a_parent_mismatch_is_that_of_the_reference() -> None:
    assert v3.parent_mismatch(12, 5) == "Invalid parent event number. Received e5 but expected e12"


@pytest.mark.parametrize(("request_id", "told"), [(b'"a1"', "a1"), (b"7", "7"), (b"-1.5e3", "-1.5e3")])
def test_a_broadcast_carries_a_text_whatever_the_id_of_the_push_was(request_id: bytes, told: str) -> None:
    """Clients of generation next number their requests; those of 0.3 drop what has no text there."""
    assert json.loads(v3.broadcast(b"", request_id))["requestId"] == {"context": "push", "requestId": told}
