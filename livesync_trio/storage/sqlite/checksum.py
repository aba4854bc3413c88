"""Checksums of the SQLite engine: whether what is read is what was written.

Owns their arithmetic and nothing else. SQLite keeps none of its pages, so a bit that a disk flips inside an event's
text would be served. Each event therefore carries the sum of its bytes (text, time, user, id) modulo 65,521. Sums add
up: a whole page is checked by one sum over all its bytes, without touching single events. One changed byte changes the
sum, always; what was changed on purpose is no business of a checksum.
"""

import zlib
from collections.abc import Iterable
from itertools import chain
from typing import Final

MODULUS: Final = 65_521
"""The largest prime below 2**16; that of Adler-32 (RFC 1950, section 9), whose lower half is such a sum."""

LOWER_HALF: Final = 0xFFFF
"""What of an Adler-32 is that sum; the rest depends on the order of the bytes, and does not add up."""


def byte_sum(content: bytes, before: int = 0) -> int:
    """`before` and all bytes of `content`, added up modulo `MODULUS`; `before` is such a sum, too."""
    return zlib.adler32(content, before) & LOWER_HALF


def beside_sum(created_at: str, user: str | None) -> int:
    """The part of an event's sum that is not its text: what it shares with all events of its push.

    Raises:
        ValueError: `user` is not Unicode.
    """
    return byte_sum(f"{created_at}{user or ''}".encode())


def page_sum(texts: bytes, created_ats: Iterable[str], *others: Iterable[str | None]) -> int:
    """The sum of many events: all their texts in a row, and what stands beside them."""
    beside = "".join(created_ats) + "".join(filter(None, chain(*others)))
    return byte_sum(beside.encode(), byte_sum(texts))
