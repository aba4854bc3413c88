"""The way of a push, stage by stage, for whoever wants to know: the log at DEBUG, and traces.

Nobody wants to know in general. Then no push carries marks, and the modules on its way only see that there are none.
"""

import time
from collections.abc import Callable

import attrs

from livesync_trio.telemetry.logs import get_logger

_log = get_logger("telemetry")
_NS_PER_MS = 1_000_000


class Marks:
    """When a push passed which stage, in nanoseconds since 1970; 0 for a stage that it has not passed."""

    __slots__ = ("admitted_ns", "durable_ns", "published_ns", "received_ns", "taken_ns")

    def __init__(self) -> None:
        """It was just received."""
        self.received_ns = time.time_ns()
        self.taken_ns = self.admitted_ns = self.durable_ns = self.published_ns = 0


@attrs.frozen
class PushStory:
    """What became of one push.

    Attributes:
        marks: its stages.
        ended_ns: when it was answered.
        store_id: its store.
        request: its request id.
        peer: address of the client.
        generation: of the client.
        transport: `websocket` or `http`.
        events: how many it brought.
        outcome: `stored`, or the kind of the refusal.
        trace: trace id, span id and whether it is sampled, of the client's own span; None if it sent none.
    """

    marks: Marks
    ended_ns: int
    store_id: str
    request: str
    peer: str
    generation: str
    transport: str
    events: int
    outcome: str
    trace: tuple[str, str, bool] | None

    @property
    def duration_ms(self) -> float:
        """From when it was received to its answer."""
        return (self.ended_ns - self.marks.received_ns) / _NS_PER_MS

    @property
    def commit_ms(self) -> float | None:
        """What of it the disk took; None for a push that did not get there."""
        marks = self.marks
        return (marks.durable_ns - marks.admitted_ns) / _NS_PER_MS if marks.durable_ns else None


class PushWatch:
    """Whoever wants to know."""

    __slots__ = ("_tell", "on")

    def __init__(self) -> None:
        """Nobody, until `tell` is given somebody."""
        self.on = False
        """Whether pushes are to be marked."""
        self._tell: tuple[Callable[[PushStory], None], ...] = ()

    def tell(self, *listeners: Callable[[PushStory], None]) -> None:
        """Tell these from now on, instead of those before. They are called in the Trio thread and must not wait."""
        self._tell = listeners
        self.on = bool(listeners)

    def ended(self, story: PushStory) -> None:
        """A push is being answered. Never raises: that would fail a store whose push is durable already.

        A listener that fails is left out from then on, until others are named (`reloading`).
        """
        for tell in self._tell:
            try:
                tell(story)
            except Exception as error:
                _log.error("listener to pushes failed", store=story.store_id, exc_info=error)
                self.tell(*(other for other in self._tell if other is not tell))
