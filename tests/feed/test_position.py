"""Positions: what is read, what is written, how they follow one another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync_trio.feed.position import WHOLE, BadPosition, Position, Token, parse_lsn, parse_token

positions = st.builds(Position, st.integers(0, 2**64 - 1), st.integers(0, WHOLE))


@given(positions, st.none() | st.text("0123456789abcdef", min_size=1, max_size=16))
def test_a_token_is_read_as_it_was_written(position: Position, epoch: str | None) -> None:
    assert parse_token(str(Token(position, epoch))) == Token(position, epoch)
    assert Position.of_offset(position.offset) == position


@given(st.lists(positions, min_size=2))
def test_positions_follow_by_commit_and_then_by_change(some: list[Position]) -> None:
    assert sorted(some) == sorted(some, key=lambda each: (each.commit_lsn, each.seq))


def test_the_original_form_means_the_whole_commit() -> None:
    assert parse_token("0/97C0650").position == Position(0x97C0650, WHOLE)
    assert parse_token("1/0").position > parse_token("0/FFFFFFFF").position  # not as texts


@pytest.mark.parametrize(
    "text", ["", "0", "0/", "/0", "0/G", "0/1 ", "0/1\n", "123456789/0", "0/1.", "0/1.99999999999", "-1/0"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadPosition):
        parse_token(text)


@pytest.mark.parametrize("text", ["0/1.2", "0/1@ab", "x"])
def test_an_lsn_is_only_an_lsn(text: str) -> None:
    with pytest.raises(BadPosition):
        parse_lsn(text)


@pytest.mark.parametrize("text", ["", "1", "1_", "_1", "18446744073709551616_0", "1_9999999999"])
def test_no_offset(text: str) -> None:
    with pytest.raises(BadPosition):
        Position.of_offset(text)
