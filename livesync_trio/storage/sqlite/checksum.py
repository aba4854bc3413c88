"""Checksums of the SQLite engine: whether what is read is what was written.

Owns their arithmetic and nothing else. SQLite keeps none of its pages, so a bit that a disk flips inside an event's
text would be served, and one inside the index would serve another event, be it of another store. So each event
carries the sum of its bytes (text, time, user, id), of its number and of that of its log, modulo 65,521. Sums add up:
a whole page is checked by one sum over all its bytes, without touching single events. One changed byte changes the
sum, always; what was changed on purpose is no business of a checksum.
"""

import zlib
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

MODULUS: Final = 65_521
"""The largest prime below 2**16; that of Adler-32 (RFC 1950, section 9), whose lower half is such a sum."""

LOWER_HALF: Final = 0xFFFF
"""What of an Adler-32 is that sum; the rest depends on the order of the bytes, and does not add up."""

BOUND: Final = 1 << 16
"""Set in a checksum that has the numbers of its event and its log in it; before version 0.2 they had not."""

_LOG_WEIGHT: Final = 8_191
"""What the number of a log counts in a checksum, so that neighbours in two logs do not come to the same."""


def byte_sum(content: bytes, before: int = 0) -> int:
    """`before` and all bytes of `content`, added up modulo `MODULUS`; `before` is such a sum, too."""
    return zlib.adler32(content, before) & LOWER_HALF


def beside_sum(log_id: int, created_at: str, user: str | None) -> int:
    """The part of an event's sum that it shares with all events of its push: neither its text nor its number.

    Raises:
        ValueError: `user` is not Unicode.
    """
    return (log_id * _LOG_WEIGHT + byte_sum(f"{created_at}{user or ''}".encode())) % MODULUS


def page_sum(texts: bytes, created_ats: Iterable[str], *others: Iterable[str | None]) -> int:
    """The sum of the bytes of many events: all their texts in a row, and what stands beside them."""
    beside = "".join(created_ats) + "".join(filter(None, chain(*others)))
    return byte_sum(beside.encode(), byte_sum(texts))


def is_sum_of(stored: float, bound: float, page: int, log_id: int, seq_nums: Sequence[int]) -> bool:
    """Whether checksums are those of a page.

    Args:
        stored: the checksums, added up. A damaged one may be any number.
        bound: how many of them have `BOUND` set, which are the last ones: the sum of what stands from that bit on.
        page: what `page_sum` says of the events.
        log_id: the log that was asked for them.
        seq_nums: the numbers that were asked for.
    """
    if not 0 <= bound <= len(seq_nums):
        return False
    events = int(bound)
    numbers = sum(seq_nums[len(seq_nums) - events :])
    return (page + numbers + events * (BOUND + log_id * _LOG_WEIGHT)) % MODULUS == stored % MODULUS
