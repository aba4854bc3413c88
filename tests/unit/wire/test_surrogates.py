r"""Escapes of surrogates are swapped for the reading and back for the keeping, and nothing else is touched."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync_trio.wire.reading import mask
from tests.unit.wire.json_texts import has_lone_surrogate, values

STAND_INS = "0123456789abcefABCEF"


@given(values.filter(has_lone_surrogate))
def test_a_document_is_masked_when_it_holds_half_a_pair(text: str) -> None:
    assert mask(text.encode()) is not None


@given(values.filter(has_lone_surrogate))
def test_a_masked_document_can_be_read_and_is_as_long_as_before(text: str) -> None:
    masked = mask(text.encode())
    assert masked is not None
    assert len(masked[0]) == len(text.encode())
    msgspec.json.decode(masked[0], type=msgspec.Raw)
    assert not has_lone_surrogate(masked[0].decode())


@given(values.filter(has_lone_surrogate), st.data())
def test_every_piece_of_a_masked_document_can_be_restored(text: str, data: st.DataObject) -> None:
    """Pieces end between two characters of the text, an escape being one character."""
    source = text.encode()
    masked = mask(source)
    assert masked is not None
    borders = [match.start() for match in re.finditer(rb"\\u[0-9a-fA-F]{4}|\\.|.", source, re.DOTALL)] + [len(source)]
    start, end = sorted((data.draw(st.sampled_from(borders)), data.draw(st.sampled_from(borders))))
    assert masked[1](masked[0][start:end]) == source[start:end]
    assert masked[1](masked[0]) == source


@pytest.mark.parametrize(
    ("text", "surrogates"),
    [
        (rb'"\ud83d"', True),
        (rb'"\uD83D"', True),
        (rb'"\ude00"', True),
        (rb'"\udfFf"', True),
        (rb'"\ud83d\ude00"', True),
        (rb'"\uD83D\uDE00"', True),
        (rb'"\ud83D\uDe00"', True),
        (rb'"\ude00\ud83d"', True),
        (rb'"\ud83d\ud83d\ude00"', True),
        (rb'"\ud83d\ude00\ude00"', True),
        (rb'"\ud83d \ude00"', True),
        (rb'"\ud83d","\ude00"', True),
        (rb'"\\ud83d"', False),
        (rb'"\\\ud83d"', True),
        (rb'"\\\\ud83d"', False),
        (rb'"\ud83d\\ude00"', True),
        (rb'"\ud7ff\ue000"', True),
        (rb'"\\"', False),
        (b'"ud83d"', False),
        (b"", False),
        (b'"\\', False),
        (rb'"\ud83', True),
    ],
)
def test_what_is_swapped_and_what_only_looks_like_it(text: bytes, surrogates: bool) -> None:
    masked = mask(text)
    assert (masked is not None) == surrogates
    if masked is not None:
        assert masked[0] != text
        assert masked[1](masked[0]) == text


@given(st.permutations(STAND_INS), st.integers(0, 18), st.sampled_from("89abcdefABCDEF"), st.booleans())
def test_escapes_that_might_be_taken_for_a_swap_are_left_alone(
    order: list[str], count: int, second: str, escaped: bool
) -> None:
    """As long as two letters are free, whatever the document contains, in whatever disguise."""
    backslash = "\\\\" if escaped else "\\"
    taken = "".join(f"{backslash}u{letter}{second}00" for letter in order[:count])
    source = f'["\\ud83d \\uDFFF","{taken}"]'.encode()
    masked = mask(source)
    assert masked is not None
    assert masked[1](masked[0]) == source
    pieces = msgspec.json.decode(masked[0], type=list[msgspec.Raw])
    assert [masked[1](bytes(piece)) for piece in pieces] == [rb'"\ud83d \uDFFF"', f'"{taken}"'.encode()]


def test_a_document_that_uses_every_stand_in_is_left_to_be_refused() -> None:
    taken = "".join(f"\\u{letter}800" for letter in STAND_INS)
    assert mask(f'["\\ud83d","{taken}"]'.encode()) is None


def test_a_document_with_raw_zeros_is_left_to_be_refused() -> None:
    """They stand for escaped backslashes inside `mask`; JSON has no place for them."""
    for text in (b'"\\ud83d\0\0"', b'["\\ud83d"]\0\0', b'"\\ud83d\\\\\0\0"'):
        assert mask(text) is None


def test_restoring_gives_bytes_also_for_views() -> None:
    masked = mask(rb'["\ud83d"]')
    assert masked is not None
    restored = masked[1](memoryview(masked[0]))  # type: ignore[arg-type]
    assert (type(restored), restored) == (bytes, rb'["\ud83d"]')
