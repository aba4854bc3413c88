"""Events as a client pushes them, and as it gets them back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from livesync_trio.client import Event

JsonObject = dict[str, Any]


def event(seq_num: int, parent_seq_num: int, **fields: Any) -> JsonObject:
    """One event to push; any field may be given.

    ``args_text`` is JSON text that only JavaScript parses; ``without_args=True`` pushes ``undefined``.
    """
    args_text = fields.pop("args_text", None)
    without_args = fields.pop("without_args", False)
    pushed: JsonObject = {
        "name": "todoCreated",
        "args": {"id": f"e{seq_num}", "text": f"Event {seq_num}", "completed": False},
        "seqNum": seq_num,
        "parentSeqNum": parent_seq_num,
        "clientId": "client-a",
        "sessionId": "session-a",
        **fields,
    }
    if without_args or args_text is not None:
        del pushed["args"]
    if args_text is not None:
        pushed["argsText"] = args_text
    return pushed


def chain(first: int, count: int, **fields: Any) -> list[JsonObject]:
    """``count`` events numbered from ``first`` on, each the parent of the next."""
    return [event(seq_num, seq_num - 1, **fields) for seq_num in range(first, first + count)]


def python_events(pushed: Sequence[JsonObject]) -> list[Event]:
    """The same events for the client in Python."""
    return [
        Event(
            one["seqNum"],
            one["parentSeqNum"],
            one["name"],
            json.dumps(one["args"]).encode(),
            one["clientId"],
            one["sessionId"],
        )
        for one in pushed
    ]


@dataclass(frozen=True)
class PulledEvent:
    """An event as the real client delivered it; ``args`` is the JSON text JavaScript makes of it, None if undefined."""

    name: str
    args: str | None
    seq_num: int
    parent_seq_num: int
    client_id: str
    session_id: str
    created_at: str | None

    @classmethod
    def decode(cls, fields: JsonObject) -> PulledEvent:
        """From a driver's line."""
        return cls(
            name=fields["name"],
            args=fields["args"],
            seq_num=fields["seqNum"],
            parent_seq_num=fields["parentSeqNum"],
            client_id=fields["clientId"],
            session_id=fields["sessionId"],
            created_at=fields["createdAt"],
        )


@dataclass(frozen=True)
class Page:
    """One item of a pull: ``remaining`` counts what follows it, 0 on the last page in every generation."""

    events: tuple[PulledEvent, ...]
    remaining: int | None

    @classmethod
    def decode(cls, fields: JsonObject) -> Page:
        """From a driver's line."""
        return cls(tuple(PulledEvent.decode(each) for each in fields["events"]), fields["remaining"])


def flatten(pages: Sequence[Page]) -> list[PulledEvent]:
    """All events of some pages, in order."""
    return [each for page in pages for each in page.events]


def numbers(pages: Sequence[Page]) -> list[int]:
    """The sequence numbers of all events of some pages, in order."""
    return [each.seq_num for each in flatten(pages)]
