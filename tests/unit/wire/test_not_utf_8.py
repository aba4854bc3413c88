"""What is not UTF-8 is answered like everything else that cannot be read (`rpc.decode` never raises)."""

from __future__ import annotations

import pytest

from livesync_trio.errors import Kind
from livesync_trio.wire import rpc
from livesync_trio.wire.messages import Invalid

CURSOR = b'{"_tag":"Some","value":{"backendId":"%b","eventSequenceNumber":1}}'
PULL = b'{"_tag":"Request","id":"1","tag":"SyncWsRpc.Pull","payload":{"storeId":"%b","cursor":' + CURSOR + b"}}"
KNOWN = b'{"_tag":"Some","value":"%b"}'
PUSH = (
    b'{"_tag":"Request","id":"1","tag":"SyncWsRpc.Push","payload":{"storeId":"%b","batch":[],"backendId":'
    + KNOWN
    + b"}}"
)


@pytest.mark.parametrize("bad", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\\ud800\xff"])
@pytest.mark.parametrize("shape", [PULL, PUSH], ids=["pull", "push"])
def test_a_member_that_is_not_utf_8_is_an_invalid_request(shape: bytes, bad: bytes) -> None:
    for members in ((bad, b"b"), (b"s", bad)):
        (message,) = rpc.decode(shape % members, "ws")
        assert isinstance(message, Invalid)
        assert (message.kind, message.id.text) == (Kind.INVALID_REQUEST, "1")


@pytest.mark.parametrize(
    ("beginning", "found"),
    [
        (b'{"_tag":"Request","id":"7","tag":"SyncHttpRpc.Push","payload":{"a', ["7"]),
        (b' [ { "_tag" : "Request" , "id" : 12 , "tag', ["12"]),
        (b'[{"_tag":"Request","id":"7', []),
        (b'{"id":"7","_tag":"Request",', []),
        (b'{"_tag":"Ack","id":"7",', []),
        (b"", []),
        (b"\xff", []),
    ],
)
def test_the_first_id_is_found_in_the_beginning_of_a_text(beginning: bytes, found: list[str]) -> None:
    assert [each.text for each in rpc.first_id(beginning)] == found
