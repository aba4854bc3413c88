"""Is what clients were told true of the disk, and was it true when they were told?

Is given what the disk held and when, what clients asked and were told, and what reached them. Knows nothing of the
server.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence

import attrs
import msgspec

from tests.simulation.disk import History
from tests.simulation.leader import Attempt, Leader, Received, Violation


@attrs.frozen
class Log:
    """One log of the store, looked up by content."""

    history: History
    contents: Sequence[str]
    position: dict[str, int]

    @classmethod
    def of(cls, history: History) -> Log:
        """Check the chain and index it."""
        contents: list[str] = []
        before = 0
        for ordinal, stored in enumerate(history.events, 1):
            event = msgspec.json.decode(stored.json)
            parent = event["parentSeqNum"]
            if parent != before or stored.seq_num <= before or stored.ordinal != ordinal:
                raise Violation(f"the log has e{stored.seq_num} with parent e{parent} after e{before}")
            before = stored.seq_num
            contents.append(event["args"])
        if len(history.durable_s) != len(contents):
            raise Violation(f"{len(contents)} events in the log, {len(history.durable_s)} were ever made durable")
        return cls(history, contents, {content: index for index, content in enumerate(contents)})

    def number(self, count: int) -> int:
        """The head after so many events."""
        return self.history.events[count - 1].seq_num if count else 0


def check(histories: Sequence[History], leaders: Iterable[Leader], *, one_server: bool) -> None:
    """Raise Violation when a promise was broken."""
    logs = {history.backend_id: Log.of(history) for history in histories}
    if len(logs) != len(histories):
        raise Violation("an identity was given twice")
    for log in logs.values():
        doubled = [content for content, times in Counter(log.contents).items() if times > 1]
        if doubled:
            raise Violation(f"stored twice: {doubled}")
    for leader in leaders:
        for received in (*leader.earlier, leader.log):
            if received.backend_id is not None:
                _check_received(leader.name, received, logs[received.backend_id])
        for attempt in leader.attempts:
            log = logs[attempt.backend_id]
            if attempt.outcome == "ok":
                _check_acknowledged(attempt, log)
            elif attempt.outcome == "ahead":
                _check_refused(attempt, log.history, one_server=one_server)


def _check_received(name: str, received: Received, log: Log) -> None:
    """What a client has is the beginning of the log, and reached it when it was durable."""
    if received.contents != log.contents[: len(received.contents)]:
        raise Violation(f"{name} has something else than the beginning of the log")
    for at_s, durable_s in zip(received.at_s, log.history.durable_s, strict=False):
        if at_s < durable_s:
            raise Violation(f"{name} got an event before it was durable")


def _check_acknowledged(attempt: Attempt, log: Log) -> None:
    """An acknowledged batch is in the log, whole, where it was pushed to, and became durable by this very attempt."""
    places = [log.position.get(content) for content in attempt.contents]
    first = places[0]
    if first is None or places != list(range(first, first + len(places))):
        raise Violation(f"acknowledged, but not in the log as one piece: {attempt}")
    if log.number(first) != attempt.parent:
        raise Violation(f"acknowledged at another place than it was pushed to: {attempt}")
    if not attempt.sent_s <= log.history.durable_s[first] <= attempt.answered_s:
        raise Violation(f"acknowledged, but not durable between question and answer: {attempt}")


def _check_refused(attempt: Attempt, history: History, *, one_server: bool) -> None:
    """The head that a refusal quotes was the durable head at some moment between question and answer.

    Of two servers one may quote a head that the other has moved on from since; but never one that was not yet durable.
    """
    heads = [head for _, head in history.heads]
    index = bisect_right(heads, attempt.head) - 1
    from_s = history.heads[index][0]
    until_s = history.heads[index + 1][0] if index + 1 < len(heads) else history.replaced_s
    stale = one_server and until_s < attempt.sent_s
    if heads[index] != attempt.head or from_s > attempt.answered_s or stale:
        raise Violation(f"a refusal quotes a head that was none: {history.heads[index - 1 : index + 2]}, {attempt}")
    if attempt.head == attempt.parent:
        raise Violation(f"a refusal quotes the head that was asked for: {attempt}")
