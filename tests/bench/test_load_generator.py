"""The load generator's own parts: what it sends is what clients send, what it counts is what came."""

import json
import socket
from pathlib import Path

import msgspec
import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from scripts.benchmark import wire
from scripts.benchmark.clients import Follower
from scripts.benchmark.http_client import whole_body
from scripts.benchmark.measuring import Figures, percentile_ms
from scripts.benchmark.scenarios import SCENARIOS
from scripts.benchmark.session import Result
from scripts.benchmark.sockets import Address, BenchError, WebSocket


def _payload_of(data: bytes) -> bytes:
    """What a server makes of a frame: unmasked, and nothing left over."""
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    parsing = Frame.parse(reader.read_exact, mask=True, max_size=2**24)
    while True:
        try:
            next(parsing)
        except StopIteration as end:
            assert len(reader.buffer) == 0
            return bytes(end.value.data)


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_frames_are_what_a_server_unmasks(size: int) -> None:
    payload = b"x" * size
    assert _payload_of(wire.frame(payload)) == payload


@pytest.mark.parametrize("batch", [1, 100])
def test_a_push_continues_the_head_and_carries_args_of_the_size_promised(batch: int) -> None:
    request = json.loads(wire.PushTemplate("s", batch).request(7, 41))
    assert (request["id"], request["tag"], request["payload"]["storeId"]) == ("7", "SyncWsRpc.Push", "s")
    events = request["payload"]["batch"]
    assert [(event["parentSeqNum"], event["seqNum"]) for event in events] == [
        (number, number + 1) for number in range(41, 41 + batch)
    ]
    assert all(len(msgspec.json.encode(event["args"])) == wire.ARGS_BYTES for event in events)


def test_a_pull_has_its_cursor() -> None:
    payload = json.loads(wire.pull("s", live=True, cursor=("b", 12)))["payload"]
    assert payload["cursor"] == {"_tag": "Some", "value": {"backendId": "b", "eventSequenceNumber": 12}}
    assert payload["live"] is True


class _Recorded(WebSocket):
    __slots__ = ("messages",)

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.messages: list[bytes] = []

    def message(self, data: bytes, start: int, end: int) -> None:
        self.messages.append(data[start:end])


@pytest.mark.parametrize("piece", [1, 3, 1000, 100_000])
def test_frames_are_found_however_they_are_cut(piece: int) -> None:
    wanted = [b"a" * 5, b"", b"b" * 200, b"c" * 70_000]
    stream = b"".join(Frame(Opcode.TEXT, message).serialize(mask=False) for message in wanted)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = _Recorded(ours)
        for start in range(0, len(stream), piece):
            client.received(stream[start : start + piece])
        client.received(Frame(Opcode.PING, b"there?").serialize(mask=False))
        assert client.messages == wanted
        assert theirs.recv(100) == wire.pong_frame(b"there?")
        with pytest.raises(BenchError, match="closed"):
            client.received(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=False))


class _Upgraded(Address):
    """An address where the handshake is over already."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__("nowhere", 0)
        self._sock = sock

    def open_websocket(self, store_id: str) -> socket.socket:
        return self._sock


@pytest.mark.parametrize("piece", [1, 13, 14, 15, 1000])
def test_a_follower_counts_every_event_once_however_it_is_cut(piece: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        follower = Follower(_Upgraded(ours), "s")
        assert b"SyncWsRpc.Pull" in theirs.recv(4096)
        stream = (b"x" * 20 + wire.EVENT_MARK) * 5
        for start in range(0, len(stream), piece):
            theirs.sendall(stream[start : start + piece])
            follower.readable()
        assert follower.events == 5
        assert _payload_of(theirs.recv(len(wire.frame(wire.ack(0))))) == b'{"_tag":"Ack","requestId":"0"}'


def test_http_answers_are_whole_with_a_length_or_with_their_last_chunk() -> None:
    assert whole_body(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab") is None
    assert whole_body(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc") == b"abc"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc"
    assert whole_body(chunked) is None
    assert whole_body(chunked + b"\r\n0\r\n\r\n") is not None


def test_percentiles() -> None:
    assert percentile_ms([], 0.5) is None
    thousand = [number / 1000 for number in range(1, 1001)]
    assert (percentile_ms(thousand, 0.5), percentile_ms(thousand, 0.99), percentile_ms(thousand, 1.0)) == (
        500,
        990,
        1000,
    )


def _figures(rate: float) -> Figures:
    return Figures("events", rate, 1.0, 2.0, 3.0, 0.1, 1000)


def test_a_ratio_is_the_median_over_rounds_that_both_survived() -> None:
    scenario = SCENARIOS["push1"]
    mine = Result(scenario, "ours", [_figures(100), _figures(300), None, _figures(500)])
    other = Result(scenario, "node", [_figures(100), _figures(100), _figures(1), _figures(100)])
    assert mine.ratio(other) == 3
    median = mine.median()
    assert median is not None
    assert median.rate == 300


def test_every_scenario_of_the_issue_is_there() -> None:
    assert list(SCENARIOS) == [
        "push1",
        "push100",
        "stores50",
        "stores50x1",
        "fanout200",
        "coldpull",
        "contend8",
        "http",
        "idle",
        "mixed",
        "append1",
        "append100",
        "stream200",
    ]


def test_npm_packages_have_exact_versions_and_no_lock_file() -> None:
    peers = Path(__file__).resolve().parents[2] / "scripts" / "benchmark" / "peers"
    for directory in (peers / "node", peers / "reference"):
        packages = json.loads((directory / "package.json").read_text())["dependencies"]
        assert all(version[0].isdigit() for version in packages.values())
        assert not (directory / "package-lock.json").exists()
