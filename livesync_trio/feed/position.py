"""Where a reader of the feed stands: a commit, or a place inside of one (decision 0015).

Commits are in the order of their LSNs; the changes of one commit are numbered. An LSN alone, as PostgreSQL writes it,
means *after the whole commit*.
"""

import re
from typing import Final, NamedTuple

WHOLE: Final = 2**31 - 1
"""Number behind every change of a commit."""

_TOKEN: Final = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})(?:\.(\d{1,10}))?(?:@([0-9a-f]{1,32}))?")
_OFFSET: Final = re.compile(r"(\d{1,20})_(\d{1,10})")


class BadPosition(ValueError):
    """A text is no position; the message says what one looks like."""


class Position(NamedTuple):
    """A place in the history; everything up to and including it has been seen. Positions compare as they follow.

    Attributes:
        commit_lsn: where the commit's record begins in the write-ahead log, in bytes.
        seq: number of the last change of it that was seen, from 0; `WHOLE` for all of them.
    """

    commit_lsn: int
    seq: int = WHOLE

    def __str__(self) -> str:
        lsn = lsn_text(self.commit_lsn)
        return lsn if self.seq == WHOLE else f"{lsn}.{self.seq}"

    @property
    def offset(self) -> str:
        """The same as two whole numbers, `<commit LSN>_<number of the change>`."""
        return f"{self.commit_lsn}_{self.seq}"

    @classmethod
    def of_offset(cls, text: str) -> "Position":
        """A position as `offset` writes it. Raises BadPosition."""
        found = _OFFSET.fullmatch(text)
        if found is None or int(found[1]) >= 2**64 or int(found[2]) > WHOLE:
            raise BadPosition("An offset looks like 26843545_0.")
        return cls(int(found[1]), int(found[2]))


START: Final = Position(0)
"""Of a client that has nothing: it wants the initial state."""


class Token(NamedTuple):
    """A position, and the epoch of the history that it belongs to; None when the client cannot tell."""

    position: Position
    epoch: str | None = None

    def __str__(self) -> str:
        return str(self.position) if self.epoch is None else f"{self.position}@{self.epoch}"


def parse_token(text: str) -> Token:
    """Read `X/Y`, or `X/Y.seq`, each with or without `@epoch`. Raises BadPosition."""
    found = _TOKEN.fullmatch(text)
    if found is None or (found[3] and int(found[3]) > WHOLE):
        raise BadPosition("Invalid LSN format")
    seq = WHOLE if found[3] is None else int(found[3])
    return Token(Position(int(found[1], 16) << 32 | int(found[2], 16), seq), found[4])


def lsn_text(lsn: int) -> str:
    """An LSN as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int:
    """An LSN as PostgreSQL writes it. Raises BadPosition."""
    token = parse_token(text)
    if token.position.seq != WHOLE or token.epoch is not None:
        raise BadPosition("Invalid LSN format")
    return token.position.commit_lsn
