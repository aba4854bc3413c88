"""Reads a WAL that SQLite does not have open: whether the database file already has what is in it.

Owns that reading of the format (sqlite.org/walformat.html).
"""

import struct
from pathlib import Path
from typing import BinaryIO, Final

MAGIC: Final = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
"""How a WAL begins; the last bit says in which order its checksums add up."""

_HEADER: Final = struct.Struct(">8xI4x8s8x")  # size of a page, salt
_FRAME: Final = struct.Struct(">II8s8x")  # number of the page, pages of the database after a commit, salt


def holds_more_than(wal: Path, database: Path) -> bool:
    """Whether a WAL holds committed pages that are not in the database file as they stand in the WAL.

    Checksums are not looked at: a page that a power cut tore counts as one that is not in the database.

    Raises:
        OSError: one of the files cannot be read.
    """
    with wal.open("rb") as frames, database.open("rb") as pages:
        header = frames.read(_HEADER.size)
        if len(header) < _HEADER.size or header[:4] not in MAGIC:
            return False
        page_bytes, salt = _HEADER.unpack(header)
        for number, offset in _committed(frames, page_bytes, salt).items():
            frames.seek(offset)
            pages.seek((number - 1) * page_bytes)
            if frames.read(page_bytes) != pages.read(page_bytes):
                return True
    return False


def _committed(frames: BinaryIO, page_bytes: int, salt: bytes) -> dict[int, int]:
    """Where the newest committed state of each page begins, by the number of the page."""
    committed: dict[int, int] = {}
    of_transaction: dict[int, int] = {}
    while len(head := frames.read(_FRAME.size)) == _FRAME.size:
        number, pages_after_commit, its_salt = _FRAME.unpack(head)
        if its_salt != salt:
            break  # left over from before the WAL was begun anew
        of_transaction[number] = frames.tell()
        if len(frames.read(page_bytes)) < page_bytes:
            break  # what was being written when it ended
        if pages_after_commit:
            committed |= of_transaction
            of_transaction.clear()
    return committed
