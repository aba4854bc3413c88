"""What a server has said on one connection, sorted by the request it belongs to.

The recording and the live server are read into the same structure, so that comparing them (equivalence.py) needs no
knowledge of frames. Reading is strict about what a client would choke on: :func:`read` raises :class:`Malformed` on
a live frame that the real client of that generation could not decode (SPEC sections 3.2, 3.6, 4, 5.2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .raw_json import RawText, dumps, loads

CREATED_AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
BROADCASTS = "broadcasts"


class Malformed(Exception):
    """A frame that the real client could not decode."""


@dataclass(frozen=True)
class Event:
    """One event; ``args`` is its exact JSON text, None where the key was absent. ``origin`` is the id of the push
    (0.3 broadcasts)."""

    name: str
    args: str | None
    seq_num: int
    parent_seq_num: int
    client_id: str
    session_id: str
    origin: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a request ended: ``Success``, ``Fail``, ``Interrupt``, ``Die``, ``PushAck``, ``Error`` ... with what a
    client reads of it.

    ``facts`` are compared exactly. ``text`` is prose: a plain string is expected as it is, a pattern must be found
    in it, and None stands for any text that says something.
    """

    kind: str
    facts: tuple[tuple[str, Any], ...] = ()
    text: str | re.Pattern[str] | None = ""


@dataclass(frozen=True)
class Page:
    """The shape of one page: number of events, how many are announced to follow (0 on the last), frame size."""

    events: int
    remaining: int
    frame_bytes: int


@dataclass
class Answer:
    """Everything that was said to one request."""

    events: list[Event] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether the last page said that no more is known."""
        return bool(self.pages) and self.pages[-1].remaining == 0


@dataclass
class Ledger:
    """One connection. ``identify`` gives a server identity its neutral name, so that recorded and live ones compare."""

    identify: Callable[[str], str]
    answers: dict[str, Answer] = field(default_factory=dict)
    pongs: int = 0
    log: list[str] = field(default_factory=list)

    def to(self, request: str) -> Answer:
        return self.answers.setdefault(request, Answer())

    def add(self, text: str, *, strict: bool) -> None:
        """Enter one frame (of either protocol). ``strict`` is for live ones: what no client could decode raises
        Malformed."""
        self.log.append(shorten(text))
        try:
            frame = loads(text, "eventEncoded")
            self.enter(frame, len(text.encode("utf-8", "surrogatepass")), strict=strict)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Malformed(f"{type(error).__name__} {error} in {shorten(text)}") from error

    def add_array(self, text: str) -> None:
        """Enter a live HTTP body: one JSON array of messages. Raises Malformed."""
        self.log.append(shorten(text))
        try:
            frames = loads(text, "eventEncoded")
            if not isinstance(frames, list):
                raise Malformed(f"0.4 reads nothing but an array: {shorten(text)}")
            for frame in frames:
                self.enter(frame, len(dumps(frame).encode("utf-8", "surrogatepass")), strict=True)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Malformed(f"{type(error).__name__} {error} in {shorten(text)}") from error

    def enter(self, frame: dict[str, Any], size: int = 0, *, strict: bool = False) -> None:
        """Enter one parsed frame."""
        tag = frame["_tag"]
        if tag in ("Pong", "WSMessage.Pong"):
            self.pongs += 1
        elif tag.startswith("WSMessage."):
            self._enter_v3(tag, frame, size, strict)
        else:
            self._enter_rpc(tag, frame, size, strict)

    def _enter_rpc(self, tag: str, frame: dict[str, Any], size: int, strict: bool) -> None:
        if tag == "Defect":
            self.to("defect").outcomes.append(Outcome("Defect"))
            return
        request = frame["requestId"]
        answer = self.to(key_of(request))
        if answer.outcomes and strict:
            raise Malformed(f"{tag} after the Exit of {request!r}")
        if tag == "Chunk":
            if not frame["values"]:
                raise Malformed("a Chunk without values")
            for value in frame["values"]:
                events = [_event(item, "SyncMessage.SyncMetadata", strict) for item in value["batch"]]
                answer.events += events
                answer.pages.append(Page(len(events), _remaining(value["pageInfo"]), size))
                self.identify(value["backendId"])
        elif tag == "Exit":
            answer.outcomes.append(self._exit(frame["exit"], is_next=not isinstance(request, str), strict=strict))
        else:
            raise Malformed(f"unknown message {tag}")

    def _exit(self, exit_: dict[str, Any], *, is_next: bool, strict: bool) -> Outcome:
        if exit_["_tag"] == "Success":
            if strict and is_next and "value" not in exit_:
                raise Malformed("the next client needs the key `value`")
            return Outcome("Success", (("value", json.dumps(exit_.get("value"), sort_keys=True)),))
        causes = list(_flat(exit_["cause"]))
        if strict and isinstance(exit_["cause"], list) != is_next:
            raise Malformed("a cause is an array for next and a tree for 0.4")
        kinds = {cause["_tag"] for cause in causes}
        if kinds == {"Interrupt"}:
            return Outcome("Interrupt")
        if len(causes) != 1:
            raise Malformed(f"one cause was expected: {exit_}")
        [cause] = causes
        return self._error(cause["error"]) if cause["_tag"] == "Fail" else Outcome(cause["_tag"])

    def _error(self, error: dict[str, Any]) -> Outcome:
        match error["_tag"]:
            case "UnknownError":
                if error.get("note", "") is None:
                    raise Malformed("`note` must be absent rather than null")
                return Outcome("Fail", (("_tag", "UnknownError"),), _text(error["cause"]))
            case "ServerAheadError":
                facts = {key: error[key] for key in ("_tag", "minimumExpectedNum", "providedNum")}
            case "BackendIdMismatchError":
                expected = self.identify(error["expected"])
                same = error["received"] == error["expected"]  # the client is above the head of this very log
                facts = {
                    "_tag": error["_tag"],
                    "expected": expected,
                    "received": expected if same else error["received"],
                }
            case other:
                raise Malformed(f"{other} is no error of this RPC")
        return Outcome("Fail", tuple(sorted(facts.items())))

    def _enter_v3(self, tag: str, frame: dict[str, Any], size: int, strict: bool) -> None:
        request = frame["requestId"]
        kind = tag.removeprefix("WSMessage.")
        if kind == "PullRes":
            origin = request["requestId"] if request["context"] == "push" else ""
            answer = self.to(BROADCASTS if request["context"] == "push" else request["requestId"])
            events = [_event(item, "", strict, origin) for item in frame["batch"]]
            answer.events += events
            answer.pages.append(Page(len(events), _whole(frame["remaining"]), size))
            return
        answer = self.to(request)
        match kind:
            case "PushAck" | "AdminResetRoomRes":
                if any(event.origin == request for event in self.to(BROADCASTS).events) and strict:
                    raise Malformed("0.3 wants the PushAck before the broadcast on the pushing socket")
                answer.outcomes.append(Outcome(kind))
            case "Error":
                answer.outcomes.append(Outcome(kind, text=frame["message"]))
            case "AdminInfoRes":
                if re.fullmatch("[0-9a-f]{64}", frame["info"]["durableObjectId"]) is None:
                    raise Malformed("durableObjectId is 64 hex digits")
                answer.outcomes.append(Outcome(kind))
            case _:
                raise Malformed(f"unknown message {tag}")


def key_of(request_id: str | int) -> str:
    """A request id with its JSON type: the next client matches ids by strict equality (SPEC section 4)."""
    return json.dumps(request_id)


def shorten(text: str, limit: int = 400) -> str:
    """Text for a failure report."""
    return text if len(text) <= limit else f"{text[: limit * 2 // 3]} …[{len(text)}]… {text[-limit // 3 :]}"


def _event(item: dict[str, Any], metadata_tag: str, strict: bool, origin: str = "") -> Event:
    raw = item["eventEncoded"]
    fields = loads(raw.text if isinstance(raw, RawText) else dumps(raw), "args")
    metadata = item["metadata"]["value"]
    if metadata.get("_tag", "") != metadata_tag and metadata_tag:
        raise Malformed(f"metadata of RPC carry a _tag: {metadata}")
    if CREATED_AT.fullmatch(metadata["createdAt"]) is None:
        raise Malformed(f"createdAt: {metadata['createdAt']!r}")
    if strict and "args" not in fields:
        raise Malformed("the next client refuses an event without `args`")
    extra = fields.keys() - {"name", "args", "seqNum", "parentSeqNum", "clientId", "sessionId"}
    if extra:
        raise Malformed(f"unknown event fields are dropped by the server: {extra}")
    args = fields.get("args")
    return Event(
        name=fields["name"],
        args=args.text if isinstance(args, RawText) else None,
        seq_num=_whole(fields["seqNum"]),
        parent_seq_num=_whole(fields["parentSeqNum"]),
        client_id=fields["clientId"],
        session_id=fields["sessionId"],
        origin=origin,
    )


def _remaining(page_info: dict[str, Any]) -> int:
    match page_info["_tag"]:
        case "NoMore":
            return 0
        case "MoreKnown":
            return _whole(page_info["remaining"])
        case other:
            raise Malformed(f"page info {other}")


def _whole(number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise Malformed(f"a whole number was expected: {number!r}")
    return number


def _flat(cause: Any) -> list[dict[str, Any]]:
    """The leaves of a cause: a tree in 0.4, an array in next."""
    if isinstance(cause, list):
        return cause
    match cause["_tag"]:
        case "Empty":
            return []
        case "Sequential" | "Parallel":
            return _flat(cause["left"]) + _flat(cause["right"])
        case _:
            return [cause]


def _text(cause: Any) -> str | re.Pattern[str] | None:
    """The prose of an UnknownError: next's server wraps what a hook threw once more, and the innermost text is what
    counts."""
    if isinstance(cause, dict):
        if not isinstance(cause["name"], str):
            raise Malformed(f"the name of an error is a string: {cause}")
        return _text(cause["cause"]) if "cause" in cause else _text(cause["message"])
    if cause is None or isinstance(cause, str | re.Pattern):
        return cause
    raise Malformed(f"the cause of an UnknownError is a string or an error: {cause!r}")
