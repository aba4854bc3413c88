r"""JSON as text, with everything that is legal and seldom seen, and readings of it that owe nothing to the server.

Strategies give *texts*, not values: `1.0`, `1e999`, blanks, keys twice, every kind of escape, upper and lower case.
"""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import strategies as st

_HEX = "0123456789abcdefABCDEF"
_FIRST = "012367" + "89abcdefABCDEF"
"""First digits of escapes. Two are left out: where a document uses all of them, `wire.surrogates` has no stand-in left
and refuses it, which no encoder of a client ever brings about (`test_surrogates`)."""

surrogate_escapes = st.builds(
    "\\u{}{}{}".format,
    st.sampled_from("dD"),
    st.sampled_from("89abAB cdefCDEF".replace(" ", "")),
    st.text(_HEX, min_size=2, max_size=2),
)
"""Halves of pairs; two that follow each other may be a whole one."""

stand_in_escapes = st.builds(
    "\\u{}{}{}".format,
    st.sampled_from(_FIRST.replace("d", "").replace("D", "")),
    st.sampled_from("89abcdefABCDEF"),
    st.text(_HEX, min_size=2, max_size=2),
)
"""Escapes like those that `wire.surrogates` puts in the place of lone halves."""

_escapes = st.one_of(
    surrogate_escapes,
    surrogate_escapes,
    stand_in_escapes,
    st.builds("\\u{}{}".format, st.sampled_from(_FIRST), st.text(_HEX, min_size=3, max_size=3)),
    st.sampled_from(['\\"', "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t"]),
)

_raw = st.one_of(
    st.sampled_from(
        ["u", "d", "ud83d", "u0800", "ude00", "\u2028", "\u2029", "\U0001f600", "\x7f", "\ufeff", "\ue000"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"\\', min_codepoint=32), max_size=4),
)

strings = st.lists(st.one_of(_escapes, _escapes, _raw), max_size=8).map(lambda parts: '"' + "".join(parts) + '"')
"""JSON strings, lone surrogates and all."""

odd_numbers = st.sampled_from(
    ["0", "-0", "1.0", "-0.0", "1e21", "1E+2", "1e999", "-1e999", "5e-324", "1e-400", "12345678901234567890123", "0.10"]
)
numbers = st.one_of(
    odd_numbers,
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(
        r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?",
        fullmatch=True,
        alphabet=st.characters(codec="ascii"),
    ),
)

any_text = st.text(st.characters(exclude_categories=[]) | st.characters(categories=["Cs"]))
"""Python strings, half surrogate pairs and all: what a hook's message may be."""

blanks = st.text(" \t\n\r", max_size=2)

_leaves = st.one_of(strings, strings, numbers, st.sampled_from(["null", "true", "false"]))


def _array(parts: list[tuple[str, str, str]]) -> str:
    return "[" + ",".join(before + value + after for before, value, after in parts) + "]"


def _object(parts: list[tuple[str, str, str, str]]) -> str:
    return "{" + ",".join(f"{before}{key}{before}:{after}{value}{after}" for before, key, value, after in parts) + "}"


values = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(st.tuples(blanks, inner, blanks), max_size=4).map(_array),
        st.lists(st.tuples(blanks, strings, inner, blanks), max_size=4).map(_object),
    ),
    max_leaves=12,
)
"""Any JSON text without blanks around it."""


# --- readings --------------------------------------------------------------------------------------------------------


def pairs(text: str) -> Any:
    """A JSON text as Python values that keep what a dictionary would lose: order, and keys that occur twice."""
    return json.loads(text, object_pairs_hook=lambda members: ("object", members))


def has_lone_surrogate(text: str) -> bool:
    """Whether a string of a JSON text holds half a surrogate pair. Python's own reader joins whole pairs."""
    return re.search("[\ud800-\udfff]", repr_of_strings(pairs(text))) is not None


def repr_of_strings(value: Any) -> str:
    """All strings in a value, one behind the other, apart from each other."""
    if isinstance(value, str):
        return value + "|"
    if isinstance(value, list | tuple):
        return "".join(map(repr_of_strings, value))
    return ""


def is_safe_integer(number: str) -> bool:
    """Whether JavaScript takes a JSON number for an integer that it holds exactly (`Number.isSafeInteger`)."""
    value = float(number)
    return value.is_integer() and abs(value) <= 2**53 - 1
