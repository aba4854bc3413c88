"""A recording as a script: steps for the replay to take, in recorded order, and what is expected in between.

Making the script applies the free rules that concern *when* something may be expected (nothing after a client's
Close), and finds the recorded deviations that several transcripts share. A transcript with such a deviation cannot
be called ``same``: its row in the table has to name it (table.py), so no difference passes in silence.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from .ledger import key_of
from .raw_json import RawText, dumps, loads
from .recording import Record, store_in_url

Frame = dict[str, Any]

DEVIATIONS = {
    "late-chunk": "The reference goes on sending every push to pulls that have ended or were refused (SPEC 7, 0.4 "
    "no. 5). We send nothing for a request after its Exit.",
    "args-null": "The reference forwards an event without `args` as it came and reads it back as null (SPEC 7, 0.4 "
    'no. 12). We always send `"args":null`, which every generation can read.',
    "held-exit": "The reference holds the Exit of a finished pull back until the last Ack, here for ever (SPEC 3.3). "
    "We send it at once, Acks are not needed.",
}


@dataclass(frozen=True)
class Open:
    """A WebSocket handshake. ``statuses``: what the server may answer; 101 opens the connection."""

    conn: int
    path: str
    headers: tuple[tuple[str, str], ...]
    statuses: frozenset[int]


@dataclass(frozen=True)
class Send:
    """A frame of the client, the ``nth`` (from 0) on its connection; bytes are a binary frame."""

    conn: int
    data: str | bytes
    nth: int


@dataclass(frozen=True)
class Expect:
    """A frame of the server."""

    conn: int
    frame: Frame


@dataclass(frozen=True)
class ExpectClose:
    """The server closes the connection with one of these codes. The client comes back when it has something to send."""

    conn: int
    codes: frozenset[int]


@dataclass(frozen=True)
class Leave:
    """The client closes; the server has to answer the Close frame."""

    conn: int
    code: int


@dataclass(frozen=True)
class Drop:
    """The connection is torn off, without a Close frame."""

    conn: int


@dataclass(frozen=True)
class Exchange:
    """One HTTP request and its answer. ``frames`` is None where the answer is not an array of RPC messages."""

    conn: int
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: str
    statuses: frozenset[int]
    frames: tuple[Frame, ...] | None


@dataclass(frozen=True)
class PushAside:
    """A push by somebody the recording does not show (it began later, or showed one side only)."""

    path: str
    request: str
    events: tuple[RawText, ...]


@dataclass(frozen=True)
class Note:
    """A remark of the capture script: a place that a change can refer to."""

    text: str


Step = Open | Send | Expect | ExpectClose | Leave | Drop | Exchange | PushAside | Note


def steps_of(records: list[Record]) -> list[Step]:
    """The script of a recording, as recorded."""
    sent: dict[int, int] = {}
    answers = {
        record.conn: record
        for record in records
        if record.direction == "s2c" and record.kind in ("upgrade", "http-response")
    }
    refused = {record.conn for record in records if record.kind == "refused-by-proxy"}
    steps: list[Step] = []
    for record in records:
        if record.conn in refused:
            continue
        match record.direction, record.kind:
            case "c2s", "upgrade":
                steps.append(Open(record.conn, record.path, record.headers, frozenset({answers[record.conn].status})))
            case "c2s", "ws-text" | "ws-binary":
                nth = sent[record.conn] = sent.get(record.conn, -1) + 1
                data = base64.b64decode(record.data) if record.kind == "ws-binary" else record.data
                steps.append(Send(record.conn, data, nth))
            case "s2c", "ws-text":
                steps.append(Expect(record.conn, loads(record.data, "eventEncoded")))
            case "c2s", "ws-close":
                steps.append(Drop(record.conn) if record.code == 1006 else Leave(record.conn, record.code))
            case "s2c", "dropped-by-proxy":
                steps.append(Drop(record.conn) if record.data == "terminate" else Leave(record.conn, int(record.data)))
            case "c2s", "http-request":
                steps.append(_exchange(record, answers[record.conn]))
            case "note", "note":
                steps.append(Note(record.data))
            case "s2c", "upgrade" | "http-response" | "ws-close":
                pass  # part of Open and Exchange; every Close of ours is answered, recorded or not
            case other:
                raise AssertionError(f"line {record.line}: {other} has no meaning for the replay")
    return list(_without_what_follows_a_close(steps))


def _exchange(request: Record, answer: Record) -> Exchange:
    is_json = dict(answer.headers).get("content-type", "").startswith("application/json")
    frames = tuple(loads(answer.data, "eventEncoded")) if is_json else None
    return Exchange(
        request.conn, request.method, request.path, request.headers, request.data, frozenset({answer.status}), frames
    )


def _without_what_follows_a_close(steps: list[Step]) -> Iterator[Step]:
    """Nothing is owed after a Close. Only the answer to an Interrupt sent before it is expected, ahead of the Close."""
    gone: set[int] = set()
    interrupted: set[tuple[int, str]] = set()
    for number, step in enumerate(steps):
        if isinstance(step, Send):
            interrupted |= {(step.conn, request) for request in _interrupts(step.data)}
        if isinstance(step, Leave | Drop) and step.conn not in gone:
            gone.add(step.conn)
            yield from (
                s for s in steps[number:] if isinstance(s, Expect) and _key(s) in interrupted and s.conn == step.conn
            )
        if not (isinstance(step, Expect) and step.conn in gone):
            yield step


def _interrupts(data: str | bytes) -> Iterator[str]:
    frame = _parsed(data)
    if isinstance(frame, dict) and frame.get("_tag") == "Interrupt" and "requestId" in frame:
        yield key_of(frame["requestId"])


def _key(step: Expect) -> tuple[int, str]:
    """Connection and request that a frame belongs to."""
    return step.conn, key_of(step.frame.get("requestId", ""))


def _parsed(data: str | bytes) -> Any:
    """A frame of the client; None where it is not JSON. Batches are left unread."""
    try:
        return loads(data if isinstance(data, str) else data.decode(), "batch")
    except ValueError:
        return None


def recorded_identities(steps: list[Step]) -> dict[str, str]:
    """Every server identity in the recording and the store (of the URL, still encoded) that it belongs to."""
    found: dict[str, str] = {}
    paths: dict[int, str] = {}
    for step in steps:
        match step:
            case Open():
                paths[step.conn] = step.path
            case Expect():
                _collect_identities(step.frame, store_in_url(paths[step.conn]), found)
            case Exchange():
                for frame in step.frames or ():
                    _collect_identities(frame, store_in_url(step.path), found)
    return found


def _collect_identities(frame: Frame, store: str, found: dict[str, str]) -> None:
    for value in frame.get("values", ()):
        found[value["backendId"]] = store
    cause = frame.get("exit", {}).get("cause", {})
    for leaf in cause if isinstance(cause, list) else [cause]:
        if leaf.get("error", {}).get("_tag") == "BackendIdMismatchError":
            found[leaf["error"]["expected"]] = store


def settle_deviations(steps: list[Step]) -> tuple[list[Step], frozenset[str]]:
    """The script without the deviations of :data:`DEVIATIONS`, and which of them it had."""
    found: set[str] = set()
    settled: list[Step] = []
    finite: set[tuple[int, str]] = set()
    ended: set[tuple[int, str]] = set()
    for step in steps:
        if isinstance(step, Send):
            finite |= {(step.conn, request) for request in _finite_pulls(step.data)}
        if isinstance(step, Expect):
            key = _key(step)
            tag = step.frame["_tag"]
            if tag == "Chunk" and key in ended:
                found.add("late-chunk")
                continue
            frame, had_no_args = _with_args(step.frame)
            if had_no_args:
                found.add("args-null")
            settled.append(replace(step, frame=frame))
            if tag == "Exit":
                ended.add(key)
            elif (
                tag == "Chunk"
                and key in finite
                and _is_last(frame)
                and not any(_is_exit_of(later, key) for later in steps)
            ):
                exit_ = {"_tag": "Exit", "requestId": frame["requestId"], "exit": {"_tag": "Success", "value": None}}
                settled.append(Expect(step.conn, exit_))
                ended.add(key)
                found.add("held-exit")
            continue
        settled.append(step)
    return settled, frozenset(found)


def _is_exit_of(step: Step, key: tuple[int, str]) -> bool:
    return (
        isinstance(step, Expect)
        and step.frame["_tag"] == "Exit"
        and (step.conn, key_of(step.frame["requestId"])) == key
    )


def _finite_pulls(data: str | bytes) -> Iterator[str]:
    parsed = _parsed(data)
    for frame in parsed if isinstance(parsed, list) else [parsed]:
        if isinstance(frame, dict) and frame.get("tag") == "SyncWsRpc.Pull" and "id" in frame:
            payload = frame.get("payload")
            if isinstance(payload, dict) and payload.get("live") is False:
                yield key_of(frame["id"])


def _is_last(frame: Frame) -> bool:
    return bool(frame["values"][-1]["pageInfo"]["_tag"] == "NoMore")


def _with_args(frame: Frame) -> tuple[Frame, bool]:
    """The frame with `"args":null` in events that had none, and whether there were any."""
    if "batch" in frame:
        batch = [_item_with_args(item) for item in frame["batch"]]
        return {**frame, "batch": batch}, batch != frame["batch"]
    if "values" in frame:
        values = [{**value, "batch": [_item_with_args(item) for item in value["batch"]]} for value in frame["values"]]
        return {**frame, "values": values}, values != frame["values"]
    return frame, False


def _item_with_args(item: Frame) -> Frame:
    fields = loads(item["eventEncoded"].text, "args")
    return item if "args" in fields else {**item, "eventEncoded": RawText(dumps({**fields, "args": None}))}
