"""How two logs stand to each other, event by event. Pure."""

import enum
from collections.abc import Iterable
from itertools import zip_longest

from livesync_trio.archive.entries import Entry


class Standing(enum.Enum):
    """How our log stands to theirs."""

    SAME = enum.auto()
    BEHIND = enum.auto()
    AHEAD = enum.auto()
    DIFFERENT = enum.auto()


def standing(ours: Iterable[Entry], theirs: Iterable[Entry]) -> Standing:
    """Walk along both up to the first difference."""
    for our, their in zip_longest(ours, theirs):
        if our is None:
            return Standing.BEHIND
        if their is None:
            return Standing.AHEAD
        if our != their:
            return Standing.DIFFERENT
    return Standing.SAME
