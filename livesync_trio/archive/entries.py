"""One event on its way in or out, and what must be true of a run of them.

Owns `Entry`, which holds all that storage keeps of an event, and `Walk`, which checks that entries are a chain. Pure.
"""

import enum
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from livesync_trio.model import ROOT_SEQ_NUM, StoredEvent
from livesync_trio.wire.events import EventShape, take_batch
from livesync_trio.wire.reading import Unreadable, read

_SPACE: Final = b" \t\r\n"
"""What may stand round a JSON value and is no part of it (RFC 8259, section 2)."""

_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_event: Final = msgspec.json.Decoder(EventShape)


class Entry(NamedTuple):
    """One event with all that is kept of it.

    Attributes:
        seq_num: its number.
        parent_seq_num: number of the event before it, 0 at the root.
        json: the text that is kept (`model.Event.json`), byte for byte.
        created_at: server time of its push, `YYYY-MM-DDTHH:MM:SS.mmmZ`.
        user: who pushed it, None where nobody is known.
        append_id: its id, None where it has none (`model.Event.append_id`).
    """

    seq_num: int
    parent_seq_num: int
    json: bytes
    created_at: str
    user: str | None = None
    append_id: str | None = None


class Broken(ValueError):
    """An event is not what an event is, or does not continue the one before it; says which and why."""


def entry_of_text(text: bytes, created_at: str, user: str | None = None, append_id: str | None = None) -> Entry:
    """Read an event as a client would have sent it.

    Args:
        text: a JSON object with the members of SPEC section 1, in any order.
        created_at: server time of its push.
        user: who pushed it.
        append_id: its id.

    Raises:
        Broken: it is no event.
    """
    try:
        shape, restore = read(_event, text)
        (event,) = take_batch([shape], restore)
    except Unreadable as error:
        raise Broken(f"an event cannot be read: {error}") from None
    return Entry(event.seq_num, event.parent_seq_num, event.json, checked_moment(created_at), user, append_id)


class Columns(NamedTuple):
    """One row of a table of another server.

    Attributes:
        seq_num: the event's number.
        parent_seq_num: number of the event before it.
        name: its name.
        args: its arguments as JSON text; None is null.
        client_id: the client.
        session_id: the session.
        created_at: server time of its push; see `moment_of`.
    """

    seq_num: int
    parent_seq_num: int
    name: str
    args: str | None
    client_id: str
    session_id: str
    created_at: str | datetime


def entry_of_columns(row: Columns) -> Entry:
    """Put an event together from the columns of a table.

    Raises:
        Broken: they hold no event.
    """
    _check_types(row)
    try:
        args = b"null" if row.args is None else row.args.encode().strip(_SPACE)
        read(_any, args)
        shape = EventShape(
            Raw(msgspec.json.encode(row.name)),
            row.seq_num,
            row.parent_seq_num,
            Raw(msgspec.json.encode(row.client_id)),
            Raw(msgspec.json.encode(row.session_id)),
            Raw(args),
        )
        (event,) = take_batch([shape], bytes)
    except (Unreadable, TypeError, UnicodeEncodeError) as error:
        raise Broken(f"e{row.seq_num} cannot be read: {error}") from None
    return Entry(event.seq_num, event.parent_seq_num, event.json, moment_of(row.created_at))


def _check_types(row: Columns) -> None:
    """A table may hold anything in any column: numbers are whole, the rest is text. Raises Broken."""
    texts = {"name": row.name, "args": row.args or "", "client": row.client_id, "session": row.session_id}
    if type(row.seq_num) is not int or type(row.parent_seq_num) is not int:
        raise Broken(
            f"an event has the number {row.seq_num!r} and the parent {row.parent_seq_num!r}, not whole numbers"
        )
    for what, text in texts.items():
        if not isinstance(text, str):
            raise Broken(f"the {what} of e{row.seq_num} is {type(text).__name__}, not text")


_any: Final = msgspec.json.Decoder(Raw)


def checked_moment(text: str) -> str:
    """The text, if it is a moment as storage keeps it. Raises Broken."""
    try:
        if _MOMENT.fullmatch(text):
            datetime.fromisoformat(text)
            return text
    except ValueError:
        pass
    raise Broken(f"{text!r} is not a moment like 2026-11-20T12:34:56.789Z")


def checked_text(text: str, what: str) -> str:
    """The text, if it is Unicode that can be kept. Raises Broken."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Broken(f"{what} holds half a character (a lone surrogate)") from None
    return text


def moment_of(moment: str | datetime) -> str:
    """A moment in another server's words as storage keeps it: UTC, milliseconds; without a zone it counts as UTC.

    Raises:
        Broken: it is none.
    """
    if isinstance(moment, str):
        if _MOMENT.fullmatch(moment):
            return checked_moment(moment)
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            raise Broken(f"{moment!r} is not a moment") from None
    if not isinstance(moment, datetime):
        raise Broken(f"{moment!r} is not a moment")
    try:
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Broken(f"{moment} is out of the range of moments") from None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def entries_of(events: Iterable[StoredEvent]) -> Iterator[Entry]:
    """What storage gives, as entries.

    Raises:
        Broken: a stored text is no event, or not the one its number says.
    """
    for event in events:
        entry = entry_of_text(event.json, event.created_at, event.user, event.append_id)
        if entry.json != event.json or entry.seq_num != event.seq_num:
            raise Broken(f"e{event.seq_num}: its text is not that of this event")
        yield entry


class Walk:
    """Follows a log from its root and refuses the first event that does not continue it."""

    def __init__(self) -> None:
        self.head = ROOT_SEQ_NUM
        self.events = 0
        self.text_bytes = 0

    def step(self, entry: Entry) -> Entry:
        """Take one more event.

        Raises:
            Broken: its parent is not the event before it, or its number is not above it.
        """
        if entry.parent_seq_num != self.head:
            hole = "events are missing before it" if entry.parent_seq_num > self.head else "it is not part of the chain"
            raise Broken(f"e{entry.seq_num} continues e{entry.parent_seq_num}, but stands behind e{self.head}: {hole}")
        if entry.seq_num <= self.head:
            raise Broken(f"e{entry.seq_num} stands behind e{self.head}: numbers must ascend")
        self.head = entry.seq_num
        self.events += 1
        self.text_bytes += len(entry.json)
        return entry

    def along(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """All entries, each checked as it passes."""
        return map(self.step, entries)


# --- two logs beside each other ---------------------------------------------------------------------------------------


class Comparison(enum.Enum):
    """How our log stands to theirs."""

    SAME = enum.auto()
    BEHIND = enum.auto()
    AHEAD = enum.auto()
    DIFFERENT = enum.auto()


def compared(ours: Iterable[Entry], theirs: Iterable[Entry]) -> Comparison:
    """Walk along both up to the first difference."""
    for our, their in zip_longest(ours, theirs):
        if our is None:
            return Comparison.BEHIND
        if their is None:
            return Comparison.AHEAD
        if our != their:
            return Comparison.DIFFERENT
    return Comparison.SAME
