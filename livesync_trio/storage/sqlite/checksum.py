"""Checksums of the SQLite engine: whether what is read is what was written.

Owns their arithmetic and nothing else. SQLite keeps none of its pages, so a bit that a disk flips inside an event's
text would be served, and one inside the index would serve the event of another store. So each event carries the sum
of its bytes (text, time, user, id) and of the number of its log, modulo 65,521. Sums add up: a whole page is checked
by one sum over all its bytes, without touching single events. One changed byte changes the sum, always; what was
changed on purpose is no business of a checksum.
"""

import zlib
from collections.abc import Iterable
from itertools import chain
from typing import Final

MODULUS: Final = 65_521
"""The largest prime below 2**16; that of Adler-32 (RFC 1950, section 9), whose lower half is such a sum."""

LOWER_HALF: Final = 0xFFFF
"""What of an Adler-32 is that sum; the rest depends on the order of the bytes, and does not add up."""

BOUND: Final = 1 << 16
"""Set in a checksum that has the number of its log in it; those of events from before version 0.2 have not."""


def byte_sum(content: bytes, before: int = 0) -> int:
    """`before` and all bytes of `content`, added up modulo `MODULUS`; `before` is such a sum, too."""
    return zlib.adler32(content, before) & LOWER_HALF


def beside_sum(log_id: int, created_at: str, user: str | None) -> int:
    """The part of an event's sum that is not its text: what it shares with all events of its push.

    Raises:
        ValueError: `user` is not Unicode.
    """
    return (log_id + byte_sum(f"{created_at}{user or ''}".encode())) % MODULUS


def page_sum(texts: bytes, created_ats: Iterable[str], *others: Iterable[str | None]) -> int:
    """The sum of the bytes of many events: all their texts in a row, and what stands beside them."""
    beside = "".join(created_ats) + "".join(filter(None, chain(*others)))
    return byte_sum(beside.encode(), byte_sum(texts))


def is_sum_of(stored: float, bound: float, page: int, log_id: int) -> bool:
    """Whether checksums are those of a page.

    Args:
        stored: the checksums, added up. A damaged one may be any number.
        bound: how many of them have `BOUND` set: the sum of what stands in them from that bit on.
        page: what `page_sum` says of the events.
        log_id: the log that was asked for them.
    """
    return (page + bound * (BOUND + log_id)) % MODULUS == stored % MODULUS
