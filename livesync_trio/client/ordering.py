"""Order out of whatever arrives: strictly ascending, no gap, no duplicate, over any number of connections.

Owns `Order`, which knows where a pull stands. Pure: it neither waits nor sends.
"""

import enum
from typing import Final

import attrs

from livesync_trio.client.failures import BackendIdMismatch, LogBroken, LogGone
from livesync_trio.client.limits import CLIENT_RECENT_EVENTS, CLIENT_STASH_BYTES, CLIENT_STASH_EVENTS
from livesync_trio.model import ROOT_SEQ_NUM
from livesync_trio.wire.answers import Event, PulledPage


@attrs.frozen
class Position:
    """Where a client stands in a log.

    Attributes:
        seq_num: number of the last event it has, 0 for none.
        backend_id: identity under which it got that; None where it knows none.
    """

    seq_num: int = ROOT_SEQ_NUM
    backend_id: str | None = None


START: Final = Position()


@attrs.frozen
class Page:
    """A run of events in the order of the log.

    Attributes:
        events: strictly ascending, each the successor of the one before; empty when a pull finds nothing new.
        remaining: how many more the server had, when it answered; 0 for what was pushed since.
        backend_id: identity of the store; None where the generation has none (0.3).
        head: number of the last event up to here.
        restarted: the store was reset or replaced: forget what came before this page.
    """

    events: tuple[Event, ...]
    remaining: int
    backend_id: str | None
    head: int
    restarted: bool = False

    @property
    def position(self) -> Position:
        """Where a client stands that has taken this page in."""
        return Position(self.head, self.backend_id)


class _Phase(enum.Enum):
    """What is expected of a pull."""

    ANSWER = enum.auto()
    """The history: what cannot be its continuation came too early."""
    FOLLOWING = enum.auto()
    """What is pushed since."""


def _print_of(event: Event) -> int:
    """By what an event is known again."""
    return hash((event.parent_seq_num, event.name, event.client_id, event.session_id, event.args))


class Order:
    """Where a pull stands, and what arrived too early.

    `begin` is called for each new request, `take` with each page of it, until `hole` says that another one is needed.
    """

    def __init__(self, position: Position = START) -> None:
        """`position`: the last event that the client has."""
        self.head = position.seq_num
        self.backend_id = position.backend_id
        self._start = position.seq_num
        self._phase = _Phase.ANSWER
        self._stash: dict[int, Event] = {}
        self._stash_bytes = 0
        self._overflowed = False
        self._recent: dict[int, tuple[int, int]] = {}  # of logs without identity: parent and print
        self._overlap = False

    @property
    def waits(self) -> bool:
        """Whether something came that its predecessors must come for."""
        return bool(self._stash) or self._overflowed

    @property
    def answered(self) -> bool:
        """Whether the history has come as a whole."""
        return self._phase is _Phase.FOLLOWING

    def begin(self) -> int:
        """A new request is about to be made; gives the event after which it must ask."""
        self._phase = _Phase.ANSWER
        self._forget()
        last = self._recent.get(self.head)
        self._overlap = last is not None
        # A log without identity is asked for the last event once more, to see that it is the same log.
        return self.head if last is None else last[0]

    def take(self, page: PulledPage) -> list[Event]:
        """Take a page in; gives the events whose turn it is.

        Raises:
            BackendIdMismatch: it is of another log than the position.
            LogBroken: it contradicts what came before.
            LogGone: so does it, and the generation has no identities by which a reset could be told.
        """
        self._check_identity(page.backend_id)
        if self._phase is _Phase.ANSWER:
            return self._take_answer(page)
        events: list[Event] = []
        self._overflowed = not all(self._accept(event, events) for event in page.events)
        return events

    def _take_answer(self, page: PulledPage) -> list[Event]:
        events: list[Event] = []
        early = not page.asked_for  # a broadcast before the answer belongs behind it (SPEC 5.3)
        for event in page.events:
            if early or not self._accept(event, events):
                early = True
                self._stash_away(event)
        if early and page.remaining:
            raise LogBroken(f"Events are missing between e{self.head} and e{page.events[-1].seq_num}.")
        if not early and not page.remaining:
            self._end_answer(events)
        return events

    def _end_answer(self, events: list[Event]) -> None:
        """The history is whole: what came early follows it."""
        if self._overlap:
            raise LogGone(f"The log that had e{self.head} is gone.")
        self._phase = _Phase.FOLLOWING
        stashed, overflowed = self._stash, self._overflowed
        self._forget()
        for number in sorted(stashed):
            if not self._accept(stashed[number], events):
                overflowed = True
                break
        self._overflowed = overflowed

    @property
    def hole(self) -> bool:
        """Whether predecessors are missing that will not come by themselves: pull again from `head`."""
        return self.answered and self._overflowed

    def _accept(self, event: Event, events: list[Event]) -> bool:
        """Whether an event is dealt with: it was next, or known; not when its predecessors are missing."""
        if event.seq_num <= self.head:
            self._check_known(event)
            return True
        if event.parent_seq_num == self.head and not self._overlap:
            self.head = event.seq_num
            if self.backend_id is None:
                self._remember(event)
            events.append(event)
            return True
        if event.parent_seq_num < self.head or self._overlap:
            raise self._contradicted(f"e{event.seq_num} follows e{event.parent_seq_num}, e{self.head} was expected.")
        return False

    def _contradicted(self, what: str) -> LogBroken:
        return LogBroken(what) if self.backend_id is not None else LogGone(what)

    def _check_identity(self, backend_id: str | None) -> None:
        if self.backend_id is None:
            self.backend_id = backend_id
        elif backend_id is not None and backend_id != self.backend_id:
            raise BackendIdMismatch("The store was reset or replaced.", backend_id, self.backend_id)

    def _check_known(self, event: Event) -> None:
        """Whether an event that we have is the one that we have, as far as we know. Raises LogBroken."""
        if self.backend_id is not None:
            return
        known = self._recent.get(event.seq_num)
        anew = known is None and event.parent_seq_num == ROOT_SEQ_NUM and event.seq_num != self._start
        if anew or (known is not None and known[1] != _print_of(event)):
            raise LogGone(f"The log that had e{self.head} is gone: another e{event.seq_num} came.")
        if event.seq_num == self.head:
            self._overlap = False

    def _remember(self, event: Event) -> None:
        self._recent[event.seq_num] = event.parent_seq_num, _print_of(event)
        if len(self._recent) > CLIENT_RECENT_EVENTS:
            del self._recent[next(iter(self._recent))]

    def _stash_away(self, event: Event) -> None:
        self._stash_bytes += len(event.args)
        if len(self._stash) >= CLIENT_STASH_EVENTS or self._stash_bytes > CLIENT_STASH_BYTES:
            self._overflowed = True
        else:
            self._stash[event.seq_num] = event

    def _forget(self) -> None:
        self._stash = {}
        self._stash_bytes = 0
        self._overflowed = False
