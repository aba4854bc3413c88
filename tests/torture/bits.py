"""Flips one bit at a time in the files of a server that does not run, and opens them.

Wherever the bit is, what is then served is what was stored, whole or up to a point, or the store is refused; never
another text, time, number or order. A bit in the WAL that a crash left behind is the one that can take acknowledged
events with it without a word: SQLite ends there (docs/guarantees.md).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from livesync_trio.errors import StartupError, StorageUnavailable, StoreDamaged
from livesync_trio.model import LogState, StoredEvent, StoreId
from livesync_trio.storage.base import OpenStore
from livesync_trio.storage.sqlite.engine import SqliteEngine
from livesync_trio.storage.sqlite.reader import SqliteReader
from tests.simulation.leader import Violation
from tests.torture.audit import read_logs

Logs = dict[str, list[StoredEvent]]
SUFFIXES = ("", "-wal")


def flip_bits(database: Path, flips: int, dice: random.Random) -> Counter[str]:
    """Flip bits of the database and of its WAL, if it has one. Gives what became of the stores. Raises Violation."""
    copy = database.with_name(f"flipped-{database.name}")
    contents = [
        path.read_bytes() if (path := database.with_name(database.name + suffix)).exists() else b""
        for suffix in SUFFIXES
    ]
    whole = _intact(copy, contents, {store: log.contents for store, log in read_logs(database).items()})
    fates: Counter[str] = Counter()
    for _ in range(flips):
        at = dice.randrange(sum(map(len, contents)))
        in_wal = at >= len(contents[0])
        flipped = [bytearray(content) for content in contents]
        flipped[in_wal][at - in_wal * len(contents[0])] ^= 1 << dice.randrange(8)
        _lay_down(copy, flipped)
        fates.update(_open_flipped(copy, whole, in_wal=in_wal))
    return fates


def _lay_down(copy: Path, contents: Sequence[bytes | bytearray]) -> None:
    for suffix, content in zip(SUFFIXES, contents, strict=True):
        path = copy.with_name(copy.name + suffix)
        path.unlink(missing_ok=True)
        if content:
            path.write_bytes(content)
    copy.with_name(copy.name + "-shm").unlink(missing_ok=True)


def _intact(copy: Path, contents: list[bytes], audited: dict[str, list[str]]) -> Logs:
    """What the engine serves of unharmed files, which is what the auditor finds in them."""
    _lay_down(copy, contents)
    engine = SqliteEngine(copy)
    engine.open()
    reader = engine.reader()
    whole: Logs = {}
    for store, texts in audited.items():
        state = reader.state(StoreId(store))
        assert state is not None
        whole[store] = _read_all(reader, state)
        found = [content.encode() in event.json for content, event in zip(texts, whole[store], strict=True)]
        if not all(found):
            raise Violation(f"store {store}: what is served is not what is stored")
    reader.close()
    engine.close()
    return whole


def _open_flipped(database: Path, whole: Logs, *, in_wal: bool) -> Counter[str]:
    engine = SqliteEngine(database)
    try:
        engine.open()
    except StartupError as refusal:
        if not str(refusal).endswith("."):
            raise Violation(f"a refusal without a sentence: {refusal}") from refusal
        return Counter(["refused at start"])
    try:
        return Counter(_served(engine, store, events, in_wal=in_wal) for store, events in whole.items())
    finally:
        engine.close()


def _served(engine: SqliteEngine, store: str, whole: list[StoredEvent], *, in_wal: bool) -> str:
    try:
        writer = engine.writer()
    except StorageUnavailable:
        return "refused when opened for writing"
    reader = engine.reader()
    try:
        (state,) = writer.commit([OpenStore(StoreId(store))])
        if isinstance(state, Exception):
            raise state
        assert isinstance(state, LogState)
        if state.event_count == 0 and not in_wal:
            return "under another name"
        return _compare(_read_all(reader, state), state, store, whole, in_wal=in_wal)
    except StoreDamaged:
        return "refused as damaged"
    except StorageUnavailable:
        return "refused as unavailable"
    finally:
        reader.close()
        writer.close()


def _read_all(reader: SqliteReader, state: LogState) -> list[StoredEvent]:
    served: list[StoredEvent] = []
    while (served[-1].seq_num if served else 0) < state.head:
        events = reader.read(state, served[-1].seq_num if served else 0, state.head, 1_000, 10_000_000)
        if not events:
            break  # a pull stands still there and tries again (connection.live)
        served += events
    return served


def _compare(served: list[StoredEvent], state: LogState, store: str, whole: list[StoredEvent], *, in_wal: bool) -> str:
    for event, stored in zip(served, whole, strict=False):
        if event != stored:
            raise Violation(f"store {store}: served {event}, stored was {stored}")
    if len(served) == len(whole):
        return "served whole"
    if len(served) > len(whole):
        raise Violation(f"store {store}: served {len(served)} events of {len(whole)}")
    if state.head == whole[-1].seq_num:
        return "stands still at a prefix"
    if not in_wal:
        raise Violation(f"store {store}: passed off e{state.head} as its head, which is e{whole[-1].seq_num}")
    return "lost the end of the WAL"
