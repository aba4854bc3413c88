"""A replica of a store's log, with tables: what happens at a commit, at news from the server, at an acknowledgement.

Synchronous, knows neither network nor Trio. Each method is one transaction over log, tables and position, so that a
process that is killed anywhere leaves a file in which the tables are the fold of the log.
"""

import secrets
from collections.abc import Sequence
from itertools import islice
from typing import Final

from livesync_trio.livestore.datafile import DataFile
from livesync_trio.livestore.events import LogEvent
from livesync_trio.livestore.faults import LogReplaced
from livesync_trio.livestore.schema import Schema
from livesync_trio.livestore.tables import Progress, Tables, events_after

_INSERT: Final = "INSERT INTO livesync_log VALUES (?, ?, ?, ?, ?, ?, ?)"
_RENUMBER: Final = "UPDATE livesync_log SET seq_num = ?, parent_seq_num = ? WHERE seq_num = ?"
_KEEP_CHANGES: Final = "UPDATE livesync_log SET changes = ? WHERE seq_num = ?"
_ASIDE: Final = "SELECT seq_num FROM livesync_log WHERE seq_num < 0 ORDER BY seq_num DESC"


def new_name() -> str:
    """A name for a client or a session that nobody else has."""
    return secrets.token_urlsafe(9)


class Replica:
    """Log and tables of one open file.

    The log is *confirmed* up to `upstream_head`, as the server has it, and *pending* behind: committed here, and not
    known to be at the server. Pending events are numbered one after the other.
    """

    def __init__(self, file: DataFile, schema: Schema, tables: Tables) -> None:
        self._file, self._schema, self._tables = file, schema, tables
        self._session_id = new_name()
        self._execute = file.connection.execute
        self.head = 0
        self.upstream_head = 0
        self.backend_id: str | None = None
        """Identity of the server's log; None when it is not known."""
        self.pending = 0
        """How many events are pending."""
        self.rebases = 0
        """How often pending events got other numbers."""
        self.logs = 0
        """How often the whole log began again."""
        self._read_position()

    def open_tables(self, progress: Progress, *, rebuild: bool) -> None:
        """Make the tables anew if they are of other declarations, or if asked to."""
        if rebuild or not self._tables.is_current():
            self._tables.make_anew(progress)

    def pending_events(self, limit: int) -> list[LogEvent]:
        """The first pending events."""
        return list(islice(events_after(self._file, self.upstream_head), limit))

    def take_changed(self) -> set[str]:
        """Tables that may have changed since the last call."""
        changed = set(self._tables.changed)
        self._tables.changed.clear()
        return changed

    def commit(self, events: Sequence[object]) -> None:
        """Append events of the program and apply them, all or none.

        Raises:
            BadEvent: one is not declared, or its arguments are not of the declared types.
            EventFailed: one cannot be applied.
        """
        encoded = [self._schema.encode(event) for event in events]
        head = self.head
        with self._file.transaction():
            for name, args in encoded:
                event = LogEvent(head + 1, head, name, args, self._file.client_id, self._session_id)
                self._execute(_INSERT, (*event, self._tables.apply_undoable(event)))
                head += 1
        self.head, self.pending = head, self.pending + len(encoded)

    def receive(self, events: Sequence[LogEvent], backend_id: str | None) -> None:
        """Take in what the server's log has behind `upstream_head`.

        What is the same as the next pending events confirms them. Anything else goes before what remains pending, whose
        effects are taken back, and which is numbered and applied again: a rebase.

        Args:
            events: ascending, complete; what is known already is compared with what is there.
            backend_id: identity of the server's log; None when its protocol has none.

        Raises:
            LogReplaced: it is not the log that this one has followed.
            EventFailed: one cannot be applied, or a pending one not any more.
            UnknownEvent: nothing is declared for one, and the program wants to fail then.
        """
        news = self._unknown_of(events, backend_id)
        confirmed = self._count_confirmed(news)
        with self._file.transaction():
            if backend_id != self.backend_id:
                self._execute("UPDATE livesync_store SET backend_id = ?", (backend_id,))
            if confirmed:
                self._confirm(news[confirmed - 1].seq_num)
            if foreign := news[confirmed:]:
                self._take_in(foreign, news[confirmed - 1].seq_num if confirmed else self.upstream_head)
        if len(news) > confirmed and self.pending > confirmed:
            self.rebases += 1
        self._read_position()

    def acknowledge(self, pushed: Sequence[LogEvent], rebases: int) -> None:
        """The server has stored pending events.

        Args:
            pushed: they, as they were pushed.
            rebases: `rebases` of that moment; if there was one since, the numbers mean nothing any more.
        """
        if rebases == self.rebases and pushed[-1].seq_num > self.upstream_head:
            with self._file.transaction():
                self._confirm(pushed[-1].seq_num)
            self._read_position()

    def start_over(self, progress: Progress) -> None:
        """Follow the server's log from its beginning, with what is pending behind it.

        All of it gets another session: an event is known to be one's own by its number, session and content, and
        numbers begin again.

        Raises:
            EventFailed: a pending event cannot be applied to empty tables.
        """
        self._session_id = new_name()
        with self._file.transaction():
            self._execute("DELETE FROM livesync_log WHERE seq_num <= ?", (self.upstream_head,))
            self._execute("UPDATE livesync_log SET session_id = ?", (self._session_id,))
            self._set_aside(self.upstream_head)
            for number, (aside,) in enumerate(self._file.rows(_ASIDE), 1):
                self._execute(_RENUMBER, (number, number - 1, aside))
            self._execute("UPDATE livesync_store SET upstream_head = 0, backend_id = NULL, schema_hash = NULL")
        self.logs += 1
        self.rebases += 1
        self._read_position()
        self._tables.make_anew(progress)

    # --- inside a transaction ---------------------------------------------------------------------------------------

    def _read_position(self) -> None:
        self.upstream_head, self.backend_id = self._file.row("SELECT upstream_head, backend_id FROM livesync_store")
        pending = "SELECT count(*), max(seq_num) FROM livesync_log WHERE seq_num > ?"
        self.pending, last = self._file.row(pending, (self.upstream_head,))
        self.head = last or self.upstream_head

    def _unknown_of(self, events: Sequence[LogEvent], backend_id: str | None) -> list[LogEvent]:
        """Those that are new; the others must be what we have."""
        if self.backend_id is not None and backend_id is not None and backend_id != self.backend_id:
            raise LogReplaced("the server's log has another identity than the one that this store has followed.")
        news = list[LogEvent]()
        for event in events:
            if news or event.seq_num > self.upstream_head:
                if news and event.seq_num <= news[-1].seq_num:
                    raise LogReplaced(f"the server sent event {event.seq_num} behind {news[-1].seq_num}.")
                news.append(event)
                continue
            known = next(events_after(self._file, event.seq_num - 1, event.seq_num), None)
            if known is None or not known.is_same(event):
                raise LogReplaced(f"the server's event {event.seq_num} is not the one that it had before.")
        return news

    def _count_confirmed(self, news: Sequence[LogEvent]) -> int:
        count = 0
        pending = events_after(self._file, self.upstream_head) if self.pending else iter(())
        for event, ours in zip(news, pending, strict=False):
            if not ours.is_same(event):
                break
            count += 1
        return count

    def _confirm(self, seq_num: int) -> None:
        self._execute(
            "UPDATE livesync_log SET changes = NULL WHERE seq_num > ? AND seq_num <= ?", (self.upstream_head, seq_num)
        )
        self._execute("UPDATE livesync_store SET upstream_head = ?", (seq_num,))

    def _take_in(self, foreign: Sequence[LogEvent], after: int) -> None:
        """Put events behind number `after`, and what is pending there behind them."""
        self._undo(after)
        self._set_aside(after)
        for event in foreign:
            self._tables.apply(event)
            self._execute(_INSERT, (*event, None))
        last = foreign[-1].seq_num
        self._execute("UPDATE livesync_store SET upstream_head = ?", (last,))
        for (aside,) in self._file.rows(_ASIDE):
            name, args, client_id, session_id = self._file.row(
                "SELECT name, args, client_id, session_id FROM livesync_log WHERE seq_num = ?", (aside,)
            )
            event = LogEvent(last + 1, last, name, args, client_id, session_id)
            changes = self._tables.apply_undoable(event)
            self._execute(_RENUMBER, (event.seq_num, event.parent_seq_num, aside))
            self._execute(_KEEP_CHANGES, (changes, event.seq_num))
            last = event.seq_num

    def _undo(self, after: int) -> None:
        """Take back what the events behind a number did."""
        numbers = "SELECT seq_num FROM livesync_log WHERE seq_num > ? ORDER BY seq_num DESC"
        for (seq_num,) in self._file.rows(numbers, (after,)):
            self._tables.undo(self._file.row("SELECT changes FROM livesync_log WHERE seq_num = ?", (seq_num,))[0])

    def _set_aside(self, after: int) -> None:
        """Give the events behind a number negative ones, so that theirs are free."""
        self._execute("UPDATE livesync_log SET seq_num = -seq_num, changes = NULL WHERE seq_num > ?", (after,))
