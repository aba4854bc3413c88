"""Complete WebSocket frames in a buffer, and the one kind that nearly all of them are (RFC 6455, 5.2).

Pure. Splits bytes into frames without judging them: whatever is not a plain text message goes to the `websockets`
library as it is, which knows the rules.
"""

from typing import Final

from websockets.speedups import apply_mask

_TEXT_AND_FINAL: Final = 0x81
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
_TWO_BYTES_FOLLOW, _EIGHT_BYTES_FOLLOW = 126, 127
_MASK_BYTES: Final = 4


def frame_end(buffer: bytes | bytearray, start: int) -> int | None:
    """Where the frame at `start` ends, which may be beyond the buffer; None when its head is not complete."""
    have = len(buffer) - start
    if have < 2:
        return None
    second = buffer[start + 1]
    length, head = second & _LENGTH, 2
    if length == _TWO_BYTES_FOLLOW:
        head = 4
    elif length == _EIGHT_BYTES_FOLLOW:
        head = 10
    if have < head:
        return None
    if head > 2:
        length = int.from_bytes(buffer[start + 2 : start + head], "big")
    return start + head + (_MASK_BYTES if second & _MASKED else 0) + length


def plain_text(buffer: bytes | bytearray, start: int, end: int) -> bytes | None:
    """The payload of a complete frame if it is a final, masked text frame with its length written as it should be.

    Args:
        buffer: holds the frame.
        start: its first byte.
        end: from `frame_end`, within the buffer.
    """
    second = buffer[start + 1]
    if buffer[start] != _TEXT_AND_FINAL or second < _MASKED:
        return None
    head, shortest = 2, 0
    if second & _LENGTH == _TWO_BYTES_FOLLOW:
        head, shortest = 4, 126
    elif second & _LENGTH == _EIGHT_BYTES_FOLLOW:
        head, shortest = 10, 2**16
    payload = start + head + _MASK_BYTES
    if end - payload < shortest:
        return None
    return apply_mask(buffer[payload:end], buffer[payload - _MASK_BYTES : payload])


def short_text(data: bytes) -> bytes | None:
    """The payload, if the bytes are exactly one final, masked text frame with a length of one byte."""
    head = 2 + _MASK_BYTES
    length = len(data) - head
    if 0 <= length < _TWO_BYTES_FOLLOW and data[0] == _TEXT_AND_FINAL and data[1] == _MASKED | length:
        return apply_mask(data[head:], data[2:head])
    return None


def text_head(size_bytes: int) -> bytes:
    """Head of an unmasked, final text frame with that much payload."""
    if size_bytes < _TWO_BYTES_FOLLOW:
        return bytes((_TEXT_AND_FINAL, size_bytes))
    if size_bytes < 2**16:
        return b"\x81\x7e" + size_bytes.to_bytes(2, "big")
    return b"\x81\x7f" + size_bytes.to_bytes(8, "big")
