"""The ring behind the plots, and what differs between two events: without a server, on a clock of the test's own."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from livesync_trio.admin.process import COLUMNS
from livesync_trio.console.formats import ROWS_MAX, Difference, counted, differences
from livesync_trio.console.recorder import ROWS, Recorder, quantile_ms
from livesync_trio.telemetry import Counters


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        self.now_s += 0.5  # it is asked once for each row
        return self.now_s


def recorder(**view: Any) -> tuple[Recorder, Any]:
    health = (True, {"status": "ok", "connections": 0, "stores_active": 0})
    server = SimpleNamespace(
        **{
            "counters": Counters(),
            "peers": [],
            "health": lambda: health,
            "started_s": 0.0,
            "tails": {},
            "ending": False,
        }
        | view
    )
    return Recorder(server, None, Clock()), server  # type: ignore[arg-type] # what it asks of the server


def row(of: Recorder) -> dict[str, float | None]:
    return dict(zip(COLUMNS, of.rows[-1], strict=True))


async def test_a_row_is_what_happened_since_the_one_before() -> None:
    ring, server = recorder(peers=[SimpleNamespace(generation=each) for each in ("0.4", "0.4", "0.3", None)])
    server.counters.pushes_accepted = 3
    server.counters.events_accepted = 30
    server.counters.refusals["too-fast"] = 2
    server.counters.commit_seconds.observe(0.002)
    ring.record()
    first = row(ring)
    assert (first["pushes"], first["events"], first["refusals"]) == (6, 60, 4)  # in half a second
    assert (first["connections04"], first["connections03"], first["connectionsOther"]) == (2, 1, 1)
    assert first["commitP99Ms"] == pytest.approx(2.5, abs=0.1)
    ring.record()
    assert (row(ring)["pushes"], row(ring)["refusals"], row(ring)["commitP50Ms"]) == (0, 0, None)
    assert ring.kept(0).refusals == Counter({"too-fast": 2})
    assert len(ring.kept(first["at"] or 0).rows) == 1


async def test_the_ring_is_bounded() -> None:
    ring, _ = recorder()
    for _ in range(ROWS + 5):
        ring.record()
    assert len(ring.kept(0).rows) == ROWS


async def test_nothing_is_encoded_while_nobody_listens_and_once_for_all_who_do(monkeypatch: Any) -> None:
    ring, server = recorder()
    encoded: list[object] = []
    encode = msgspec.json.encode

    def encode_and_note(told: object) -> bytes:
        encoded.append(told)
        return encode(told)

    monkeypatch.setattr(msgspec.json, "encode", encode_and_note)
    ring.record()
    assert encoded == []
    streams = [ring.follow() for _ in range(3)]
    for stream in streams:
        await anext(stream)
    encoded.clear()
    got: list[bytes] = []

    async def listen(stream: Any) -> None:
        got.append(await anext(stream))

    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(listen, stream)
        await trio.testing.wait_all_tasks_blocked()
        ring.record()
    assert len(encoded) == 1
    assert got == [got[0]] * 3
    assert msgspec.json.decode(got[0].removeprefix(b"data: "))["row"] == list(ring.rows[-1])
    for tail in tuple(server.tails):
        tail.end_soon()
    for stream in streams:
        assert b"event: end" in await anext(stream)
        await stream.aclose()
    assert server.tails == {}


@pytest.mark.parametrize(
    ("counts", "wanted", "found"),
    [([0, 0, 0, 0], 0.5, None), ([4, 0, 0, 0], 0.5, 0.5), ([0, 2, 0, 0], 1.0, 2.0), ([0, 0, 0, 7], 0.5, 4.0)],
)
def test_quantiles_lie_within_their_bucket(counts: list[int], wanted: float, found: float | None) -> None:
    assert quantile_ms((0.001, 0.002, 0.004), counts, wanted) == found


def test_one_is_said_otherwise_than_many() -> None:
    assert counted(1, "store", "is fenced", "are fenced") == "1 store is fenced"
    assert counted(0, "client", "is", "are") == "0 clients are"
    assert counted(2_000, "event") == "2\u202f000 events"


def test_members_that_differ_are_told_with_their_path() -> None:
    before = {"same": 1, "text": "a", "list": [1, 2], "gone": None, "kind": 1}
    after = {"same": 1, "text": "b", "list": [1, 3, {}], "kind": True, "new": {}}
    assert differences(before, after)[0] == [
        Difference("text", '"a"', '"b"'),
        Difference("list[1]", "2", "3"),
        Difference("list[2]", None, "{}"),
        Difference("gone", "null", None),
        Difference("kind", "1", "true"),
        Difference("new", None, "{}"),
    ]
    assert differences([1] * ROWS_MAX, [2] * ROWS_MAX)[1] is False
    assert differences([1] * (ROWS_MAX + 1), [2] * (ROWS_MAX + 1))[1] is True
