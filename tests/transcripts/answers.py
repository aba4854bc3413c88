"""What we answer instead of what was recorded: the messages, in short, for the tables.

Texts and identities are placeholders where a table does not care: ``None`` for any text, a pattern for one to be found.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from .raw_json import RawText
from .script import Frame

Ids = str | int
THIS_STORE = "the identity of this store"
CREATED_AT = "2026-01-01T00:00:00.000Z"
BAD_FRAME_CODES = frozenset({1003, 1007, 1008})


@dataclass(frozen=True)
class Closes:
    """We close the connection with one of these codes; the client reconnects for what it still has to send."""

    codes: frozenset[int]


def closes(*codes: int) -> Closes:
    return Closes(frozenset(codes) or BAD_FRAME_CODES)


def pong_v3() -> Frame:
    return {"_tag": "WSMessage.Pong", "requestId": "ping"}


def done(request: Ids, value: Any = None) -> Frame:
    """The Exit of a finished pull, or with ``value={}`` of an accepted push."""
    return {"_tag": "Exit", "requestId": request, "exit": {"_tag": "Success", "value": value}}


def pushed(request: Ids) -> Frame:
    return done(request, {})


def failed(request: Ids, cause: Frame) -> Frame:
    return {
        "_tag": "Exit",
        "requestId": request,
        "exit": {"_tag": "Failure", "cause": [cause] if isinstance(request, int) else cause},
    }


def refused(request: Ids, text: str | None = None) -> Frame:
    """Exit Fail UnknownError; ``text`` is a pattern to be found in what it says, None for any text."""
    message = None if text is None else re.compile(text)
    return failed(
        request, {"_tag": "Fail", "error": {"_tag": "UnknownError", "cause": {"name": "Error", "message": message}}}
    )


def ahead(request: Ids, head: int, provided: int) -> Frame:
    error = {"_tag": "ServerAheadError", "minimumExpectedNum": head, "providedNum": provided}
    return failed(request, {"_tag": "Fail", "error": error})


def above_the_head(request: Ids, identity: str) -> Frame:
    """Exit Fail BackendIdMismatchError with the log's own identity, as recorded: the client starts over."""
    error = {"_tag": "BackendIdMismatchError", "expected": identity, "received": identity}
    return failed(request, {"_tag": "Fail", "error": error})


def interrupted(request: Ids) -> Frame:
    return failed(request, {"_tag": "Interrupt", "fiberId": None})


def defect() -> Frame:
    """Only over HTTP, where a body that names no request can be answered in no other way."""
    return {"_tag": "Defect", "defect": None}


def todo(seq: int, parent: int, text: str = "") -> RawText:
    """The event that the capture scripts push, as JSON text."""
    args = json.dumps(
        {"id": f"e{text or seq}", "text": f"Event {text or seq}", "completed": False}, separators=(",", ":")
    )
    ends = f'"seqNum":{seq},"parentSeqNum":{parent},"clientId":"client-a","sessionId":"session-a"'
    return RawText(f'{{"name":"todoCreated","args":{args},{ends}}}')


def page(request: Ids, *events: RawText) -> Frame:
    """The last page of a pull, or a live chunk."""
    metadata = {"_tag": "Some", "value": {"_tag": "SyncMessage.SyncMetadata", "createdAt": CREATED_AT}}
    batch = [{"eventEncoded": event, "metadata": metadata} for event in events]
    return {
        "_tag": "Chunk",
        "requestId": request,
        "values": [{"batch": batch, "pageInfo": {"_tag": "NoMore"}, "backendId": THIS_STORE}],
    }


def pulled_v3(request: str, *events: RawText, context: str = "pull") -> Frame:
    metadata = {"_tag": "Some", "value": {"createdAt": CREATED_AT}}
    batch = [{"eventEncoded": event, "metadata": metadata} for event in events]
    return {
        "_tag": "WSMessage.PullRes",
        "batch": batch,
        "requestId": {"context": context, "requestId": request},
        "remaining": 0,
    }


def broadcast_v3(request: str, *events: RawText) -> Frame:
    return pulled_v3(request, *events, context="push")


def ack_v3(request: str) -> Frame:
    return {"_tag": "WSMessage.PushAck", "requestId": request}


def error_v3(request: str, text: str | None = None) -> Frame:
    """``text`` is a pattern to be found in the message, None for any."""
    return {"_tag": "WSMessage.Error", "requestId": request, "message": None if text is None else re.compile(text)}
