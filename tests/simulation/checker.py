"""Is the history of a run one that an append-only log with compare-and-set on its head could have had?

Knows nothing of the server: it is given what the disk held and when, what clients asked and were told, and what reached them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from livesync_trio.model import StoredEvent
from tests.simulation.clients import Attempt, Leader, Violation
from tests.simulation.world import Durable


def check(log: Sequence[StoredEvent], heads: Sequence[Durable], leaders: Iterable[Leader]) -> None:
    """Raise Violation when a promise was broken."""
    contents = [json.loads(event.json)["args"] for event in log]
    _check_chain(log)
    doubled = [content for content, times in Counter(contents).items() if times > 1]
    if doubled:
        raise Violation(f"stored twice: {doubled}")
    position = {content: index for index, content in enumerate(contents)}
    durable_s = _durable_times(log, heads)
    for leader in leaders:
        _check_received(leader, contents, durable_s)
        for attempt in leader.attempts:
            _check_attempt(attempt, position, durable_s, log)
            if attempt.outcome == "ahead":
                _check_refusal(attempt, heads)


def _check_chain(log: Sequence[StoredEvent]) -> None:
    before = 0
    for ordinal, stored in enumerate(log, 1):
        parent = json.loads(stored.json)["parentSeqNum"]
        if parent != before or stored.seq_num <= before or stored.ordinal != ordinal:
            raise Violation(f"the log has e{stored.seq_num} with parent e{parent} after e{before}")
        before = stored.seq_num


def _durable_times(log: Sequence[StoredEvent], heads: Sequence[Durable]) -> list[float]:
    """When each event of the log became durable."""
    times: list[float] = []
    moments = iter(heads)
    moment = next(moments, None)
    for event in log:
        while moment is not None and moment.state.head < event.seq_num:
            moment = next(moments, None)
        if moment is None:
            raise Violation(f"e{event.seq_num} is in the log and was never durable")
        times.append(moment.time_s)
    return times


def _check_received(leader: Leader, contents: Sequence[str], durable_s: Sequence[float]) -> None:
    """What a client has is the beginning of the log, and reached it when it was durable."""
    if leader.contents != list(contents[: len(leader.contents)]):
        raise Violation(f"{leader.name} has something else than the beginning of the log")
    for index, received_s in enumerate(leader.received_s):
        if received_s < durable_s[index]:
            raise Violation(f"{leader.name} got event {index + 1} before it was durable")


def _check_attempt(
    attempt: Attempt, position: dict[str, int], durable_s: Sequence[float], log: Sequence[StoredEvent]
) -> None:
    """An acknowledged batch is in the log, whole, where it was pushed to, and was so when it was acknowledged."""
    if attempt.outcome != "ok":
        return
    places = [position.get(content) for content in attempt.contents]
    first = places[0]
    if first is None or places != list(range(first, first + len(places))):
        raise Violation(f"acknowledged, but not in the log as one piece: {attempt}")
    parent = 0 if first == 0 else log[first - 1].seq_num
    if parent != attempt.parent:
        raise Violation(f"acknowledged at another place than it was pushed to: {attempt}")
    if durable_s[first + len(places) - 1] > attempt.answered_s:
        raise Violation(f"acknowledged before it was durable: {attempt}")


def _check_refusal(attempt: Attempt, heads: Sequence[Durable]) -> None:
    """The head that a refusal quotes was the durable head at some moment between question and answer."""
    for index, moment in enumerate(heads):
        until_s = heads[index + 1].time_s if index + 1 < len(heads) else float("inf")
        if moment.state.head == attempt.head and moment.time_s <= attempt.answered_s and until_s >= attempt.sent_s:
            return
    raise Violation(f"a refusal quotes a head that was none: {attempt}")
