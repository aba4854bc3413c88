"""Could the history that clients saw have come from one append-only log with compare-and-set on its head?

Independent of the disk and its clock: looks at what clients asked, when they asked and when they were answered, and
at the order of events they all agree on. For an operation there must be a moment between question and answer at which
it happened; with the order of the log given, that means that real time never contradicts it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import attrs

from tests.simulation.checker import Log
from tests.simulation.disk import History
from tests.simulation.leader import Attempt, Leader, Violation


@attrs.define
class _Known:
    """What clients know of each event of a log, by its position.

    Attributes:
        asked_s: when somebody first asked to store it: it cannot be there before.
        seen_s: when somebody first learned that it is there, by an acknowledgement or a pull: it is there from then on.
    """

    asked_s: list[float]
    seen_s: list[float]


def check_linearizable(histories: Sequence[History], leaders: Iterable[Leader], others: Iterable[Attempt] = ()) -> None:
    """Raise Violation when no order of the operations explains what clients were told. `others`: of programs."""
    everybody = list(leaders)
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for leader in everybody:
        for attempt in leader.attempts:
            attempts[attempt.backend_id].append(attempt)
    for attempt in others:
        attempts[attempt.backend_id].append(attempt)
    for history in histories:
        log = Log.of(history)
        known = _what_is_known(log, attempts[history.backend_id], everybody)
        _check_order(known)
        for attempt in attempts[history.backend_id]:
            if attempt.outcome == "ahead":
                _check_refusal(log, known, attempt)
        for leader in everybody:
            _check_reads(leader, history.backend_id, known)


def _what_is_known(log: Log, attempts: Sequence[Attempt], leaders: Sequence[Leader]) -> _Known:
    known = _Known([math.inf] * len(log.contents), [math.inf] * len(log.contents))
    for attempt in attempts:
        for content in attempt.contents:
            index = log.position.get(content)
            if index is not None:
                known.asked_s[index] = min(known.asked_s[index], attempt.sent_s)
                if attempt.outcome == "ok":
                    known.seen_s[index] = min(known.seen_s[index], attempt.answered_s)
    for leader in leaders:
        for received in (*leader.earlier, leader.log):
            if received.backend_id == log.history.backend_id:
                for index, at_s in enumerate(received.at_s):
                    known.seen_s[index] = min(known.seen_s[index], at_s)
    return known


def _check_order(known: _Known) -> None:
    """Nothing stands before an event that was asked for only after that event had been seen."""
    seen_behind_s = math.inf
    for index in reversed(range(len(known.asked_s))):
        seen_behind_s = min(seen_behind_s, known.seen_s[index])
        if known.asked_s[index] > seen_behind_s:
            raise Violation(f"event {index + 1} was put before what had been seen already")


def _check_refusal(log: Log, known: _Known, attempt: Attempt) -> None:
    """Its head was there before the answer, and nothing behind it had been seen before the question."""
    numbers = [0, *(event.seq_num for event in log.history.events)]
    if attempt.head not in numbers:
        raise Violation(f"a refusal quotes a head that nobody ever stored: {attempt}")
    count = numbers.index(attempt.head)
    if count and known.asked_s[count - 1] > attempt.answered_s:
        raise Violation(f"a refusal quotes a head from the future: {attempt}")
    if any(seen_s < attempt.sent_s for seen_s in known.seen_s[count:]):
        raise Violation(f"a refusal quotes a head from the past: {attempt}")


def _check_reads(leader: Leader, backend_id: str, known: _Known) -> None:
    """Once a pull says that there is no more, it has brought everything that was seen before it was asked."""
    for read in leader.reads:
        if read.backend_id == backend_id and any(seen_s < read.asked_s for seen_s in known.seen_s[read.count :]):
            left_out = known.seen_s[read.count : read.count + 3]
            raise Violation(f"{leader.name}: a pull ended and left out what had been seen at {left_out}: {read}")
