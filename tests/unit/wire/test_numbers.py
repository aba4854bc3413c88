"""Sequence numbers are the integers that JavaScript holds exactly, however they are written (SPEC section 1)."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from livesync_trio.errors import Kind
from livesync_trio.wire.events import integer
from livesync_trio.wire.messages import Invalid, PullRequest, PushRequest
from livesync_trio.wire.reading import Unreadable
from tests.unit.wire.json_texts import is_safe_integer, numbers
from tests.unit.wire.requests import event_text, read_everywhere

MAX = 2**53 - 1


@given(numbers)
@example("9007199254740991")
@example("9007199254740992")
@example("-9007199254740991")
@example("-9007199254740992")
@example("9007199254740991.0")
@example("9007199254740991.4")
@example("9007199254740991.6")
@example("-0.0")
@example("1.5")
@example("1e-400")
@example("1e400")
@example("1e16")
@example("0.1e1")
@example("9" * 400)
def test_exactly_the_safe_integers_are_taken(number: str) -> None:
    for text in (event_text(seq_num=number), event_text(parent=number)):
        for message in read_everywhere([text]):
            if is_safe_integer(number):
                assert isinstance(message, PushRequest)
                event = message.events[0]
                assert int(float(number)) in (event.seq_num, event.parent_seq_num)
                assert type(event.seq_num) is type(event.parent_seq_num) is int
                assert b"%d" % int(float(number)) in event.json
            else:
                assert isinstance(message, Invalid)
                assert message.kind is Kind.INVALID_REQUEST


@pytest.mark.parametrize("value", ['"1"', "true", "false", "null", "[]", "{}", "[1]", '""', "NaN"])
@pytest.mark.parametrize("member", ["seqNum", "parentSeqNum"])
def test_what_is_no_number_is_refused(member: str, value: str) -> None:
    text = event_text(seq_num=value) if member == "seqNum" else event_text(parent=value)
    for message in read_everywhere([text]):
        assert not isinstance(message, PushRequest)


def test_the_message_names_the_place() -> None:
    for message in read_everywhere([event_text(), event_text(seq_num="1.5")]):
        assert isinstance(message, Invalid)
        assert "$.batch[1].seqNum" in message.message


@given(st.one_of(st.integers(), st.floats()))
def test_integer_is_exact_or_refuses(number: int | float) -> None:
    safe = isinstance(number, int) or number.is_integer()
    if safe and abs(number) <= MAX:
        assert integer(number, "$") == number
        assert type(integer(number, "$")) is int
    else:
        with pytest.raises(Unreadable, match="integer"):
            integer(number, "$")


@given(numbers)
def test_cursors_of_0_3_follow_the_same_rule(number: str) -> None:
    from livesync_trio.wire import v3

    message = v3.decode(f'{{"_tag":"WSMessage.PullReq","requestId":"x","cursor":{number}}}'.encode())
    if is_safe_integer(number):
        assert isinstance(message, PullRequest)
        assert message.after == max(0.0, float(number))
    else:
        assert isinstance(message, Invalid)


@given(numbers)
def test_cursors_of_0_4_follow_the_same_rule(number: str) -> None:
    from livesync_trio.wire import rpc

    cursor = f'{{"_tag":"Some","value":{{"backendId":"b","eventSequenceNumber":{number}}}}}'
    payload = f'{{"storeId":"a","cursor":{cursor},"live":true}}'
    (message,) = rpc.decode(f'{{"_tag":"Request","id":"1","tag":"SyncWsRpc.Pull","payload":{payload}}}'.encode(), "ws")
    if is_safe_integer(number):
        assert isinstance(message, PullRequest)
        assert (message.after, message.backend_id, message.live) == (max(0.0, float(number)), "b", True)
    else:
        assert isinstance(message, Invalid)
