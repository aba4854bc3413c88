"""How much is tried: a small fixed sample among the tests, as much as is wanted by `scripts/torture feed`."""

from __future__ import annotations

import os
import random

VARIABLE = "LIVESYNC_FEED_SEEDS"
"""`first:count`; every statement is tried then, too."""

ROWS_VARIABLE = "LIVESYNC_FEED_ROWS"
"""Rows of the large transaction."""

ROWS = int(os.environ.get(ROWS_VARIABLE, "200000"))

_first, _, _count = os.environ.get(VARIABLE, "").partition(":")


def seeds(*fixed: int) -> list[int]:
    """The seeds of a test."""
    return list(range(int(_first), int(_first) + int(_count))) if _count else list(fixed)


def sample(numbers: range, count: int, seed: int) -> list[int]:
    """Some of the numbers, or all of them."""
    return list(numbers) if _count else random.Random(seed).sample(numbers, count)
