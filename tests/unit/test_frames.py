"""Frames that are cut out by hand are read as the library reads them, or left to it."""

import pytest
from websockets.frames import Frame, Opcode

from livesync_trio.transport.frames import frame_end, plain_text, short_text


def _frame(payload: bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True, mask: bool = True) -> bytes:
    return Frame(opcode, payload, fin=fin).serialize(mask=mask)


@pytest.mark.parametrize("length", [0, 1, 36, 124, 125, 126, 127, 131, 200])
def test_a_short_text_is_what_the_general_reader_makes_of_it(length: int) -> None:
    payload = bytes(ord("a") + index % 26 for index in range(length))
    frame = _frame(payload)
    assert plain_text(frame, 0, frame_end(frame, 0) or 0) == payload
    assert short_text(frame) == (payload if length < 126 else None)


@pytest.mark.parametrize(
    "data",
    [
        b"\x81",
        _frame(b"two") + _frame(b"frames"),
        _frame(b"the beginning of one")[:-1],
        _frame(b"one and a byte") + b"\x81",
        _frame(b"not masked", mask=False),
        _frame(b"a fragment", fin=False),
        _frame(b"binary", Opcode.BINARY),
        _frame(b"a ping", Opcode.PING),
    ],
    ids=["part", "two", "cut", "more", "bare", "fragment", "binary", "ping"],  # masks differ from run to run
)
def test_whatever_is_anything_else_is_left_to_it(data: bytes) -> None:
    assert short_text(data) is None
