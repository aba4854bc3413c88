"""What is on the disk after a power cut: rebuilt from the journal of the shim, for any moment.

What was synced is there. Of what was written since, each 512-byte sector is there or not, as the dice fall; a file's
length may lag behind. That is the worst an honest disk does.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SECTOR = 512
SUFFIXES = ("", "-wal")
_RECORD = struct.Struct("=IIqq")
_WRITE, _SYNC, _TRUNCATE, _UNLINK = 1, 2, 4, 5


class Change(NamedTuple):
    """One change of a file. `end`: size of the journal right after it."""

    end: int
    kind: int
    file: int
    offset: int
    data: bytes


def changes(journal: Path) -> Iterator[Change]:
    """The journal, in order."""
    content = journal.read_bytes()
    at = 0
    while at + _RECORD.size <= len(content):
        kind, file, offset, length = _RECORD.unpack_from(content, at)
        at += _RECORD.size
        data = content[at : at + length] if kind == _WRITE else b""
        at += len(data)
        yield Change(at, kind, file, offset, data)


class _File:
    """One file: what is surely on the disk, and what was done since."""

    def __init__(self) -> None:
        self.synced: bytes | None = None
        self.since: list[Change] = []

    def take(self, change: Change) -> None:
        if change.kind == _SYNC:
            self.synced = _applied(self.synced or b"", self.since)
            self.since = []
        elif change.kind == _UNLINK:  # a directory entry: taken for durable, the name is gone at worst a little later
            self.synced, self.since = None, []
        else:
            self.since.append(change)

    def after_power_cut(self, dice: random.Random) -> bytes | None:
        """One of the many things that may be there."""
        if self.synced is None and not self.since:
            return None
        fate = dice.choice(["nothing", "all", "some", "torn"])
        kept = {"nothing": [], "all": self.since}.get(fate)
        if kept is None:
            kept = [change for change in self.since if fate == "torn" or dice.random() < 0.5]
        if fate == "torn":
            kept = [piece for change in kept for piece in _sectors(change) if dice.random() < 0.7]
        return _applied(self.synced or b"", kept)


def _sectors(change: Change) -> Iterator[Change]:
    if change.kind != _WRITE:
        yield change
        return
    start = 0
    while start < len(change.data):
        size = SECTOR - (change.offset + start) % SECTOR
        yield change._replace(offset=change.offset + start, data=change.data[start : start + size])
        start += size


def _applied(content: bytes, kept: list[Change]) -> bytes:
    image = bytearray(content)
    for change in kept:
        if change.kind == _TRUNCATE:
            del image[change.offset :]
            image.extend(bytes(change.offset - len(image)))
        else:
            end = change.offset + len(change.data)
            image.extend(bytes(max(0, end - len(image))))
            image[change.offset : end] = change.data
    return bytes(image)


def power_cuts(journal: Path, cuts: int, dice: random.Random, directory: Path) -> Iterator[tuple[int, Path]]:
    """Cut the power at random moments; gives the position in the journal and the database that is left, one by one."""
    recorded = list(changes(journal))
    moments = sorted(dice.choices(range(1, len(recorded) + 1), k=cuts))
    files = [_File() for _ in SUFFIXES]
    done = 0
    for moment in moments:
        for change in recorded[done:moment]:
            files[change.file].take(change)
        done = moment
        database = directory / "cut.db"
        for file, suffix in zip(files, SUFFIXES, strict=True):
            path = database.with_name(database.name + suffix)
            content = file.after_power_cut(dice)
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
        yield recorded[moment - 1].end, database
