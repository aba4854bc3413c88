"""The reader through which every byte of a peer passes: one error for everything, with words fit for the sender."""

from __future__ import annotations

import contextlib
import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync_trio.wire.reading import Unreadable, plain, read
from tests.unit.wire.json_texts import has_lone_surrogate, pairs, values


class Shape(msgspec.Struct):
    raw: msgspec.Raw
    number: int = 0


_shape = msgspec.json.Decoder(Shape)


@given(values)
def test_raw_members_come_out_as_they_were_sent(text: str) -> None:
    shape, restore = read(_shape, f'{{"x":"\\u0ead","raw": {text} }}'.encode())
    assert restore(bytes(shape.raw)) == text.encode()
    assert type(restore(shape.raw)) is bytes


@given(st.binary(max_size=40))
def test_nothing_but_unreadable_is_raised(data: bytes) -> None:
    for attempt in (lambda: read(_shape, data), lambda: plain(data)):
        with contextlib.suppress(Unreadable):
            attempt()


def test_the_message_says_where() -> None:
    with pytest.raises(Unreadable, match=r"Expected `int`, got `str` - at `\$.number`"):
        read(_shape, b'{"raw":1,"number":"x"}')
    with pytest.raises(Unreadable, match=r"\$.number"):
        read(_shape, rb'{"raw":"\ud83d","number":"x"}')
    with pytest.raises(Unreadable, match="truncated"):
        read(_shape, rb'{"raw":"\ud83d","number":')


@pytest.mark.parametrize("depth", [10_000, 1_000_000])
@pytest.mark.parametrize("more", ["", '"\\ud83d",'], ids=["", "with a lone surrogate"])
def test_deep_nesting_is_unreadable(depth: int, more: str) -> None:
    text = f'{{"raw":[{more}{"[" * depth}{"]" * depth}]}}'.encode()
    with pytest.raises(Unreadable, match="deep"):
        read(_shape, text)
    with pytest.raises(Unreadable, match="deep"):
        plain(text)


@given(values)
def test_plain_gives_hooks_what_python_reads(text: str) -> None:
    assert repr(plain(text.encode())) == repr(json.loads(text))


def test_an_integer_that_python_refuses_to_read_is_infinite_for_hooks_as_for_javascript() -> None:
    assert plain(b"[%b,-%b]" % (b"1" * 5_000, b"1" * 5_000)) == [math.inf, -math.inf]
    assert plain(b"1" * 4_000) == int("1" * 4_000)


def test_plain_refuses_what_is_not_json() -> None:
    for text in (
        b"",
        b"x",
        b"{",
        b"[1,]",
        b"1 2",
        b"\xff",
        b'"\xed\xa0\xbd"',
        b"NaN",
        b"[-Infinity]",
        '"ö"'.encode("utf-16"),
    ):
        with pytest.raises(Unreadable):
            plain(text)


def test_the_readings_of_these_tests_see_what_they_should() -> None:
    assert has_lone_surrogate(r'{"\ud83d":1}')
    assert has_lone_surrogate(r'[{"a":"\ud83d","a":1}]')
    assert not has_lone_surrogate(r'["\ud83d\ude00","\\ud83d"]')
    assert pairs('{"b":1,"a":2,"b":3}') == ("object", [("b", 1), ("a", 2), ("b", 3)])
