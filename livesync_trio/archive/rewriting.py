"""A log is written anew: up to an event only (rewind), or with other `args` in some events (erase).

Owns what the new log holds. It comes in as an import does, under another name, and takes the place of the old one in
one transaction, with an identity of its own; so clients forget what they have. Of the old one nothing is left
(`base.Adopt.erases`).
"""

import json
from collections.abc import Iterator
from typing import Any, Final

import attrs
import msgspec
from msgspec import Raw

from livesync_trio.archive.entries import Broken, Entry
from livesync_trio.archive.reading import OnEvents, log_entries, unheard
from livesync_trio.archive.staging import STAGED, Target, stage
from livesync_trio.model import ROOT_SEQ_NUM, LogState, StoredEvent, StoreId
from livesync_trio.storage.base import Adopt, Delete
from livesync_trio.wire.choice import Choice
from livesync_trio.wire.events import EventShape, take_batch
from livesync_trio.wire.reading import Unreadable, read

_event: Final = msgspec.json.Decoder(EventShape)


class NotInLog(ValueError):
    """What is asked for is not in the log; says what."""


@attrs.frozen
class Rewind:
    """The log up to an event, and nothing behind it.

    Attributes:
        to: number of the last event that stays; 0: none does.
    """

    to: int

    def entries(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """The log as it is to be. Raises NotInLog."""
        last = ROOT_SEQ_NUM
        for entry in entries:
            if entry.seq_num > self.to:
                break
            last = entry.seq_num
            yield entry
        if last != self.to:
            raise NotInLog(f"There is no event e{self.to}; the last one before it is e{last}. Nothing was changed.")


@attrs.frozen
class Erase:
    """The log with other `args` in some events. Of these neither the user is kept nor the id under which they came.

    Attributes:
        numbers: events by their numbers; none: all that `choice` takes.
        choice: events by who pushed them and when; it counts beside `numbers`.
        args: what stands for their `args`: JSON text.
    """

    numbers: frozenset[int]
    choice: Choice
    args: bytes

    def entries(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """The log as it is to be. Raises NotInLog."""
        missing, erased = set(self.numbers), 0
        for entry in entries:
            if self._takes(entry):
                missing.discard(entry.seq_num)
                erased += 1
                yield self._erased(entry)
            else:
                yield entry
        if missing:
            raise NotInLog(f"There is no event e{min(missing)} that fits. Nothing was changed.")
        if not erased:
            raise NotInLog("No event fits. Nothing was changed.")

    def _takes(self, entry: Entry) -> bool:
        if self.numbers and entry.seq_num not in self.numbers:
            return False
        return self.choice.takes(StoredEvent(entry.seq_num, 0, entry.json, entry.created_at))

    def _erased(self, entry: Entry) -> Entry:
        try:
            shape, restore = read(_event, entry.json)
            names = (Raw(restore(member)) for member in (shape.name, shape.clientId, shape.sessionId))
            name, client_id, session_id = names
            erased = EventShape(name, shape.seqNum, shape.parentSeqNum, client_id, session_id, Raw(self.args))
            (event,) = take_batch([erased], bytes)
        except Unreadable as error:
            raise Broken(f"e{entry.seq_num} cannot be read: {error}") from None
        return entry._replace(json=event.json, user=None, append_id=None)


Rewriting = Rewind | Erase


def args_text(text: str) -> bytes:
    """What stands for erased `args`, checked. Raises ValueError: it is no JSON, or not Unicode."""
    value: Any = json.loads(text)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def staged_anew(
    target: Target, store_id: StoreId, log: LogState, rewriting: Rewriting, on_events: OnEvents = unheard
) -> LogState:
    """Write the new log beside the old one.

    Args:
        target: the database.
        store_id: the store.
        log: how far the old one goes.
        rewriting: what the new one holds.
        on_events: told of progress.

    Returns:
        The new log, for `adoption`.

    Raises:
        NotInLog: nothing is left of the attempt; nor is there of any other failure but those of the database.
        LogReplaced: the old log is gone.
        Broken, CommandError, StorageUnavailable, StoreDamaged: see `staging.stage`.
    """
    try:
        return stage(target, store_id, lambda: rewriting.entries(log_entries(target.reader, store_id, log)), on_events)
    except ValueError:
        given_up(target, store_id)
        raise


def adoption(store_id: StoreId, staged: LogState, replacing: LogState) -> Adopt:
    """The write by which the new log takes the place of the old one."""
    return Adopt(store_id, StoreId(STAGED + store_id), staged, staged.backend_id, replacing, erases=True)


def given_up(target: Target, store_id: StoreId) -> None:
    """Leave nothing of a log that was to take a store's place."""
    target.one(Delete(StoreId(STAGED + store_id)))


def clear(target: Target, log: LogState) -> bool:
    """Carry out what is left to do about a log that was erased.

    Args:
        target: a database that this process has to itself, or whose rows anybody may clear.
        log: the log that is gone.

    Returns:
        Whether nothing is left of it; otherwise somebody reads the database, and holds it up.
    """
    while not target.reader.is_cleared(log):
        if not target.writer.clear_replaced(CLEAR_EVENTS):
            return target.reader.is_cleared(log)
    return True


CLEAR_EVENTS: Final = 10_000
"""Rows that go in one transaction where nobody waits for another."""
