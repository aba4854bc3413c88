"""`args` and the strings of an event are kept byte for byte as they came, in every generation (SPEC section 1)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.wire.json_texts import blanks, strings, values
from tests.unit.wire.requests import event_text, events_everywhere, kept_text, push_text, v3_push_text

ODD = {
    "null": "null",
    "big integers": "123456789012345678901234567890",
    "minus zero": "-0",
    "a float that is an integer": "1.0",
    "exponents": "[1e21,1E+21,1e-7]",
    "beyond a double": "1e999",
    "keys twice": '{"a":1,"a":2}',
    "keys in disorder": '{"b":1,"a":2,"10":3,"9":4}',
    "blanks inside": '{ "a" :\t1 ,\r\n"b":[ ] }',
    "U+0000": '"\\u0000"',
    "U+2028": '"\u2028\\u2028"',
    "lone surrogates in both cases": '"\\uD83D \\ud83d \\uDe00"',
    "an escaped backslash before ud83d": '"\\\\ud83d"',
    "an escaped backslash beside a lone surrogate": '"\\\\ud83d\\ud83d\\\\\\ud83d"',
    "private use, raw and escaped": '"\ue000\\ue000\\uE83D\\uF8FF\\ud83d"',
    "solidus": '"\\/ /"',
    "empty things": '[[],{},"",[{}]]',
    "names of an event's members": '{"seqNum":5,"args":{"args":"args"},"batch":[]}',
    "an integer of 5,000 digits": "9" * 5_000,
}


@pytest.mark.parametrize("args", ODD.values(), ids=ODD)
def test_odd_args_are_kept(args: str) -> None:
    for events in events_everywhere([event_text(args=args)]):
        assert [event.json for event in events] == [kept_text(args=args)]


@given(values, strings, strings, strings)
def test_any_args_and_strings_are_kept(args: str, name: str, client: str, session: str) -> None:
    text = event_text(args=args, name=name, client=client, session=session)
    expected = kept_text(args=args, name=name, client=client, session=session)
    for events in events_everywhere([text]):
        assert [event.json for event in events] == [expected]


@given(st.lists(values, min_size=2, max_size=4))
def test_the_events_of_a_batch_do_not_mix(several: list[str]) -> None:
    """Half pairs in one event, stand-ins in another, whole pairs in a third."""
    texts = [event_text(str(n + 1), str(n), args) for n, args in enumerate(several)]
    expected = [kept_text(n + 1, n, args) for n, args in enumerate(several)]
    for events in events_everywhere(texts):
        assert [event.json for event in events] == expected


@given(
    values,
    blanks,
    blanks,
    st.permutations(["name", "args", "seqNum", "parentSeqNum", "clientId", "sessionId", "extra"]),
)
def test_order_blanks_and_members_nobody_knows_are_dropped(
    args: str, before: str, after: str, order: list[str]
) -> None:
    members = {"name": '"n"', "args": args, "seqNum": "1", "parentSeqNum": "0", "clientId": '"c"', "sessionId": '"s"'}
    members["extra"] = '{"args":[1],"\\ud83d":"\\udfff"}'
    text = "{" + ",".join(f'{before}"{name}"{after}:{before}{members[name]}{after}' for name in order) + "}"
    for events in events_everywhere([text]):
        assert [event.json for event in events] == [kept_text(args=args)]


@given(values, values)
def test_of_args_given_twice_the_last_counts_as_in_javascript(first: str, last: str) -> None:
    text = event_text(args=last).replace("{", f'{{"args":{first},', 1)
    for events in events_everywhere([text]):
        assert [event.json for event in events] == [kept_text(args=last)]


def test_absent_args_become_null() -> None:
    for events in events_everywhere([event_text(args=None)]):
        assert [event.json for event in events] == [kept_text(args="null")]


def test_escaped_names_of_members_are_understood() -> None:
    text = event_text(args="[1]").replace('"args"', '"\\u0061r\\u0067s"').replace('"seqNum"', '"seq\\u004eum"')
    for events in events_everywhere([text]):
        assert [event.json for event in events] == [kept_text(args="[1]")]


@given(values)
def test_what_is_kept_does_not_hang_on_the_message_it_came_in(args: str) -> None:
    """`Raw` of msgspec is a view: the text must be a copy, of which nothing changes when the message goes."""
    message = bytearray(push_text([event_text(args=args)]).encode())
    from livesync_trio.wire import rpc
    from livesync_trio.wire.messages import PushRequest

    (push,) = rpc.decode(bytes(message), "ws")
    assert isinstance(push, PushRequest)
    assert type(push.events[0].json) is bytes
    assert push.events[0].json == kept_text(args=args)


@given(values)
def test_the_kept_text_means_what_was_sent(args: str) -> None:
    """Read as plain JSON: the six members in their order and nothing else."""
    (events, *_) = events_everywhere([event_text(args=args)])
    members = json.loads(events[0].json, object_pairs_hook=list)
    assert [name for name, _ in members] == ["name", "args", "seqNum", "parentSeqNum", "clientId", "sessionId"]
    assert repr(members[1][1]) == repr(json.loads(args, object_pairs_hook=list))


def test_an_application_payload_is_kept_too() -> None:
    from livesync_trio.wire import rpc
    from livesync_trio.wire.messages import PushRequest

    for payload in ('{"b":"\\ud83d","a":1.0}', "null", '"\\\\ud83d"', "[1e999]"):
        text = push_text([event_text()]).replace('"batch"', f'"payload":{payload},"batch"')
        (push,) = rpc.decode(text.encode(), "ws")
        assert isinstance(push, PushRequest)
        assert push.payload == payload.encode()
    (push,) = rpc.decode(push_text([event_text()]).encode(), "ws")
    assert isinstance(push, PushRequest)
    assert push.payload is None


def test_v3_ids_are_kept() -> None:
    from livesync_trio.wire import v3
    from livesync_trio.wire.messages import PushRequest

    for request_id in ('"x"', '"\\ud83d"', '"\\u0078"', '""', '"ö\u2028"'):
        push = v3.decode(v3_push_text([event_text()], request_id).encode())
        assert isinstance(push, PushRequest)
        assert push.id.json == request_id.encode()
