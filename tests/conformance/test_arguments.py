"""``args`` of any shape survive unchanged: LiveStore compares events by content, so one reordered key is a conflict."""

from __future__ import annotations

import pytest

from .clients import SyncClient
from .events import event, flatten

# JSON texts that only JavaScript parses: Python's own reading would not keep them.
SHAPES = {
    "null": "null",
    "false": "false",
    "zero": "0",
    "minus-zero": "-0",
    "text": '"str"',
    "empty-text": '""',
    "empty-object": "{}",
    "empty-array": "[]",
    "deep": "[" * 60 + '{"a":[[]]}' + "]" * 60,
    "key-order": '{"z":1,"a":2,"m":{"y":0,"b":1}}',
    "odd-keys": '{"1":"one","10":"ten","":"empty","constructor":1,"toString":2,"$ref":3}',
    "big-numbers": "[1e21,1e300,5e-324,9007199254740991,9007199254740993,123456789012345678901]",
    "fractions": "[0.1,1.0,1.5,-0.25,1e-7,3.141592653589793]",
    "unicode": '"äöü 漢字 🎉 👨\u200d👩\u200d👧 e\u0301 \u2028\u2029 \ufeff"',
    "control-characters": r'"\u0000\u0001\b\t\n\f\r\u001f\u007f\\\"\/"',
    "lone-surrogates": r'{"high":"\ud83d","low":"\ude00x","key \ud800":1}',
    "html": '"</script><!-- \' -->"',
    "looks-like-protocol": '{"_tag":"Exit","requestId":"0","exit":{"_tag":"Success"}}',
}


@pytest.mark.parametrize("shape", SHAPES)
def test_args_come_back_as_they_were(client: SyncClient, shape: str) -> None:
    expected = client.normalize(SHAPES[shape])
    client.push([event(1, 0, args_text=SHAPES[shape])])
    [pulled] = flatten(client.pull())
    assert pulled.args == expected


def test_args_arrive_live_as_they_were(client: SyncClient) -> None:
    follower = client.follow()
    follower.wait_for_first_page()
    client.push([event(number, number - 1, args_text=text) for number, text in enumerate(SHAPES.values(), start=1)])
    follower.wait_for_numbers(range(1, len(SHAPES) + 1))
    assert [each.args for each in follower.events] == [client.normalize(text) for text in SHAPES.values()]


def test_undefined_args_come_back_as_null_live_and_later(client: SyncClient) -> None:
    follower = client.follow()
    follower.wait_for_first_page()
    client.push([event(1, 0, without_args=True)])
    follower.wait_for_numbers([1])
    [pulled] = flatten(client.pull())
    assert pulled.args == "null"
    assert follower.events[0].args == "null"


@pytest.mark.parametrize("text", ['"', "\\", "\u0000", "ё\ud83d", "𝔘 name/with spaces", ""], ids=ascii)
def test_names_and_ids_are_any_text(client: SyncClient, text: str) -> None:
    client.push([event(1, 0, name=text, clientId=text, sessionId=text)])
    [pulled] = flatten(client.pull())
    assert (pulled.name, pulled.client_id, pulled.session_id) == (text, text, text)
