"""What is sent to 0.4 and next, read as plain JSON, has exactly the shape of SPEC 3.2, 3.3, 3.7 and section 4."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync_trio.errors import RULES, BackendIdMismatch, Kind, Refusal, ServerAhead
from livesync_trio.model import StoredEvent
from livesync_trio.wire import rpc
from livesync_trio.wire.events import PAGE_OVERHEAD_BYTES, RPC_ITEM_OVERHEAD_BYTES, rpc_items
from livesync_trio.wire.messages import Generation, RequestId
from tests.unit.wire.json_texts import any_text, values
from tests.unit.wire.requests import kept_text

AT = "2026-11-20T10:00:00.123Z"
V4, NEXT = RequestId(b'"7"', Generation.V4), RequestId(b"7", Generation.NEXT)
IDS = [V4, NEXT, RequestId(b'"007"', Generation.V4), RequestId(b"-99999999999999999999", Generation.NEXT)]
ANY_ID = pytest.mark.parametrize("request_id", IDS, ids=lambda request_id: request_id.json.decode())


def stored(seq_num: int, args: str = "null") -> StoredEvent:
    return StoredEvent(seq_num, seq_num, kept_text(seq_num, seq_num - 1, args), AT)


def metadata() -> dict[str, Any]:
    return {"_tag": "Some", "value": {"_tag": "SyncMessage.SyncMetadata", "createdAt": AT}}


def read(message: bytes, request_id: RequestId) -> Any:
    """The message as plain JSON, after a look at its id: it must be the text that came, digit for digit."""
    assert b'"requestId":' + request_id.json + b"," in message
    return json.loads(message)


@ANY_ID
def test_a_chunk(request_id: RequestId) -> None:
    page = rpc.page(rpc_items([stored(1, '{"b":1,"a":[1.0]}'), stored(2)]), 3, "backend")
    args = {"b": 1, "a": [1.0]}
    event = {"name": "n", "args": args, "seqNum": 1, "parentSeqNum": 0, "clientId": "c", "sessionId": "s"}
    second = {**event, "args": None, "seqNum": 2, "parentSeqNum": 1}
    assert read(rpc.chunk(request_id, page), request_id) == {
        "_tag": "Chunk",
        "requestId": json.loads(request_id.json),
        "values": [
            {
                "batch": [
                    {"eventEncoded": event, "metadata": metadata()},
                    {"eventEncoded": second, "metadata": metadata()},
                ],
                "pageInfo": {"_tag": "MoreKnown", "remaining": 3},
                "backendId": "backend",
            }
        ],
    }


def test_an_empty_last_page() -> None:
    assert json.loads(rpc.page(b"", 0, 'b"\u2028\n')) == {
        "batch": [],
        "pageInfo": {"_tag": "NoMore"},
        "backendId": 'b"\u2028\n',
    }


@given(st.lists(values, max_size=4), st.integers(0, 2**53))
def test_pages_hold_the_events_byte_for_byte(several: list[str], remaining: int) -> None:
    events = [stored(n + 1, args) for n, args in enumerate(several)]
    page = rpc.page(rpc_items(events), remaining, "b")
    read_page = json.loads(page)
    assert [item["eventEncoded"]["seqNum"] for item in read_page["batch"]] == [event.seq_num for event in events]
    info = {"_tag": "MoreKnown", "remaining": remaining} if remaining else {"_tag": "NoMore"}
    assert read_page["pageInfo"] == info
    for event in events:
        assert b'{"eventEncoded":' + event.json + b',"metadata":{' in page


@given(st.lists(st.integers(0, 300), max_size=5))
def test_the_overheads_that_pages_are_cut_by_are_what_is_written(sizes: list[int]) -> None:
    events = [stored(n + 1, '"' + "x" * size + '"') for n, size in enumerate(sizes)]
    written = len(rpc.chunk(IDS[3], rpc.page(rpc_items(events), 2**53 - 1, "b" * 64)))
    texts = sum(len(event.json) for event in events)
    assert written <= texts + len(events) * RPC_ITEM_OVERHEAD_BYTES + PAGE_OVERHEAD_BYTES
    assert len(rpc.page(rpc_items(events), 0, "")) >= texts + len(events) * (RPC_ITEM_OVERHEAD_BYTES - 1)


@ANY_ID
def test_successes(request_id: RequestId) -> None:
    for message, value in (
        (rpc.pull_success(request_id), None),
        (rpc.push_success(request_id), {}),
        (rpc.ping_success(request_id), {"_tag": "SyncMessage.Pong"}),
    ):
        exit_ = {"_tag": "Success", "value": value}
        assert read(message, request_id) == {"_tag": "Exit", "requestId": json.loads(request_id.json), "exit": exit_}


def test_a_pong() -> None:
    assert json.loads(rpc.PONG) == {"_tag": "Pong"}


def failure(request_id: RequestId, cause: Any) -> Any:
    cause = [cause] if request_id.generation is Generation.NEXT else cause
    return {"_tag": "Exit", "requestId": json.loads(request_id.json), "exit": {"_tag": "Failure", "cause": cause}}


@ANY_ID
def test_errors(request_id: RequestId) -> None:
    for refusal, error in (
        (ServerAhead.of(12, -3), {"_tag": "ServerAheadError", "minimumExpectedNum": 12, "providedNum": -3}),
        (BackendIdMismatch.of("a", "b"), {"_tag": "BackendIdMismatchError", "expected": "a", "received": "b"}),
        (
            Refusal(Kind.HOOK_REFUSED, "no"),
            {"_tag": "UnknownError", "cause": {"name": "Error", "message": "no"}, "note": "hook-refused"},
        ),
    ):
        expected = failure(request_id, {"_tag": "Fail", "error": error})
        assert read(rpc.refused(request_id, refusal), request_id) == expected


@ANY_ID
@pytest.mark.parametrize("kind", [kind for kind in Kind if RULES[kind].wire_tag == "UnknownError"])
def test_every_kind_with_a_wire_tag_is_that_error(request_id: RequestId, kind: Kind) -> None:
    cause = {"name": "Error", "message": "why"}
    error = {"_tag": RULES[kind].wire_tag, "cause": cause, "note": kind.value}
    expected = failure(request_id, {"_tag": "Fail", "error": error})
    assert read(rpc.refused(request_id, Refusal(kind, "why")), request_id) == expected


def test_the_typed_errors_have_the_tags_of_the_table() -> None:
    for refusal in (ServerAhead.of(1, 2), BackendIdMismatch.of("a", "b")):
        error = json.loads(rpc.refused(V4, refusal))["exit"]["cause"]["error"]
        assert error["_tag"] == refusal.rule.wire_tag


@given(any_text, st.sampled_from(IDS))
def test_any_message_of_a_hook_can_be_sent(message: str, request_id: RequestId) -> None:
    """Lone surrogates included, which UTF-8 cannot carry."""
    for text in (rpc.refused(request_id, Refusal(Kind.HOOK_REFUSED, message)), rpc.defect(message)):
        text.decode()
        assert json.loads(text)["_tag"] in ("Exit", "Defect")
    if message.isprintable():
        cause = json.loads(rpc.refused(V4, Refusal(Kind.HOOK_REFUSED, message)))["exit"]["cause"]
        assert cause["error"]["cause"]["message"] == message


def test_interrupts() -> None:
    expected = failure(V4, {"_tag": "Interrupt", "fiberId": {"_tag": "None"}})
    assert json.loads(rpc.interrupted(V4)) == expected
    assert json.loads(rpc.interrupted(NEXT)) == failure(NEXT, {"_tag": "Interrupt", "fiberId": None})


def test_a_defect() -> None:
    assert json.loads(rpc.defect("x")) == {"_tag": "Defect", "defect": {"name": "Error", "message": "x"}}
