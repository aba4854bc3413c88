"""What a row of the table can say about a recording: what we answer instead, and what has to be made ready first.

A change edits the script before it is replayed, so what it says is *asserted*: a server that answers as recorded
fails the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from .answers import Closes, Ids, broadcast_v3, page
from .raw_json import RawText, dumps, loads
from .script import Drop, Exchange, Expect, ExpectClose, Frame, Leave, Note, Open, PushAside, Send, Step

Edit = Callable[[list[Step]], list[Step]]


@dataclass(frozen=True)
class Change:
    """An edit of the script. One that only ``prepares`` (supplies what the recording leaves out) changes no answer."""

    edit: Edit
    prepares: bool = False


@dataclass(frozen=True)
class Echo:
    """The events of recorded pushes, sent back: as a page of pull ``request``, or where that is None as a broadcast."""

    request: Ids | None
    pushes: tuple[Ids, ...]

    def frame(self, steps: list[Step], conn: int) -> Frame:
        """The message, for ``conn``; a push that was not sent on it is looked for on the others."""
        events = [event for push in self.pushes for event in _pushed_events(_find(steps, push, conn, elsewhere=True))]
        return broadcast_v3(str(self.pushes[0]), *events) if self.request is None else page(self.request, *events)


Outcome = Frame | Closes | Echo


def echo(request: Ids | None, *pushes: Ids) -> Echo:
    return Echo(request, pushes)


def after(conn: int, nth: int, *outcomes: Outcome, elsewhere: Iterable[tuple[int, Outcome]] = ()) -> Change:
    """Between the ``nth`` frame sent on ``conn`` and the next one there exactly ``outcomes`` come, not as recorded.

    ``elsewhere`` comes at the same time on other connections, in addition to what is recorded there.
    """

    def edit(steps: list[Step]) -> list[Step]:
        start = index_of(steps, lambda step: isinstance(step, Send) and (step.conn, step.nth) == (conn, nth))
        later = range(start + 1, len(steps))
        end = next(
            (i for i in later if isinstance(steps[i], Send | Leave | Drop) and getattr(steps[i], "conn", 0) == conn),
            len(steps),
        )
        kept = [step for step in steps[start + 1 : end] if not (isinstance(step, Expect) and step.conn == conn)]
        new = [_step(steps, conn, outcome) for outcome in outcomes] + [
            _step(steps, other, outcome) for other, outcome in elsewhere
        ]
        return [*steps[: start + 1], *new, *kept, *steps[end:]]

    return Change(edit)


def to(conn: int, request: Ids, *outcomes: Outcome, elsewhere: Iterable[tuple[int, Outcome]] = ()) -> Change:
    """:func:`after`, for the frame that carries this request."""
    return Change(
        lambda steps: after(conn, _find(steps, request, conn).nth, *outcomes, elsewhere=elsewhere).edit(steps)
    )


def _step(steps: list[Step], conn: int, outcome: Outcome) -> Step:
    if isinstance(outcome, Closes):
        return ExpectClose(conn, outcome.codes)
    return Expect(conn, outcome.frame(steps, conn) if isinstance(outcome, Echo) else outcome)


def without_acks() -> Change:
    """The client never acknowledges anything."""
    return Change(lambda steps: [s for s in steps if not (isinstance(s, Send) and '"_tag":"Ack"' in str(s.data))])


def close_answered() -> Change:
    """Nothing to edit, as every Close has to be answered: marks the row whose recording is about just that."""
    return Change(lambda steps: steps)


def status(conns: int | Iterable[int], *codes: int) -> Change:
    """The handshakes of these connections are answered with one of these statuses."""

    def edit(steps: list[Step]) -> list[Step]:
        for conn in [conns] if isinstance(conns, int) else conns:
            steps = replaced(steps, _opening(steps, conn), statuses=frozenset(codes))
        return steps

    return Change(edit)


def reply(conn: int, code: int | Iterable[int], *frames: Frame) -> Change:
    """The HTTP request is answered with this status and exactly these messages (none: the body is not RPC)."""
    codes = frozenset([code] if isinstance(code, int) else code)
    return Change(lambda steps: replaced(steps, _exchange(steps, conn), statuses=codes, frames=frames or None))


# ---- preparation: what the recording leaves out


def seeded(*conns: int) -> Change:
    """Before each of these connections opens, the history that its first pull found is pushed (the recording began
    after that). The batches are cut where ``createdAt`` changes, as it has one value for a whole batch."""

    def edit(steps: list[Step]) -> list[Step]:
        for conn in conns:
            at = _opening(steps, conn)
            opening = steps[at]
            assert isinstance(opening, Open)
            asides = [
                PushAside(opening.path, f"seed{number}", tuple(batch))
                for number, batch in enumerate(_first_history(steps, conn).values())
            ]
            steps = [*steps[:at], *asides, *steps[at:]]
        return steps

    return Change(edit, prepares=True)


def _first_history(steps: list[Step], conn: int) -> dict[str, list[RawText]]:
    """The events that the first pull with any on this connection got as its history, by ``createdAt``."""
    pages = [step.frame for step in steps if isinstance(step, Expect) and step.conn == conn and _batch(step.frame)]
    found: dict[str, list[RawText]] = {}
    for frame in pages:
        if _request_of(frame) == _request_of(pages[0]):
            for item in _batch(frame):
                found.setdefault(item["metadata"]["value"]["createdAt"], []).append(item["eventEncoded"])
            if _is_last(frame):
                break
    return found


def pushed_aside(note: str, request: str, *events: RawText) -> Change:
    """At this note, somebody whom the recording does not show pushes ``events``."""

    def edit(steps: list[Step]) -> list[Step]:
        at = index_of(steps, lambda step: isinstance(step, Note) and step.text.startswith(note))
        path = next(step.path for step in steps if isinstance(step, Open))
        return [*steps[: at + 1], PushAside(path, request, events), *steps[at + 1 :]]

    return Change(edit, prepares=True)


def index_of(steps: list[Step], wanted: Callable[[Step], bool]) -> int:
    """Where the step is; a change that points at nothing is a mistake in the table."""
    return next(index for index, step in enumerate(steps) if wanted(step))


def replaced(steps: list[Step], at: int, **fields: Any) -> list[Step]:
    """The script with some fields of one step exchanged."""
    return [*steps[:at], replace(steps[at], **fields), *steps[at + 1 :]]


def _find(steps: list[Step], request: Ids, conn: int, *, elsewhere: bool = False) -> Send:
    """The frame that carries a request (``id`` in RPC, ``requestId`` in 0.3), on ``conn`` first."""
    found = [step for step in steps if isinstance(step, Send) and _carries(step, request)]
    here = [step for step in found if step.conn == conn]
    return (here or (found if elsewhere else []))[0]


def _carries(step: Send, request: Ids) -> bool:
    try:
        frame = loads(str(step.data), "payload", "batch")
    except ValueError:
        return False
    return isinstance(frame, dict) and request in (
        frame.get("id"),
        "WSMessage" in str(frame.get("_tag")) and frame.get("requestId"),
    )


def _pushed_events(push: Send) -> list[RawText]:
    """The events of a push, each as the exact text that was sent."""
    frame = loads(str(push.data), "args")
    batch = frame["payload"]["batch"] if "payload" in frame else frame["batch"]
    return [RawText(dumps(event)) for event in batch]


def _batch(frame: Frame) -> list[Frame]:
    return [item for value in frame.get("values", ()) for item in value["batch"]] + list(frame.get("batch", ()))


def _is_last(frame: Frame) -> bool:
    return all(value["pageInfo"]["_tag"] == "NoMore" for value in frame.get("values", ())) and not frame.get(
        "remaining"
    )


def _request_of(frame: Frame) -> Any:
    request = frame["requestId"]
    return request["requestId"] if isinstance(request, dict) else request


def _opening(steps: list[Step], conn: int) -> int:
    return index_of(steps, lambda step: isinstance(step, Open) and step.conn == conn)


def _exchange(steps: list[Step], conn: int) -> int:
    return index_of(steps, lambda step: isinstance(step, Exchange) and step.conn == conn)
